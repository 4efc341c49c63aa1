"""Sizes as engines print them: every unit is a power of 1024, whatever it is called."""

import re
from decimal import Decimal

# PyTorch's c10/core/CachingDeviceAllocator.h (format_size), MPSAllocator.mm (format_size: "GB" to
# 2.5), vllm/utils/mem_utils.py, the kernel's mm/oom_kill.c (K() of pages): powers of 1024.
POWERS = {"B": 0, "BYTES": 0, "K": 1, "M": 2, "G": 3, "T": 4}
NUMBER = r"\d{1,20}(?:[.,]\d{1,20})?"
SIZE = rf"({NUMBER}(?:[KMGT]i?B|kB|bytes|B))"
MOST = 1 << 63  # 17179869184.00 GiB is 2**64 bytes: no limit was set
_SIZE = re.compile(rf"({NUMBER})\s?([A-Za-z]{{1,5}})")


def read_size(text: str) -> int | None:
    """Bytes of "20.00 MiB", "1900,00 MiB", "0 bytes"; None where the figure means "no limit"."""
    found = _SIZE.fullmatch(text)
    assert found is not None, text
    nbytes = round(_number(found[1]) * 1024 ** _power(found[2]))
    return nbytes if nbytes < MOST else None


def _number(text: str) -> Decimal:
    return Decimal(text.replace(",", "."))


def _power(unit: str) -> int:
    return POWERS.get(unit.upper(), POWERS.get(unit[0].upper(), 0))

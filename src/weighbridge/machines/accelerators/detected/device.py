"""Records of one device, and of the output of one program."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from weighbridge.base.records import field, frozen_record
from weighbridge.base.units import MIB
from weighbridge.base.wording import clipped, printable

DeviceApi = Literal["cuda", "rocm", "mps", "xpu", "npu", "hpu", "tpu", "other"]
LONGEST = 120  # longest device name, in characters
MOST = 256  # most devices in one output
LARGEST = 1 << 46  # bytes: 64 TiB; larger figures are not sizes
SMALLEST = 1 << 30  # bytes, assumed: graphics with less memory of their own share the CPU's


@frozen_record
class DetectedDevice:
    """One device. Bytes are None if not reported; `why` says why the total is not."""

    name: str
    kind: DeviceApi
    source: str  # the program that reported it
    index: int = 0
    total: int | None = None
    reserved: int | None = None  # by the driver for itself
    used: int | None = None
    free: int | None = None
    limit: int | None = None  # what the GPU may use of memory that it shares
    uuid: str = field(default="", repr=False)  # never printed whole
    mig: str = ""  # the profile of a slice: 1g.10gb; "?" if not reported
    memory: str = ""  # slices with the same id share one memory
    unified: bool = False  # it uses the host's memory
    integrated: bool = False  # graphics of the CPU, with next to no own memory
    capability: str | None = None
    why: str = ""
    raw: Mapping[str, str] = field(default_factory=dict)  # its values as printed

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, without the uuid, which identifies the machine."""
        return {
            "name": self.name,
            "kind": self.kind,
            "index": self.index,
            "source": self.source,
            "total_bytes": self.total,
            "reserved_bytes": self.reserved,
            "used_bytes": self.used,
            "free_bytes": self.free,
            "limit_bytes": self.limit,
            "mig": self.mig or None,
            "unified": self.unified,
            "integrated": self.integrated,
            "compute_capability": self.capability,
            "why_unknown": self.why or None,
            "raw": dict(self.raw),
        }


@frozen_record
class ToolOutput:
    """The devices in a program's output, or the reason why there are none."""

    source: str
    devices: tuple[DetectedDevice, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    notes: tuple[str, ...] = ()
    ram: int | None = None  # bytes of the machine
    limit: int | None = None  # bytes of it that its GPU may use


def named(text: object) -> str:
    """Return a device name from a program's output as one short line, without control characters
    and without ids that identify the machine."""
    words = printable(" ".join(str(text).split()))
    return clipped(hidden(words), LONGEST)


def hidden(text: str) -> str:
    """Return `text` with its ids shortened to their first characters."""
    return re.sub(
        r"\b((?:MIG-)?(?:GPU-)?[0-9a-fA-F]{4})[0-9a-fA-F]{4}(?:-[0-9a-fA-F]{4}){3}-\w+",
        r"\1...",
        text,
    )


def size(text: object, unit: int = MIB) -> int | None:
    """Return the bytes of "81559 MiB", "24.5GiB" or a bare number of `unit`; None if it is no size.

    Programs that print MB count in MiB: an MI300X of 192 GiB shows 196300 MB.
    """
    match = re.fullmatch(r"\s*(\d{1,20})(?:\.(\d{1,6}))?\s*([KMGT]?)i?B?\s*", str(text)[:40], re.I)
    if not match:
        return None
    whole, part, letter = match.groups()
    scale = {"": unit, "K": 1 << 10, "M": MIB, "G": 1 << 30, "T": 1 << 40}[letter.upper()]
    nbytes = int(whole) * scale + int(part or 0) * scale // 10 ** len(part or "")
    return nbytes if nbytes <= LARGEST else None


def exact(text: object) -> int | None:
    """Return a text's number of bytes, None if it has none."""
    return size(text, 1)

"""Facts of NVIDIA chips that decide the memory of kernels, other than the part's memory.

By part, in parts.jsonl:

    multiprocessors   enabled in the part: flash attention and reductions split work over them
    l2_mib            MiB of L2, which the benchmark of a compiled kernel overwrites

By compute capability, in CAPABILITIES:

    threads           resident threads per multiprocessor
    shared_memory     bytes that one block of threads can opt in to
    hbm               whether the parts have stacked memory
    links             how cards in one machine are connected: "switch" (NVLink through switches, as
                      on SXM boards), "bridge" (NVLink on some boards, none on others), ""

Sources: the vendor's architecture papers and boards' product pages (multiprocessors are CUDA cores
/ 128 from Ampere's GA102 on), unless a record of parts.jsonl has `chip_source`; CUDA C++
programming guide, table "Technical Specifications per Compute Capability".
"""

from collections.abc import Mapping
from typing import Literal, cast

from weighbridge.base.records import dataclass, frozen_record
from weighbridge.base.units import KIB

Version = tuple[int, int]  # compute capability
Links = Literal["switch", "bridge", ""]


@frozen_record
class Capability:
    """Facts shared by all chips of one compute capability; `shared_memory` is in bytes."""

    threads: int
    shared_memory: int
    hbm: bool = False
    links: Links = ""


# Compute capability, threads per multiprocessor, KiB of shared memory, links between cards
_CAPABILITIES = """
3.7 2048 48
5.2 2048 48
5.3 2048 48
6.0 2048 48 hbm bridge
6.1 2048 48
7.0 2048 96 hbm bridge
7.2 2048 96
7.5 1024 64
8.0 2048 163 hbm bridge
8.6 1536 99
8.7 1536 163
8.9 1536 99
9.0 2048 227 hbm switch
10.0 2048 227 hbm switch
10.3 2048 227 hbm switch
11.0 2048 227
12.0 1536 99
12.1 1536 99
"""


def _capability(row: str) -> tuple[Version, Capability]:
    number, threads, shared, *more = row.split()
    major, minor = map(int, number.split("."))
    links = cast(Links, more[-1] if more else "")
    facts = Capability(
        threads=int(threads), shared_memory=int(shared) * KIB, hbm="hbm" in more, links=links
    )
    return (major, minor), facts


CAPABILITIES: Mapping[Version, Capability] = dict(map(_capability, _CAPABILITIES.split("\n")[1:-1]))
BFLOAT16_SINCE: Version = (8, 0)  # matrix products in bfloat16
FLOAT8_SINCE: Version = (8, 9)  # in float8: torch aten/src/ATen/native/cuda/ScaledBlas.cpp
# Recipes of float8: Transformer Engine d0067d0 pytorch/quantization.py (check_fp8_support, ...)
BLOCKWISE_SINCE: Version = (9, 0)
MXFP8_SINCE: Version = (10, 0)
# Float8 products that take operands in any layout, not only row-major ones: pytorch/utils.py
# (is_non_tn_fp8_gemm_supported)
FLOAT8_AS_IT_LIES = frozenset(v for v in CAPABILITIES if (10, 0) <= v < (12, 0))
MXFP4_SINCE: Version = (7, 5)  # Triton's kernels: transformers quantizers/quantizer_mxfp4.py
# Orin, Thor and Spark: servers take the system's available memory as free memory (vllm
# utils/mem_utils.py, shared_sysmem_device_mem_sms; sglang srt/utils/common.py)
OF_THE_SYSTEM = frozenset(((8, 7), (11, 0), (12, 1)))
SWITCHED = frozenset(v for v, c in CAPABILITIES.items() if c.links == "switch")
BRIDGED = frozenset(v for v, c in CAPABILITIES.items() if c.links == "bridge")
LINKED = SWITCHED | BRIDGED


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip: its compute capability, multiprocessors, and L2 cache in MiB (None: unknown)."""

    capability: Version
    multiprocessors: int
    cache: int | None = None

    @property
    def threads(self) -> int:
        """Return the resident threads per multiprocessor."""
        return CAPABILITIES[self.capability].threads

    @property
    def shared_memory(self) -> int:
        """Return the bytes of shared memory that one block of threads can opt in to."""
        return CAPABILITIES[self.capability].shared_memory

    @property
    def hbm(self) -> bool:
        """Return whether the chip has stacked memory."""
        return CAPABILITIES[self.capability].hbm

    @property
    def links(self) -> Links:
        """Return how cards of this chip in one machine are connected."""
        return CAPABILITIES[self.capability].links

    @property
    def resident(self) -> int:
        """Return the resident threads of the whole chip; each has a stack in device memory."""
        return self.multiprocessors * self.threads


ASSUMED = Chip((8, 0), 108, 40)  # an A100's, if the user names no part

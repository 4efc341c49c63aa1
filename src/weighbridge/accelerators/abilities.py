"""Number types that an accelerator multiplies in its own units, by its architecture.

    NVIDIA   compute capability; CUDA C++ programming guide, "Arithmetic Instructions" and "Compute
             Capabilities" (bfloat16 from 8.0, fp8 from 8.9, fp4 from 10.0, int8 in dot products
             from 6.1 but for 6.2)
    AMD      gfx name; rocm.docs.amd.com/en/latest/reference/precision-support.html
    Apple    bfloat16 from the M2 on; Metal shading language specification 3.1, Metal feature set
             tables
    Intel    XMX of Arc and of the Max series; Gaudi: Intel's white papers of each
    Google   cloud.google.com/tpu/docs/system-architecture-tpu-vm

None is "not known": of makers and parts for which no page was read.
"""

from collections.abc import Mapping

from weighbridge.accelerators.chips import BFLOAT16_SINCE, FLOAT8_SINCE, Version
from weighbridge.accelerators.parts import Part

TYPES = ("bf16", "fp8", "fp4", "int8")
FLOAT4_SINCE: Version = (10, 0)
INT8_SINCE: Version = (6, 1)
Known = Mapping[str, bool | None]

UNKNOWN: Known = dict.fromkeys(TYPES)
AMD: Mapping[str, frozenset[str]] = {
    "gfx908": frozenset(("bf16", "int8")),
    "gfx90a": frozenset(("bf16", "int8")),
    "gfx942": frozenset(("bf16", "int8", "fp8")),
    "gfx950": frozenset(("bf16", "int8", "fp8", "fp4")),
    "gfx1030": frozenset(("int8",)),
    "gfx1100": frozenset(("bf16", "int8")),
    "gfx1151": frozenset(("bf16", "int8")),
    "gfx1201": frozenset(("bf16", "int8", "fp8")),
}
NAMED: Mapping[str, frozenset[str]] = {  # by what a name begins with
    "Apple M1": frozenset(),
    "Apple M": frozenset(("bf16",)),
    "Arc": frozenset(("bf16", "int8")),
    "Data Center GPU Max": frozenset(("bf16", "int8")),
    "Gaudi (": frozenset(("bf16",)),
    "Gaudi": frozenset(("bf16", "fp8")),
    "TPU v2": frozenset(("bf16",)),
    "TPU v3": frozenset(("bf16",)),
    "TPU v4": frozenset(("bf16", "int8")),
    "TPU v5": frozenset(("bf16", "int8")),
    "TPU v6": frozenset(("bf16", "int8")),
    "TPU v7": frozenset(("bf16", "int8", "fp8")),
}


def abilities(part: Part) -> Known:
    """Map each number type of TYPES to whether `part` computes in it; None where that is
    unknown."""
    if part.vendor == "NVIDIA":
        return _nvidia(part.capability)
    types = AMD.get(part.compute_capability or "") if part.vendor == "AMD" else _named(part)
    return UNKNOWN if types is None else {name: name in types for name in TYPES}


def _nvidia(version: Version | None) -> Known:
    if version is None:
        return UNKNOWN
    return {
        "bf16": version >= BFLOAT16_SINCE,
        "fp8": version >= FLOAT8_SINCE,
        "fp4": version >= FLOAT4_SINCE,
        "int8": version >= INT8_SINCE and version != (6, 2),
    }


def _named(part: Part) -> frozenset[str] | None:
    return next((types for start, types in NAMED.items() if part.name.startswith(start)), None)

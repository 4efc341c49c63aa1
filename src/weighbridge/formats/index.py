"""Which file holds which tensor? `*.safetensors.index.json` and `pytorch_model.bin.index.json`.

    {"metadata": {"total_size": 16060522496}, "weight_map": {"lm_head.weight": "model-1.bin", ...}}

The metadata is a hint at best: published ones hold 0, a float, or nothing (mergekit).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import BadFileError
from weighbridge.formats import Plan, whole
from weighbridge.formats.strict_json import short, strict_object

MAX_INDEX = 64_000_000  # 90,000 tensors (DeepSeek-V3) make 9 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """`files` in order of first mention; sizes are None where the metadata has no usable one."""

    weight_map: Mapping[str, str]
    files: tuple[str, ...]
    total_size: int | None
    total_parameters: int | None

    def names(self, file: str) -> tuple[str, ...]:
        """The tensors of one file."""
        return tuple(name for name, home in self.weight_map.items() if home == file)


def index() -> Plan[Index]:
    return whole(parse_index, MAX_INDEX)


def parse_index(data: bytes) -> Index:
    found = strict_object(data, MAX_INDEX)
    weight_map = found.get("weight_map")
    if not isinstance(weight_map, dict):
        raise BadFileError(f"weight_map: an object was expected, not {short(weight_map)}")
    files = tuple(_unique(weight_map))
    for file in files:
        safe_path(file, "weight_map")
    metadata = found.get("metadata")
    hints = metadata if isinstance(metadata, dict) else {}
    return Index(
        weight_map=weight_map,
        files=files,
        total_size=_hint(hints.get("total_size")),
        total_parameters=_hint(hints.get("total_parameters")),
    )


def _unique(weight_map: Mapping[str, Any]) -> Iterable[str]:
    if set(map(type, weight_map.values())) <= {str}:
        return dict.fromkeys(weight_map.values())
    for name, file in weight_map.items():
        if not isinstance(file, str):
            raise BadFileError(f"weight_map: {short(name)} is in {short(file)}, which is no file")
    return dict.fromkeys(weight_map.values())


def _hint(found: Any) -> int | None:
    """A size that can be one: 0 and negative ones are not, and a float must be whole."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < 1 << 63:
        return None
    return int(found) if found == int(found) else None


def safe_path(path: str, where: str) -> str:
    """A path that stays inside the model's folder, on any system; else an error."""
    parts = path.split("/")
    inside = path and "\0" not in path and "\\" not in path and not re.match("[A-Za-z]:", path)
    if not inside or any(part in ("", ".", "..") for part in parts):
        raise BadFileError(f"{where}: {short(path)} is not a path inside the model's folder")
    return path

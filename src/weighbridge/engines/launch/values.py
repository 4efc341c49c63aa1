"""The values of flags: text in, what the engine makes of it out. ValueError where it is none."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from weighbridge.engines.launch.record import Value

# vllm/utils/argparse_utils.py: human_readable_int; sglang/srt/utils/common.py has the same.
SCALES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def whole(text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text):
        raise ValueError
    return int(text)


def count(text: str) -> int:
    """8192, 8k (8,000), 8K (8,192), 25.6k."""
    found = re.fullmatch(r"(-?\d{1,18}(?:\.\d{1,18})?)([kKmMgGtT]?)", text.strip())
    if not found:
        raise ValueError
    number, suffix = found.groups()
    scale = (SCALES | BINARY)[suffix]
    if "." not in number:
        return int(number) * scale
    if not suffix or suffix in BINARY:  # the engines refuse these too
        raise ValueError
    return int(float(number) * scale)


def number(text: str) -> float:
    if not re.fullmatch(r"\s*[+-]?(\d{1,18}\.?\d{0,18}|\.\d{1,18})(e[+-]?\d\d?)?\s*", text.lower()):
        raise ValueError
    return float(text)


def word(text: str) -> str:
    if not text or "$" in text:  # a variable that we do not read
        raise ValueError
    return text


def dtype(text: str) -> str:
    """Names of vLLM and SGLang (config/model.py ModelDType; fields/model.py)."""
    found = {"half": "float16", "float": "float32"}.get(text.lower(), text.lower())
    if found not in ("float16", "bfloat16", "float32"):
        raise ValueError
    return found


def more_than_one(text: str) -> bool:
    return whole(text) > 1


READERS: Mapping[str, tuple[Callable[[str], Value], str]] = {
    "whole": (whole, "a whole number"),
    "count": (count, "a whole number such as 32768, 32k (32,000) or 32K (32,768)"),
    "bytes": (count, "a number of bytes such as 20G (20 GiB), 20g (20 GB) or 21474836480"),
    "number": (number, "a number"),
    "word": (word, "a name"),
    "dtype": (dtype, "one of auto, half, float16, bfloat16, float, float32"),
    "many": (more_than_one, "a whole number"),
}


def as_object(value: object) -> dict[str, Any]:
    """Parse '{"a": 1}'. A mapping, which dotted flags make, is returned as it is."""
    if isinstance(value, dict):
        return value
    try:
        found = json.loads(str(value))
    except RecursionError:
        raise ValueError from None
    if not isinstance(found, dict):
        raise ValueError
    return found


def loose(text: str) -> Any:
    """The value of a dotted key: JSON, else 80g, else itself."""
    for read in (json.loads, count):
        try:
            return read(text)
        except (ValueError, RecursionError):
            continue
    return text


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(old)
    for key, value in new.items():
        both = isinstance(out.get(key), Mapping) and isinstance(value, Mapping)
        out[key] = merged(out[key], value) if both else value
    return out

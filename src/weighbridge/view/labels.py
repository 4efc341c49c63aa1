"""What tells one of several answers from the others: the head of its column."""

from collections.abc import Mapping, Sequence
from typing import Any

# Settings whose values say by themselves what they are
SPEAKING = ("gpu", "gpu_memory", "quantization", "dtype", "engine", "kv_cache_dtype", "optimizer")


def label(model: str | None, chosen: Mapping[str, Any]) -> str:
    """A model, where it differs, and each setting that does."""
    told = [str(v) if n in SPEAKING else f"{_words(n)} {v}" for n, v in chosen.items()]
    return " ".join([*([model] if model else []), *told])


def _words(name: str) -> str:
    return name.replace("_", "-")


def labels(models: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """One for each answer, from what differs between them; numbers where nothing does."""
    names = dict.fromkeys(name for one in settings for name in one)
    apart = [n for n in names if len({repr(one.get(n)) for one in settings}) > 1]
    several = len(set(models)) > 1
    found = [
        label(model if several else None, {n: one[n] for n in apart if one.get(n) is not None})
        for model, one in zip(models, settings, strict=True)
    ]
    seen: dict[str, int] = {}
    for told in found:
        seen[told] = seen.get(told, 0) + 1
    return [
        told if told and seen[told] == 1 else f"{told} ({at})".strip()
        for at, told in enumerate(found, 1)
    ]

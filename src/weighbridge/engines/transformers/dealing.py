"""Which device holds which layers: `device_map="auto"`.

    each may take    total / n + 5/4 of the largest block that is never split, or of the mean module
                     where that is more, or all that it has free; the last one what is left
    the first spares the largest module that is still to come, block or not

Modules are dealt out in the order of the class, each whole; tied weights go with their owner.
Source: accelerate 1.15 utils/modeling.py, `get_balanced_memory` and `infer_auto_device_map`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from weighbridge.components.weights import PlacedTensor, apart, together


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceShare:
    """What one device holds: tensors, and layers of the language model from `start` to `end`."""

    tensors: tuple[PlacedTensor, ...]
    start: int
    end: int


def deal(
    tensors: Sequence[PlacedTensor],
    blocks: Sequence[str],
    *,
    layers: int,
    devices: int,
    rooms: Sequence[int] = (),
) -> tuple[DeviceShare, ...]:
    """One share a device. `blocks` are patterns of modules that are never split; `rooms` what each
    device has free, where devices differ."""
    if devices == 1:
        return (DeviceShare(tensors=tuple(tensors), start=0, end=layers),)
    units = _units(tensors, blocks)
    sizes = {name: sum(t.nbytes * t.copies for t in held) for name, held in units.items()}
    most = sum(sizes.values()) // devices + 5 * _buffer(sizes, units, blocks) // 4
    spared = _to_come(list(sizes.values()))
    numbers = _numbers(units, layers)
    piles: list[list[str]] = [[] for _ in range(devices)]
    at, used = 0, 0
    for (name, nbytes), largest in zip(sizes.items(), spared, strict=True):
        limit = min(most, rooms[at]) if rooms else most
        limit -= largest if at == 0 else 0
        if used + nbytes > limit and at < devices - 1 and piles[at]:
            at, used = at + 1, 0
        piles[at].append(name)
        used += nbytes
    return tuple(_shares(piles, units, numbers))


def _buffer(
    sizes: Mapping[str, int], units: Mapping[str, list[PlacedTensor]], blocks: Sequence[str]
) -> int:
    """The largest block that is kept whole, or the mean of the modules that own tensors."""
    whole = [re.compile(_pattern(p)) for p in blocks]
    kept = (n for name, n in sizes.items() if any(p.fullmatch(name) for p in whole))
    leaves: dict[str, int] = {}
    for t in (t for held in units.values() for t in held):
        leaves[t.module] = leaves.get(t.module, 0) + t.nbytes * t.copies
    mean = sum(leaves.values()) // max(1, len(leaves))
    return max(mean, max(kept, default=0))


def _to_come(sizes: list[int]) -> list[int]:
    """The largest behind each."""
    found, largest = [], 0
    for nbytes in reversed(sizes):
        found.append(largest)
        largest = max(largest, nbytes)
    return found[::-1]


def _pattern(block: str) -> str:
    return block.replace(".", r"\.").replace("*", r"\d+")


def _units(tensors: Sequence[PlacedTensor], blocks: Iterable[str]) -> dict[str, list[PlacedTensor]]:
    """Tensors by the module that is kept whole, in order."""
    whole = [re.compile(_pattern(p) + r"(?=\.|$)") for p in blocks]
    units: dict[str, list[PlacedTensor]] = {}
    for _, group in together(tensors):
        kept = next((m[0] for m in (p.match(group[0].module) for p in whole) if m), "")
        for t in group if kept else apart(group):
            units.setdefault(kept or t.module, []).append(t)
    return units


def _numbers(units: Iterable[str], layers: int) -> dict[str, int]:
    """The layer of the language model that a module is: the last run of as many as it has."""
    runs: dict[str, list[str]] = {}
    for name in units:
        stem, _, last = name.rpartition(".")
        if last.isdecimal():
            runs.setdefault(stem, []).append(name)
    fitting = [names for names in runs.values() if len(names) == layers]
    return {name: i for i, name in enumerate(fitting[-1])} if fitting else {}


def _shares(
    piles: Sequence[Sequence[str]], units: dict[str, list[PlacedTensor]], numbers: dict[str, int]
) -> Iterable[DeviceShare]:
    start = 0
    for pile in piles:
        own = [numbers[name] for name in pile if name in numbers]
        end = max(own, default=start - 1) + 1
        held = tuple(t for name in pile for t in units[name])
        yield DeviceShare(tensors=held, start=start, end=max(start, end))
        start = max(start, end)

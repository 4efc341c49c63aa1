"""What torch says of the card that a fake GPU stands for.

name          as the driver prints it: an alias that begins so, else "NVIDIA ..."
memory        what a process can have of it: `accelerators`
processors    processors.jsonl, with sources
context       what a process has outside the allocator: components/device.py
the rest      by compute capability: CUDA C++ programming guide, table "Technical Specifications
              per Compute Capability"
"""

import json
import os
import re
from dataclasses import dataclass
from functools import cache

from weighbridge.accelerators.budget import budget
from weighbridge.accelerators.names import find
from weighbridge.accelerators.parts import Part
from weighbridge.components.device import context
from weighbridge.errors import UnsupportedError
from weighbridge.memory import Bytes
from weighbridge.units import KIB

PREFIXES = ("NVIDIA ", "Tesla ")  # drivers from 450 on say NVIDIA but for the oldest Teslas
UNSAID = re.compile(r" \d+GB\b.*| \(.*\)")

# Threads a multiprocessor holds; shared memory that one block can opt in to
BY_CAPABILITY: dict[tuple[int, int], tuple[int, int]] = {
    (3, 7): (2048, 48 * KIB),
    (5, 2): (2048, 48 * KIB),
    (5, 3): (2048, 48 * KIB),
    (6, 0): (2048, 48 * KIB),
    (6, 1): (2048, 48 * KIB),
    (7, 0): (2048, 96 * KIB),
    (7, 2): (2048, 96 * KIB),
    (7, 5): (1024, 64 * KIB),
    (8, 0): (2048, 163 * KIB),
    (8, 6): (1536, 99 * KIB),
    (8, 7): (1536, 163 * KIB),
    (8, 9): (1536, 99 * KIB),
    (9, 0): (2048, 227 * KIB),
    (10, 0): (2048, 227 * KIB),
    (10, 3): (2048, 227 * KIB),
    (11, 0): (2048, 227 * KIB),
    (12, 0): (1536, 99 * KIB),
    (12, 1): (1536, 99 * KIB),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One CUDA device."""

    id: str
    name: str
    capability: tuple[int, int]
    total_memory: int
    multiprocessors: int
    threads: int  # of one multiprocessor
    shared_memory: int  # of one block, opted in
    outside: Bytes  # what a process takes of the card outside the allocator

    @property
    def context(self) -> int:
        return self.outside.expected


def card(name: str, gpu_memory: str | None = None) -> tuple[Card, int]:
    """The card that `name` means, and how many of it. Raises UsageError."""
    chosen = budget(name, gpu_memory, None)
    assert chosen is not None
    part = chosen.choice.part
    capability = _capability(part)
    threads, shared = BY_CAPABILITY[capability]
    found = Card(
        id=part.id,
        name=_said(find(name).part),  # without the memory it was given
        capability=capability,
        total_memory=part.visible.bytes.expected,
        multiprocessors=_multiprocessors(part),
        threads=threads,
        shared_memory=shared,
        outside=context(part).bytes,
    )
    return found, chosen.choice.count


def _capability(part: Part) -> tuple[int, int]:
    if part.vendor != "NVIDIA" or part.compute_capability is None:
        raise UnsupportedError(
            f"{part.name} is no CUDA device; a fake GPU is one of `weighbridge gpus nvidia`, and "
            "gpu_memory= gives it another size"
        )
    major, _, minor = part.compute_capability.partition(".")
    return int(major), int(minor)


def _said(part: Part) -> str:
    for alias in (*part.aliases, part.name):
        if alias.startswith(PREFIXES):
            return alias
    return "NVIDIA " + UNSAID.sub("", part.name)


def _multiprocessors(part: Part) -> int:
    whole = part.id.partition("/")[0]
    if whole != part.id or whole not in _counts():
        raise UnsupportedError(f"how many multiprocessors {part.name} has is not in our table")
    return _counts()[whole]


@cache
def _counts() -> dict[str, int]:
    path = os.path.join(os.path.dirname(__file__), "processors.jsonl")
    with open(path, encoding="utf-8") as lines:
        return {k: n for line in lines for k, n in json.loads(line)["multiprocessors"].items()}

"""One run, all cards: what was traced on one card, judged on every NVIDIA card of the catalogue, by
the size that it is sold with.

    yes        the high end of what it took, with that card's context in place of the traced one's
    no         even what was allocated, with that context, is more: a smaller card gives back what
               the allocator only keeps
    unknown    else, and where cards of one size differ

Kernels are those of the traced card: cards of another generation have OTHER percent more room at
both ends, and older ones than Turing, or than Ampere where the traced one is as new, are left out.
Torch-free.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from weighbridge.base.memory import Bytes
from weighbridge.base.records import NamedTuple
from weighbridge.machines.accelerators.budget import budget
from weighbridge.machines.accelerators.parts import Part, parts
from weighbridge.memory.components.device import context
from weighbridge.memory.report.verdict import Answer, fits

OTHER = 5  # percent, assumed: workspaces differ on other chips
TURING, AMPERE = (7, 5), (8, 0)


class CardClass(NamedTuple):
    """Cards sold with `gb` GB, and whether the program fits all of them. `traced`: the traced
    card's answer, if it is one of them."""

    gb: int
    fits: Answer
    traced: Answer | None = None


def classes(
    device: Any, traced: Any, verdict: Answer | None = None, *, whole: bool, at_most: bool
) -> tuple[CardClass, ...]:
    """Return verdicts on all cards from one card's trace (`device`), smallest first. `verdict` is
    that card's own. If the trace is not `whole`, no card is said to fit; if its sizes are
    `at_most`, upper bounds, none is said not to fit."""
    answers: dict[int, set[Answer]] = {}
    itself = parts()[traced.id].marketed_gb if verdict else 0
    for part in _comparable(traced):
        answer = fits(_needed(device, traced, part), _usable(part))
        unsure = (answer == "yes" and not whole) or (answer == "no" and at_most)
        answers.setdefault(part.marketed_gb, set()).add("unknown" if unsure else answer)
    return tuple(
        CardClass(
            gb, next(iter(of)) if len(of) == 1 else "unknown", verdict if gb == itself else None
        )
        for gb, of in sorted(answers.items())
    )


def _comparable(traced: Any) -> Iterator[Part]:
    oldest = AMPERE if traced.capability >= AMPERE else TURING
    for part in parts().values():
        plain = part.vendor == "NVIDIA" and part.kind == "gpu" and part.chip is not None
        if plain and part.chip is not None and part.chip.capability >= oldest:
            yield part


def _needed(device: Any, traced: Any, part: Part) -> Bytes:
    before, there, driver = traced.outside, context(part).bytes, device.driver
    other = OTHER * (part.chip is not None and part.chip.capability != traced.capability)
    least = min(device.allocated.allocated, driver.low - before.low)
    low = (least + there.low) * (100 - other) // 100
    high = (driver.high - before.high + there.high) * (100 + other) // 100
    expected = driver.expected - before.expected + there.expected
    return Bytes(low, min(max(low, expected), high), high)


def _usable(part: Part) -> Bytes:
    chosen = budget(part.id, None, None)
    assert chosen is not None
    return chosen.usable


class CardRange(NamedTuple):
    """Card sizes in GB: from `fits` on it fits (0: no card), `unknown` are open, up to `no` it does
    not fit (0: none). `apart` is a size of which only the traced card's answer is known."""

    fits: int
    unknown: tuple[int, ...]
    no: int
    apart: CardClass | None = None


def spans(judged: Sequence[CardClass]) -> CardRange:
    sure, never = 0, 0
    for one in reversed(judged):
        if one.fits != "yes":
            break
        sure = one.gb
    for one in judged:
        if one.fits != "no":
            break
        never = one.gb
    between = [one for one in judged if never < one.gb and (not sure or one.gb < sure)]
    apart = next((one for one in between if one.traced not in (None, "unknown")), None)
    unknown = tuple(one.gb for one in between if one is not apart)
    return CardRange(sure, unknown, never, apart)

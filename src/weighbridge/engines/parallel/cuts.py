"""How one side of a weight is cut into equal shares, and when an engine refuses to.

    split     units / ranks                       heads, widths; the engine refuses a remainder
    repeat    units / ranks, at least one         key-value heads, groups of Mamba 2
    pad       units up to a multiple of 64, / ranks               rows of the vocabulary

Where blocks of a matrix have one scale (FP8 in blocks of 128 x 128, GPTQ and AWQ in groups of
inputs), a share is whole blocks.

A side may be several parts one after the other: queries, then keys and values.

Source: vllm 0.33 model_executor/layers/linear.py (divide, QKVParallelLinear) and
vocab_parallel_embedding.py (DEFAULT_VOCAB_PADDING_SIZE); sglang 0.5.23 srt/layers, same files;
blocks: model_executor/layers/quantization/fp8.py and utils/fp8_utils.py of vllm 0.8.5 to 0.33,
srt/layers/quantization/fp8.py of sglang 0.4.6 to 0.5.23 ("is not divisible by weight quantization
block_n = 128", "block_k = 128"); groups: gptq.py, awq.py and marlin.py of the same ("The input size
is not aligned with the quantized weight shape").
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from weighbridge.errors import UsageError
from weighbridge.units import align_up

if TYPE_CHECKING:
    from fractions import Fraction

How = Literal["split", "repeat", "pad"]
Side = Literal["out", "in"]
VOCABULARY = 64  # rows to which the vocabulary is padded, on one device too
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)


class CutUnit(NamedTuple):
    """What cannot be cut in pieces: a `number` of heads, rows or columns; errors call it `what`."""

    number: int
    what: str
    how: How = "split"
    each: int = 1  # rows or columns of one
    block: int = 1  # rows or columns that have a scale in common


class CutPart(NamedTuple):
    """`size` rows or columns, which are made of units."""

    size: int
    unit: CutUnit


class Cut(NamedTuple):
    side: Side
    parts: tuple[CutPart, ...]


def even(side: Side, size: int, count: int, what: str, how: How = "split") -> Cut:
    """One part alone."""
    return Cut(side, (CutPart(size, CutUnit(count, what, how)),))


def fits(unit: CutUnit, ranks: int, *, grows: bool) -> bool:
    """`grows`: the engine pads the vocabulary further, to 64 a rank, where 64 does not do."""
    if ranks > 1 and unit.block > 1 and held(unit, ranks) * unit.each % unit.block:
        return False
    if unit.how == "pad":
        return grows or align_up(unit.number, VOCABULARY) % ranks == 0
    if unit.how == "repeat" and ranks > unit.number:
        return ranks % max(1, unit.number) == 0
    return unit.number % ranks == 0


def held(unit: CutUnit, ranks: int) -> "Fraction":
    """Units of one rank."""
    from fractions import Fraction  # here and below: one device does without

    if unit.how == "pad":
        padded = align_up(unit.number, VOCABULARY)
        if padded % ranks:
            padded = align_up(unit.number, VOCABULARY * ranks)
        return Fraction(padded, ranks)
    if unit.how == "repeat" and ranks > unit.number:
        return Fraction(1)
    return Fraction(unit.number, ranks)


def share(cut: Cut, ranks: int) -> "Fraction":
    """The part of that side which one rank has; above one where it is padded."""
    from fractions import Fraction

    whole = sum(p.size for p in cut.parts)
    mine = sum(Fraction(p.size, p.unit.number) * held(p.unit, ranks) for p in cut.parts if p.size)
    return Fraction(mine) / whole if whole else Fraction(1)


def in_blocks(cut: Cut, block: tuple[int, int]) -> Iterator[CutUnit]:
    """Yield what is cut, where so many rows and columns have a scale in common."""
    size, side = (block[0], "rows") if cut.side == "out" else (block[1], "columns")
    kind = "groups" if block[0] == 1 else "blocks"
    for p in cut.parts:
        if size > 1 and p.size and p.unit.how != "pad":
            what = f"{p.unit.what}, {side} in {kind} of {size} with one scale each,"
            each = p.size // p.unit.number
            yield p.unit._replace(what=what, each=each, block=size)


def check(
    units: Iterable[CutUnit], ranks: int, *, grows: bool, flag: str, instead: str = ""
) -> None:
    """Raises UsageError for the first unit that does not divide, with the sizes that work, and with
    what may be said `instead`."""
    kinds = set(units)
    bad = [u for u in kinds if not fits(u, ranks, grows=grows)]
    if not bad:
        return
    first = min(bad, key=lambda u: (u.how != "split", u.number, u.what))
    able = [str(n) for n in SIZES if all(fits(u, n, grows=grows) for u in kinds)]
    raise UsageError(
        f"{flag} {ranks}: {first.number:,} {first.what} cannot be split evenly; "
        f"sizes that work: {', '.join(able)}{instead}"
    )

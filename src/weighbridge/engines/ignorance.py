"""Gaps in what is known of an answer, by kind, and how far figures lay from such answers.

    format     of a name: no file was read, and other modules may be packed than such names usually
               mean. Weights of six checkpoints in NVFP4 of two models (Qwen3.8 27B, Qwen3.6 35B)
               were up to 1.295 times as large: their attention is in 8 or 16 bits, or in 4
    half       the same of formats of 8 bits, whose other modules are at most twice as large
    release    none that was read: the nearest law answers. Figures of vLLM 0.9 to 0.33, each asked
               of the law three minor releases earlier: activations 0.39 to 2.71 of it (30 figures),
               what is left for the cache 0.91 to 1.36 (42), weights 0.998 to 1.015 (43)
    pool, steps, loaded
               a flag or variable that changes what is kept of tokens, what a step takes, or what is
               loaded, in a way that no rule of ours has. Of 15 figures one in twenty had 0.31 of
               the cache that was said, and none more than 1.01

Shares of what is expected, below it and above. A kind that is no figure's is assumed.
"""

from collections.abc import Iterable, Iterator
from functools import cache

from weighbridge.base.memory import NO_DOUBT, Doubt
from weighbridge.base.parsed import lines_beside
from weighbridge.base.sentences import keys_of, sentence

GUESSED = "format_usual"  # the note of a model whose format is guessed
EIGHT = ("fp8", "w8", "int8", "gptq-8", "mlx-8", "bnb-int8", "mxfp8")


@cache
def shares(kind: str) -> tuple[Doubt, int]:
    """Return what is open of answers of a kind, and the figures that say so; 0 is assumed."""
    row = next(line for line in lines_beside(__file__, "ignorance.txt") if line.startswith(kind))
    numbers = [float(text) for text in row.split()[1:]]
    doubt = Doubt(*zip(numbers[:6:2], numbers[1:6:2], strict=True))
    return doubt, int(numbers[6])


def kinds(notes: Iterable[str], form: str, unmodelled: str, *, read: bool) -> Iterator[str]:
    """Yield the kinds of an answer: of a model with such `notes` and the name of its format, by a
    release that was `read`, or was not, and flags that no rule has."""
    if any(GUESSED in keys_of(note) for note in notes):
        yield "half" if form.startswith(EIGHT) else "format"
    if not read:
        yield "release"
    if unmodelled:
        yield from dict.fromkeys(_flags(unmodelled.split()))


def _flags(reasons: Iterable[str]) -> Iterator[str]:
    rows = (line.split() for line in lines_beside(__file__, "unmodelled.txt"))
    table = {word: kind for kind, *words in rows for word in words}
    yield from (table.get(reason, "pool") for reason in reasons if table.get(reason) != "host")


@cache
def doubt(kinds: tuple[str, ...]) -> Doubt:
    """Return what they leave open together."""
    whole = NO_DOUBT
    for kind in kinds:
        whole = whole.plus(shares(kind)[0])
    return whole


def sentences(kinds: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each kind."""
    for kind in dict.fromkeys(kinds):
        count = shares(kind)[1]
        yield sentence(f"unsure.{kind}", figures=count) if count else sentence(f"assumed.{kind}")

"""Forms of a class's program, folded into one text: a line that several have stands there once.

    forms 3
    @5 needs token_times=True
    @3 40 linear 12 at=attn.to_q to=head*heads bias=1 -12

has three forms, of which a line with a guard is in those whose bits it has; others are in all.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import count
from typing import NamedTuple

HEADS = "needs", "let"


class NetLine(NamedTuple):
    """A line by its parts; values by their names."""

    outs: tuple[str, ...]
    op: str
    ins: tuple[str, ...]
    words: tuple[str, ...]
    ends: tuple[str, ...]

    def like(self) -> object:
        """What two lines have alike that are to stand as one: all but the names of values."""
        words = tuple(w for w in self.words if not w.startswith("like="))
        return len(self.outs), self.op, len(self.ins), words

    def renamed(self, names: Mapping[str, str]) -> "NetLine":
        def of(values: Sequence[str]) -> tuple[str, ...]:
            return tuple(names.get(one, one) for one in values)

        words = (
            f"like={names.get(w[5:], w[5:])}" if w.startswith("like=") else w for w in self.words
        )
        return NetLine(of(self.outs), self.op, of(self.ins), tuple(words), of(self.ends))

    def text(self) -> str:
        if self.op in HEADS:
            return " ".join((self.op, *self.words))
        outs, ins = (",".join(one) or "." for one in (self.outs, self.ins))
        return " ".join((outs, self.op, ins, *self.words, *(f"-{one}" for one in self.ends)))


def line_of(text: str) -> NetLine:
    outs, op, *after = text.split()
    if outs in HEADS:
        return NetLine((), outs, (), (op, *after), ())

    def names(values: str) -> tuple[str, ...]:
        return () if values == "." else tuple(values.split(","))

    words = tuple(w for w in after[1:] if "=" in w)
    return NetLine(
        names(outs), op, names(after[0]), words, tuple(w[1:] for w in after[1:] if "=" not in w)
    )


def folded(forms: Sequence[str]) -> str:
    """The text of a class, of those of its forms."""
    merged: list[tuple[int, NetLine]] = []
    for number, form in enumerate(forms):
        lines = [line_of(one) for one in form.splitlines()]
        merged = list(_merged(merged, lines, 1 << number))
    every = (1 << len(forms)) - 1
    guarded = (f"{'' if mask == every else f'@{mask:x} '}{one.text()}" for mask, one in merged)
    return "\n".join([f"forms {len(forms)}", *guarded, ""])


def _merged(
    merged: Sequence[tuple[int, NetLine]], lines: Sequence[NetLine], bit: int
) -> Iterator[tuple[int, NetLine]]:
    """Yield lines of all forms so far and of one more. Where two lines are alike, the values that
    they make have one name, also where they are not the same line."""
    before = [line for _, line in merged]
    matcher = SequenceMatcher(
        None, [one.like() for one in before], [one.like() for one in lines], autojunk=False
    )
    pairs = {b + i: a + i for a, b, size in matcher.get_matching_blocks() for i in range(size)}
    fresh = count(1 + max((int(one) for line in before for one in line.outs), default=-1))
    names: dict[str, str] = {}
    for place, line in enumerate(lines):
        of = before[pairs[place]].outs if place in pairs else ()
        for i, out in enumerate(line.outs):
            if out not in names:
                free = i < len(of) and of[i] not in names.values()
                names[out] = of[i] if free else str(next(fresh))
    at = 0
    for place, line in enumerate(lines):
        end = pairs.get(place, at)
        yield from merged[at:end]
        at = max(at, end)
        renamed = line.renamed(names)
        if place in pairs:
            mask, other = merged[at]
            at += 1
            if other == renamed:
                yield mask | bit, renamed
                continue
            yield mask, other
        yield bit, renamed
    yield from merged[at:]

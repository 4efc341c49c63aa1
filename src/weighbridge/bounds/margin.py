"""The width of a kind of runs, and of its nearest kin where too few were published.

    Kind    task, engine, quantity and level; the form of weights; one device or several
    kin     the same without the last, of packed forms alike, of all forms, of peers of the engine

A row with "*" is of all that could stand there. The first of the kin that has a row is the nearest;
a width that is not of the kind itself is `assumed`. Levels nest, so a level at which no peer was
published has the width of those below it, and ASSUMED.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from weighbridge.engines.table import record
from weighbridge.memory import Basis
from weighbridge.parsed import Parsed
from weighbridge.units import GIB

ANY = "*"
PEAK = "peak"  # everything that a device holds, at most
PLAIN, PACKED, GGUF = "plain", "packed", "gguf"
CONVOLUTIONS, COMPILED = "convolutions", "compiled"
BASE = GIB // 4  # shares are of what is expected and this: small runs err by more of themselves
FLOOR = 0.002  # of what is expected: no kind of runs was ever printed to more digits
ASSUMED = 0.01  # a width of kin is at least this
FRAMEWORKS = "frameworks"  # of training
NAMES = {
    ANY: "all engines",
    "torch": "traced programs",
    FRAMEWORKS: "all frameworks",
    "ggml": "llama.cpp and its forks",
}
PATH = os.path.join(os.path.dirname(__file__), "margins.jsonl")


class Runs(NamedTuple):
    """What an answer says of itself: who runs, and what form its weights have. Of a traced program
    the form is `plain`, or `convolutions` where cuDNN chooses workspaces; of a compiled training
    step it is `compiled`."""

    task: str  # load, serve, train or trace
    engine: str
    form: str = PLAIN


TRACED = Runs("trace", "torch")  # programs and classes that ran on a fake GPU


class Kind(NamedTuple):
    """A group of runs whose errors are one sample. Each field may be ANY."""

    task: str
    engine: str
    quantity: str
    level: str
    form: str
    several: str

    @property
    def words(self) -> str:
        """ "runs of vllm on one device, gptq weights" """
        who = NAMES.get(self.engine, self.engine)
        where = {"yes": " on several devices", "no": " on one device"}.get(self.several, "")
        own = {ANY: "", CONVOLUTIONS: " with convolutions", COMPILED: ", compiled"}
        form = own.get(self.form, f", {self.form} weights")
        return f"{'training ' if self.task == 'train' else ''}runs of {who}{where}{form}"


class Margin(NamedTuple):
    """Shares of what is expected, beyond the rules' own interval; below nothing where that is wider
    than its runs need. `middle` is their median error, as a share of what was expected."""

    low: float
    high: float
    middle: float = 0.0
    runs: int = 0
    sources: tuple[str, ...] = ()
    of: Kind | None = None
    near: bool = False  # of the kind itself

    @property
    def wider(self) -> "Margin":
        """The same where it may add and not take away; more where it is of kin."""
        low, high = self.added
        return self._replace(low=low, high=high)

    @property
    def added(self) -> tuple[float, float]:
        """What it adds below and above: nothing at least, and more where it is of kin."""
        least = 0.0 if self.near or self.of is None else ASSUMED
        return max(least, self.low), max(least, self.high)

    @property
    def basis(self) -> Basis:
        return "measured" if self.near else "assumed"


# Levels at which the rules know everything: what is loaded is read from headers
KNOWN: Mapping[str, tuple[str, ...]] = {"load": ("component", "allocated")}
NONE = Margin(0.0, 0.0)
REPLAYED = Margin(FLOOR, FLOOR)  # what is reserved for them is, too
LEAST = Margin(ASSUMED, ASSUMED)  # where no peer was published at the level


def kind(runs: Runs, quantity: str, level: str, *, several: bool) -> Kind:
    return Kind(runs.task, runs.engine, quantity, level, runs.form, "yes" if several else "no")


def form(name: str | None) -> str:
    """Return the beginning of a format's name: gptq of gptq-4bit-g128. GGUF has one for all of its
    types."""
    if name is None:
        return PLAIN
    return GGUF if name[0].isupper() else name.partition("-")[0]


def kin(asked: Kind) -> Iterator[Kind]:
    """The nearest first."""
    yield asked
    yield asked._replace(several=ANY)
    if asked.form not in (PLAIN, CONVOLUTIONS, COMPILED, ANY):
        yield asked._replace(form=PACKED, several=ANY)
    alike = asked._replace(form=ANY, several=ANY)
    yield alike
    peers = alike._replace(
        engine=FRAMEWORKS if asked.task == "train" else record(asked.engine).peers
    )
    if peers.engine:
        yield peers._replace(form=asked.form)
        yield peers
    if asked.level == "component":
        yield peers._replace(quantity=ANY)
        yield peers._replace(engine=ANY, quantity=ANY)


class Table(Mapping[Kind, Margin]):
    """Widths by kind; nothing at the levels that are `unsaid`, while they are fitted."""

    def __init__(self, rows: Mapping[Kind, Margin], unsaid: Iterable[str] = ()) -> None:
        self._rows, self._unsaid = rows, frozenset(unsaid)

    def __getitem__(self, key: Kind) -> Margin:
        return self._rows[key]

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, asked: Kind) -> Margin:
        """Look up the margin of a kind, or of its nearest kin; nothing where the table is empty."""
        if not self._rows or asked.level in self._unsaid:
            return NONE
        for one in kin(asked):
            if one in self._rows:
                found = self._rows[one]._replace(of=one, near=one == asked)
                return found if found.near else found.wider
        if asked.level in KNOWN.get(asked.task, ("component",)):
            return NONE
        return REPLAYED if asked.task in KNOWN else LEAST


NOTHING = Table({})


@cache
def fitted() -> Table:
    """Read the widths that the package has."""
    with open(PATH, encoding="utf-8") as lines:
        return read(lines)


def read(lines: Iterable[str]) -> Table:
    return Table(Parsed({_named(line): line for line in lines}, _margin))


def _named(line: str) -> Kind:
    """Read the words at the beginning of a line: its first values."""
    return Kind(*line.split('"', 4 * len(Kind._fields))[3::4])


def _margin(line: str) -> Margin:
    told = {name: value for name, value in json.loads(line).items() if name not in Kind._fields}
    return Margin(**{**told, "sources": tuple(told["sources"])})


def written(table: Table) -> Iterator[str]:
    """A line a row, in a fixed order."""
    for one in sorted(table):
        found = table[one]
        told: dict[str, Any] = {
            **one._asdict(),
            "low": found.low,
            "high": found.high,
            "middle": found.middle,
            "runs": found.runs,
            "sources": list(found.sources),
        }
        yield json.dumps(told) + "\n"

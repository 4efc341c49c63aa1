"""The width of a kind of runs, and of its nearest kin where too few were published.

    Kind    task, engine, quantity and level; the form of weights; its layers; how devices share it
    kin     the same of peers of the engine, of all layers, on all devices, of packed forms alike,
            of all forms

A row with "*" is of all that could stand there. The first of the kin that has a row is the nearest;
a width that is not of the kind itself is `assumed`, and that of the worst of its members: nobody
knows which of them a newcomer is like. Levels nest, so a level at which no peer was published has
the width of those below it, and ASSUMED.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.base.memory import NO_DOUBT, Basis, Doubt
from weighbridge.base.parsed import Parsed
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import GIB
from weighbridge.engines.table import record

if TYPE_CHECKING:
    from weighbridge.answers.bounds.novelty import Novelty

ANY = "*"
PEAK = "peak"  # everything that a device holds, at most
PLAIN, PACKED, GGUF = "plain", "packed", "gguf"
CONVOLUTIONS, COMPILED = "convolutions", "compiled"
DENSE, EXPERTS, RECURRENT, TOWERS = "dense", "experts", "recurrent", "towers"  # layers
ONE, SEVERAL = "one", "several"  # devices
BASE = GIB // 4  # shares are of what is expected and this: small runs err by more of themselves
FLOOR = 0.002  # of what is expected: no kind of runs was ever printed to more digits
ASSUMED = 0.01  # what a width of kin has more: printed figures of one kind differ by this
FRAMEWORKS = "frameworks"  # of training
OWN_STEP = ("megatron", "unsloth")  # whose steps are their own: they err as no other framework does
NAMES = {
    ANY: "all engines",
    "torch": "traced programs",
    FRAMEWORKS: "all frameworks",
    "ggml": "llama.cpp and its forks",
}
ENOUGH = 3  # sources that agree
WITHIN = 0.95  # share of figures that are within, of those that are like
PATH = os.path.join(os.path.dirname(__file__), "margins.jsonl")


class RunForm(NamedTuple):
    """A run as its answer describes it: its engine, the form of its weights, its layers. Of a
    traced program the form is `plain`, or `convolutions` where cuDNN chooses workspaces; of a
    compiled training step it is `compiled`."""

    task: str  # load, serve, train or trace
    engine: str
    form: str = PLAIN
    layers: str = DENSE
    sharing: str = SEVERAL  # by what several devices share it: a word of ours, or `several`
    traits: tuple[tuple[str, str], ...] = ()  # (axis, value): novelty.py; none of what is no answer
    doubt: Doubt = NO_DOUBT  # of what nobody knows: engines/ignorance.py


TRACED = RunForm("trace", "torch")  # programs and classes that ran on a fake GPU


class RunGroup(NamedTuple):
    """A group of runs whose errors are one sample. Each field may be ANY."""

    task: str
    engine: str
    quantity: str
    level: str
    form: str
    layers: str
    devices: str

    @property
    def words(self) -> str:
        """Say which runs are meant: "runs of vllm on one device, gptq weights, experts"."""
        who = NAMES.get(self.engine, self.engine)
        shared = "" if self.devices == ANY else f" that share by {self.devices}"
        where = {ONE: " on one device", SEVERAL: " on several devices"}.get(self.devices, shared)
        kinds = {ANY: "", CONVOLUTIONS: " with convolutions", COMPILED: ", compiled"}
        form = kinds.get(self.form, f", {self.form} weights")
        layers = "" if self.layers in (ANY, DENSE) else f", {self.layers}"
        return f"{'training ' if self.task == 'train' else ''}runs of {who}{where}{form}{layers}"


class Margin(NamedTuple):
    """Shares of what is expected, beyond the rules' own interval; below nothing where that is wider
    than its runs need, and then it is narrowed, if they are `narrowing`. `middle` is their median
    error, as a share of what was expected."""

    low: float
    high: float
    middle: float = 0.0
    runs: int = 0
    sources: tuple[str, ...] = ()
    of: RunGroup | None = None
    near: bool = False  # of the kind itself
    new: tuple[str, ...] = ()  # axes on which few published runs are like an answer: novelty.py
    earned: float = 0.0  # share by which it is higher for that

    @property
    def wider(self) -> "Margin":
        """Return the margin of a newcomer: ASSUMED more."""
        return self._replace(low=self.low + ASSUMED, high=self.high + ASSUMED)

    @property
    def lawful(self) -> "Margin":
        """Return it as it may be used: what its runs widen is kept, and what they narrow where they
        are `narrowing`."""
        if narrowing(self.runs, self.sources):
            return self
        return self._replace(low=max(0.0, self.low), high=max(0.0, self.high))

    @property
    def basis(self) -> Basis:
        return "measured" if self.near else "assumed"


# Levels at which the rules know everything: what is loaded is read from headers
KNOWN: Mapping[str, tuple[str, ...]] = {"load": ("component",)}
NONE = Margin(0.0, 0.0)
REPLAYED = Margin(FLOOR, FLOOR)  # what is reserved for them is, too
LEAST = Margin(ASSUMED, ASSUMED)  # where no peer was published at the level


def narrowing(runs: int, sources: Collection[str]) -> bool:
    """Tell whether figures may narrow the rules' own interval: ENOUGH sources, and so many figures
    that the next one of their kind lies within their worst with a chance of WITHIN. Of n that is
    n / (n + 1): fewer than 19 only say that it may be wider."""
    return len(sources) >= ENOUGH and runs >= WITHIN * (runs + 1)


def kind(runs: RunForm, quantity: str, level: str, *, several: bool) -> RunGroup:
    devices = runs.sharing if several else ONE
    return RunGroup(
        runs.task, runs.engine, quantity, level, form=runs.form, layers=runs.layers, devices=devices
    )


def form(name: str | None) -> str:
    """Return the beginning of a format's name: gptq of gptq-4bit-g128. GGUF has one for all of its
    types."""
    if name is None:
        return PLAIN
    return GGUF if name[0].isupper() else name.partition("-")[0]


def kin(asked: RunGroup) -> Iterator[RunGroup]:
    """Yield groups of runs that are like these, the nearest first, each once. A framework errs as
    its peers do that share a model the same way, more than as itself does on one device."""
    yield from dict.fromkeys(_kin(asked))


def _kin(asked: RunGroup) -> Iterator[RunGroup]:
    trains = asked.task == "train" and asked.engine not in OWN_STEP
    peers = FRAMEWORKS if trains else "" if asked.task == "train" else record(asked.engine).peers
    anywhere = {"layers": ANY, "devices": ANY}
    for wider in ({}, {"layers": ANY}, anywhere):
        yield asked._replace(**wider)
        if peers:
            yield asked._replace(**wider, engine=peers)
    if asked.form not in (PLAIN, CONVOLUTIONS, COMPILED, ANY):
        yield asked._replace(form=PACKED, **anywhere)
    alike = asked._replace(form=ANY, **anywhere)
    yield alike
    if peers:
        yield alike._replace(engine=peers)


class MarginTable(Mapping[RunGroup, Margin]):
    """Widths by kind; nothing at the levels that are `unsaid`, while they are fitted. `novelty`
    widens those of answers that are like none that was published."""

    def __init__(
        self,
        rows: Mapping[RunGroup, Margin],
        unsaid: Iterable[str] = (),
        novelty: "Novelty | None" = None,
    ) -> None:
        self._rows, self._unsaid, self.novelty = rows, frozenset(unsaid), novelty

    def __getitem__(self, key: RunGroup) -> Margin:
        return self._rows[key]

    def __iter__(self) -> Iterator[RunGroup]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, asked: RunGroup) -> Margin:
        """Look up the margin of a kind, or of its nearest kin; nothing where the table is empty."""
        if not self._rows or asked.level in self._unsaid:
            return NONE
        for one in kin(asked):
            if one in self._rows:
                margin = self._rows[one]._replace(of=one, near=one == asked)
                return margin if margin.near else margin.wider
        if asked.level in KNOWN.get(asked.task, ()):
            return NONE
        return REPLAYED if asked.task in KNOWN else LEAST

    def around(self, asked: RunGroup, runs: RunForm) -> Margin:
        """Look up the margin of an answer: of its kind, and wider where it is new."""
        margin = self.of(asked)
        if self.novelty is None or asked.level in self._unsaid:
            return margin
        return self.novelty.wider(margin, asked, runs)


NOTHING = MarginTable({})


def read(lines: Iterable[str]) -> MarginTable:
    return MarginTable(Parsed({_named(line): line for line in lines}, _margin))


def _named(line: str) -> RunGroup:
    """Read the words at the beginning of a line: its first values."""
    return RunGroup(*line.split('"', 4 * len(RunGroup._fields))[3::4])


def _margin(line: str) -> Margin:
    row = {name: value for name, value in json.loads(line).items() if name not in RunGroup._fields}
    return Margin(**{**row, "sources": tuple(row["sources"])})


def written(table: MarginTable) -> Iterator[str]:
    """Yield a line of JSON for each row of margins, in a fixed order."""
    return (json_line(one, table[one], "low", "high", "middle", "runs") for one in sorted(table))


def json_line(group: Any, margin: Margin, *names: str) -> str:
    """Return the line of JSON of a group, with the facts of its margin that are named."""
    facts = {name: getattr(margin, name) for name in names}
    return json.dumps({**group._asdict(), **facts, "sources": list(margin.sources)}) + "\n"

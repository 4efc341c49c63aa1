"""The margin of a kind of runs, or of its nearest kin if too few were published.

    Kind    task, engine, quantity and level; weight format; layers; how devices share the model
    kin     the same for peers of the engine, for all layers, on all devices, for quantized formats,
            for all formats

A field with "*" stands for all values. The first kin that has a row is the nearest; a margin that
is not of the kind itself is `assumed`, and is its worst member's: nobody knows which of them a
newcomer is like. Levels nest, so a level at which no peer was published has the margin of those
below it, and ASSUMED.
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
PEAK = "peak"  # all that a device holds, at most
PLAIN, PACKED, GGUF = "plain", "packed", "gguf"
CONVOLUTIONS, COMPILED = "convolutions", "compiled"
DENSE, EXPERTS, RECURRENT, TOWERS = "dense", "experts", "recurrent", "towers"  # layers
ONE, SEVERAL = "one", "several"  # devices
BASE = GIB // 4  # bytes added to what shares are of: small runs have larger relative errors
FLOOR = 0.002  # share of the expected bytes: no kind of runs was ever printed to more digits
ASSUMED = 0.01  # share added to a margin of kin: printed figures of one kind differ by this
FRAMEWORKS = "frameworks"  # peers in training
OWN_STEP = ("megatron", "unsloth")  # their errors are unlike other frameworks'
NAMES = {
    ANY: "all engines",
    "torch": "traced programs",
    FRAMEWORKS: "all frameworks",
    "ggml": "llama.cpp and its forks",
}
ENOUGH = 3  # sources that must agree
WITHIN = 0.95  # share of similar figures that are within the interval
PATH = os.path.join(os.path.dirname(__file__), "margins.jsonl")


class RunForm(NamedTuple):
    """The features of an answer by which published runs are found. `form` of a traced program is
    `plain`, or `convolutions` if cuDNN chooses workspaces; of a compiled training step it is
    `compiled`."""

    task: str  # load, serve, train or trace
    engine: str
    form: str = PLAIN
    layers: str = DENSE
    sharing: str = SEVERAL  # how several devices share the model: our own name, or `several`
    traits: tuple[tuple[str, str], ...] = ()  # (axis, value): novelty.py; empty if unknown
    doubt: Doubt = NO_DOUBT  # of unknown facts: engines/ignorance.py


TRACED = RunForm("trace", "torch")  # programs and classes run on a fake GPU


class RunGroup(NamedTuple):
    """A group of runs whose errors form one sample. Each field may be ANY."""

    task: str
    engine: str
    quantity: str
    level: str
    form: str
    layers: str
    devices: str

    @property
    def words(self) -> str:
        """Return the group in words: "runs of vllm on one device, gptq weights, experts"."""
        who = NAMES.get(self.engine, self.engine)
        shared = "" if self.devices == ANY else f" that share by {self.devices}"
        where = {ONE: " on one device", SEVERAL: " on several devices"}.get(self.devices, shared)
        kinds = {ANY: "", CONVOLUTIONS: " with convolutions", COMPILED: ", compiled"}
        form = kinds.get(self.form, f", {self.form} weights")
        layers = "" if self.layers in (ANY, DENSE) else f", {self.layers}"
        return f"{'training ' if self.task == 'train' else ''}runs of {who}{where}{form}{layers}"


class Margin(NamedTuple):
    """Shares of the expected bytes, added beyond the rules' own interval. Negative if that is wider
    than its runs need: then it is narrowed, if they are `narrowing`. `middle` is the runs' median
    error as a share of the expected bytes."""

    low: float
    high: float
    middle: float = 0.0
    runs: int = 0
    sources: tuple[str, ...] = ()
    of: RunGroup | None = None
    near: bool = False  # for the kind itself
    new: tuple[str, ...] = ()  # axes on which few published runs resemble an answer: novelty.py
    earned: float = 0.0  # share added to `high` for that

    @property
    def wider(self) -> "Margin":
        """Return the margin for a newcomer: ASSUMED more at both ends."""
        return self._replace(low=self.low + ASSUMED, high=self.high + ASSUMED)

    @property
    def lawful(self) -> "Margin":
        """Return the margin as it may be used: it may widen, but may narrow only if its runs are
        `narrowing`."""
        if narrowing(self.runs, self.sources):
            return self
        return self._replace(low=max(0.0, self.low), high=max(0.0, self.high))

    @property
    def basis(self) -> Basis:
        return "measured" if self.near else "assumed"


# Levels that the rules know exactly: what is loaded is read from headers
KNOWN: Mapping[str, tuple[str, ...]] = {"load": ("component",)}
NONE = Margin(0.0, 0.0)
REPLAYED = Margin(FLOOR, FLOOR)  # the bytes reserved for them are, too
LEAST = Margin(ASSUMED, ASSUMED)  # no peer was published at the level


def narrowing(runs: int, sources: Collection[str]) -> bool:
    """Return whether figures may narrow the rules' own interval: ENOUGH sources, and enough figures
    that the next one of their kind lies within their worst with probability WITHIN. With n figures
    that is n / (n + 1): fewer than 19 may only widen it."""
    return len(sources) >= ENOUGH and runs >= WITHIN * (runs + 1)


def kind(runs: RunForm, quantity: str, level: str, *, several: bool) -> RunGroup:
    devices = runs.sharing if several else ONE
    return RunGroup(
        runs.task, runs.engine, quantity, level, form=runs.form, layers=runs.layers, devices=devices
    )


def form(name: str | None) -> str:
    """Return the first part of a format's name: gptq of gptq-4bit-g128. All GGUF types are
    "gguf"."""
    if name is None:
        return PLAIN
    return GGUF if name[0].isupper() else name.partition("-")[0]


def kin(asked: RunGroup) -> Iterator[RunGroup]:
    """Yield groups of similar runs, nearest first, each once. A framework errs more like its peers
    that share a model in the same way than like itself on one device."""
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
    """Margins by kind; zero at the levels in `unsaid`, while they are fitted. `novelty` widens
    those of answers unlike any published run."""

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
        """Return the margin of a kind, or of its nearest kin; zero if the table is empty."""
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
        """Return the margin of an answer: that of its kind, wider if the answer is new."""
        margin = self.of(asked)
        if self.novelty is None or asked.level in self._unsaid:
            return margin
        return self.novelty.wider(margin, asked, runs)


NOTHING = MarginTable({})


def read(lines: Iterable[str]) -> MarginTable:
    return MarginTable(Parsed({_named(line): line for line in lines}, _margin))


def _named(line: str) -> RunGroup:
    """Return the group in a line: its first values."""
    return RunGroup(*line.split('"', 4 * len(RunGroup._fields))[3::4])


def _margin(line: str) -> Margin:
    row = {name: value for name, value in json.loads(line).items() if name not in RunGroup._fields}
    return Margin(**{**row, "sources": tuple(row["sources"])})


def written(table: MarginTable) -> Iterator[str]:
    """Yield a line of JSON for each row of margins, in a fixed order."""
    return (json_line(one, table[one], "low", "high", "middle", "runs") for one in sorted(table))


def json_line(group: Any, margin: Margin, *names: str) -> str:
    """Return the line of JSON of a group, with the named fields of its margin."""
    facts = {name: getattr(margin, name) for name in names}
    return json.dumps({**group._asdict(), **facts, "sources": list(margin.sources)}) + "\n"

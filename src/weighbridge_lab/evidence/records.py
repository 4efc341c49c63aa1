"""Published measurements of inference, loading and training, one record a figure, and citations.

records/SOURCE.jsonl     a figure: setting, what was measured, where it is printed
models.jsonl             what the models of the figures are made of

Figures and citations only. `resolution` is half a unit of the last digit that was printed: a
prediction cannot be told from the figure within it. What we say of a figure is an outcome: a
prediction, or the reason why there is none.
"""

import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

from weighbridge.answers import bounds
from weighbridge.base.errors import NotFoundError
from weighbridge.base.memory import Bytes
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.models import catalogue

HERE = os.path.dirname(__file__)
ABOVE = 1.01  # a figure above this multiple of the upper bound is outside our interval

LEVELS = ("component", "allocated", "reserved", "driver", "host")
HOST = "host"  # the device, and the level of what one machine holds besides file pages


Confidence = Literal["high", "medium", "low"]


@frozen_record
class PublishedFigure:
    """A published figure. Settings have the names of `Infer`; a missing one is the default. For a
    `trace` they are its program's arguments; `less` replaces some in the run to subtract."""

    id: str
    source: str  # the file it is in
    engine: str
    model: str  # of models.jsonl
    quantity: str  # docs/accuracy.md lists them
    level: str
    measured: int
    citation: Mapping[str, Any]  # repo; commit, path and line, or the issue or pull request
    version: str | None = None  # None: not printed
    task: str = "infer"
    program: str | None = None  # of programs/
    setting: Mapping[str, Any] = field(default_factory=dict)
    less: Mapping[str, Any] = field(default_factory=dict)
    accelerator: str | None = None  # of our catalogue; None: a CPU, or not printed
    count: int = 1
    device: str = "gpu 0"
    phase: str = ""  # of the host or of training; "" is the fullest
    date: str = ""  # its source's, as 2026-04; "" is that of its engine's release: dates.py
    unit: str = "bytes"
    resolution: int = 0
    given: Mapping[str, int] = field(default_factory=dict)  # of the same log, as settings
    given_resolution: int = 0
    only_given: bool = False  # without what is given the setting is incomplete
    skip: str | None = None
    confidence: Confidence = "high"
    caveat: str = ""


@frozen_record
class ModelOrigin:
    """The origin of a figure's model: a config in the catalogue, one of ours, or ours on top of
    that."""

    id: str
    catalogue: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""  # of `config`
    sibling_of: str | None = None  # whose config it is, where that is not the model's own


@dataclass(frozen=True, slots=True)
class Prediction:
    """A figure and our prediction, in bytes, tokens or blocks. `quantity` is the record's, with
    GIVEN if an input is given."""

    record: PublishedFigure
    quantity: str
    bytes: Bytes
    resolution: int  # of the figure, and of what is given for it
    kind: bounds.RunGroup | None  # of runs whose margin is in `bytes`
    like: bounds.RunForm | None = None  # the run; None for a program or a stored prediction

    @property
    def error(self) -> float:
        """Return the signed error, as a fraction of the measured value."""
        return (self.bytes.expected - self.record.measured) / abs(self.record.measured)

    @property
    def under(self) -> bool:
        return self.bytes.expected + self.resolution < self.record.measured

    @property
    def inside(self) -> bool:
        """Return whether the figure is in our interval, allowing for its rounding."""
        low, high = self.bytes.low - self.resolution, self.bytes.high + self.resolution
        return low <= self.record.measured <= high

    @property
    def above(self) -> bool:
        """Return whether the figure is more than a hundredth above our upper bound."""
        return ABOVE * self.bytes.high + self.resolution < self.record.measured

    @property
    def exact(self) -> bool:
        """Return whether the figure, allowing for its rounding, equals the expected value."""
        return abs(self.bytes.expected - self.record.measured) <= self.resolution

    @property
    def width(self) -> float:
        return (self.bytes.high - self.bytes.low) / max(1, self.bytes.expected)


@dataclass(frozen=True, slots=True)
class Skip:
    record: PublishedFigure
    quantity: str
    reason: str
    detail: str = ""


Outcome = Prediction | Skip


def sources() -> list[str]:
    names = os.listdir(os.path.join(HERE, "records"))
    return sorted(name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl"))


@cache
def records() -> tuple[PublishedFigure, ...]:
    return tuple(r for name in sources() for r in _read(name))


@cache
def origins() -> Mapping[str, ModelOrigin]:
    return {line["id"]: ModelOrigin(**line) for line in lines("models.jsonl")}


def config(origin: ModelOrigin) -> dict[str, Any]:
    base = catalogue.find(origin.catalogue).config if origin.catalogue else {}
    return {**base, **origin.config}


def _read(name: str) -> Iterator[PublishedFigure]:
    for line in lines(os.path.join("records", f"{name}.jsonl")):
        yield PublishedFigure(source=name, **line)


def lines(path: str) -> Iterator[dict[str, Any]]:
    with open(os.path.join(HERE, path), encoding="utf-8") as file:
        yield from map(json.loads, file)


def chosen(*, engine: str | None = None, source: str | None = None) -> tuple[PublishedFigure, ...]:
    """Return the figures of an engine or a source. Raises NotFoundError for a name without
    records."""
    for name, wanted, known in (
        ("engine", engine, {record.engine for record in records()}),
        ("source", source, set(sources())),
    ):
        if wanted is not None and wanted not in known:
            names = ", ".join(sorted(known))
            raise NotFoundError(sentence("figures.none", name=name, value=wanted, known=names))
    return tuple(
        record
        for record in records()
        if (engine is None or record.engine == engine)
        and (source is None or record.source == source)
    )


def of_host() -> tuple[PublishedFigure, ...]:
    """Return the figures of host memory."""
    return tuple(record for record in records() if record.device == HOST)


def cited(figure: PublishedFigure) -> str:
    """Return a line that says where the figure is published."""
    citation = figure.citation
    if "unnamed" in citation:
        return str(citation["unnamed"])
    for kind in ("issue", "pull"):
        if kind in citation:
            return f"github.com/{citation['repo']} {kind} {citation[kind]}"
    place = f" {citation['path']}" if "path" in citation else ""
    line = f":{citation['line']}" if "line" in citation else ""
    return f"github.com/{citation['repo']} at {citation['commit'][:12]}{place}{line}"

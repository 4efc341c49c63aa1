"""The answer to a question as one frozen record, which renderers and `to_dict` read."""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from weighbridge.base._version import __version__
from weighbridge.base.memory import LEVELS, Bytes, Component, Device, Exact, Instant, compared
from weighbridge.base.records import NamedTuple, field, fields_of, frozen_record
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings

if TYPE_CHECKING:
    from weighbridge.memory.report.columns import FlatValue
    from weighbridge.memory.report.verdict import Answer, Condition, HostVerdict, Remedy, Verdict
    from weighbridge.models.quantization.quality import Finding

SCHEMA = "weighbridge.report/1"
RENDERER = "weighbridge.faces.render.forms"  # found by name, since it imports this module


class ModelFacts(NamedTuple):  # no frozen dataclass, here and below: every start creates it
    """The estimated model. Counts are of the class that the config names, tied weights once."""

    reference: str
    revision: str | None
    name: str
    architecture: str
    parameters: int
    active_parameters: int
    stored_bytes: int | None
    download_bytes: int | None
    read_from: tuple[str, ...]
    parts: tuple[tuple[str, int], ...] = ()  # (name, parameters) of towers or pipeline parts
    rough: bool = False  # from a bare size: only the parameter count is known


class Row(NamedTuple):
    """One row of the load table: what the weights would take in one format."""

    dtype: str
    largest_layer: str
    largest_layer_bytes: int
    total_bytes: int
    training_adam_bytes: int | None
    training_adam_pure_bytes: int | None
    basis: str  # "division": all parameters alike; "format": with scales and exceptions
    left_alone: str = ""  # tensors that the format keeps in the model's own dtype
    quality: "Finding | None" = None  # None if no published figure is known


class Shown:
    """Base of answers that print themselves and render in a notebook."""

    __slots__ = ()

    def __str__(self) -> str:
        return self._drawn("text")

    def _repr_markdown_(self) -> str:
        return self._drawn("markdown")

    def _repr_html_(self) -> str:
        return self._drawn("html")

    def _drawn(self, form: str) -> str:
        drawn: str = getattr(import_module(RENDERER), form)(self)
        return drawn


@frozen_record
class Report(Shown):
    """The answer to a question: the question, its model, and the memory used on every device."""

    task: str
    model: ModelFacts
    workload: EffectiveSettings
    devices: tuple[Device, ...]
    derived: DerivedFacts = field(default_factory=DerivedFacts)
    table: tuple[Row, ...] = ()
    verdict: "Verdict | None" = None
    warnings: tuple[str, ...] = ()
    remedies: "tuple[Remedy, ...]" = ()
    said: Mapping[str, Any] = field(default_factory=dict)  # those of `workload` that the user set

    @property
    def pictures(self) -> bool:
        """Return whether the model is a pipeline that makes pictures or video."""
        return "pipeline" in self.workload

    @property
    def fits(self) -> "Answer":
        """Return the answer of the verdict; "unknown" if the user named no device."""
        return "unknown" if self.verdict is None else self.verdict.fits

    @property
    def sees(self) -> bool:
        """Return whether the model is a timm network, which takes images and no text."""
        w = self.workload
        return bool(w.get("image_size")) and not (w.get("context") or w.get("seq_len"))

    @property
    def fullest(self) -> Device:
        """Return the accelerator with the highest peak, except those of a rollout engine only; the
        host if there is no accelerator."""
        gpus = [d for d in self.devices if d.kind == "gpu"]
        apart = self.derived.get("rollout_cards", {}).get("count", 0)
        return max(
            gpus[: len(gpus) - apart] or self.devices, key=lambda d: d.peak("driver").expected
        )

    @property
    def peak(self) -> Bytes:
        """Return the driver-level peak of `fullest`."""
        return self.fullest.peak("driver")

    def columns(self) -> "dict[str, FlatValue]":
        """Return the answer as one row of a table, with the same columns for every task
        (docs/scan.md)."""
        from weighbridge.memory.report.columns import columns  # for tables only

        return columns(self)

    def setting(self, name: str) -> Any:
        """Return the value of a setting as used; None if there is none of that name."""
        return self.workload.get(name)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON report (docs/report.md); bytes are integers."""
        facts = self.model
        return {
            "schema": SCHEMA,
            "version": __version__,
            "task": self.task,
            "model": {
                **plain(facts),
                "parts": [{"name": n, "parameters": count} for n, count in facts.parts],
            },
            "workload": dict(self.workload),
            "devices": list(_devices(self.devices)),
            "derived": dict(self.derived),
            "table": [*map(plain, self.table)],
            "verdict": None if self.verdict is None else verdict_as_dict(self.verdict),
            "remedies": [as_dict(r) for r in self.remedies],
            "warnings": [*map(str, self.warnings)],
        }


def _bytes(size: Bytes) -> dict[str, int]:
    return size._asdict()


def _component(component: Component) -> dict[str, Any]:
    return {
        "name": component.name,
        "detail": component.detail,
        "level": component.level,
        "bytes": _bytes(component.bytes),
        "basis": component.basis,
        "formula": component.formula,
        "source": component.source,
        "droppable": component.droppable,
        "role": component.role,
        "stays": component.stays,
    }


def _phase(device: Device, phase: Instant) -> dict[str, Any]:
    return {
        "name": phase.name,
        "binds": device.binds(phase),
        "bytes": _bytes(phase.at("driver")),
        "components": [_component(c) for c in phase.components],
        **({"devices": phase.devices} if phase.devices else {}),
    }


def _devices(devices: Iterable[Device]) -> Iterator[dict[str, Any]]:
    """Yield each device as JSON; devices with the same phases share one conversion."""
    shown: dict[tuple[int, int, int | None], dict[str, Any]] = {}
    for d in devices:
        key = id(d.phases), id(d.exact), d.taken
        if key not in shown:
            shown[key] = _device(d)
        yield {**shown[key], "index": d.index, "kind": d.kind}


def _device(device: Device) -> dict[str, Any]:
    return {
        "index": device.index,
        "kind": device.kind,
        "peak_phase": device.peak_phase,
        "peak": {level: _bytes(device.peak(level)) for level in LEVELS},
        "taken": device.taken,
        "exact": None if device.exact is None else _exact(device.exact),
        "phases": [_phase(device, p) for p in device.phases],
    }


def _exact(exact: Exact) -> dict[str, Any]:
    return {"source": exact.source, "phases": [_compared(*pair) for pair in exact.phases]}


def _compared(closed: Instant, traced: Instant) -> dict[str, Any]:
    """Return both estimates of a phase; `difference` is traced minus closed form, in bytes."""
    levels = {level: traced.at(level).expected - closed.at(level).expected for level in LEVELS}
    return {
        "name": closed.name,
        "closed": _levels(closed),
        "traced": _levels(traced),
        "difference": levels,
        "components": [
            {"name": name, "closed": a, "traced": b, "difference": b - a}
            for name, a, b in compared(closed, traced)
        ],
    }


def _levels(phase: Instant) -> dict[str, Any]:
    return {level: _bytes(phase.at(level)) for level in LEVELS}


def as_dict(remedy: "Remedy") -> dict[str, Any]:
    """Return a remedy as JSON, with the points of its price added up."""
    price = remedy.price and {**plain(remedy.price), "points": remedy.price.points}
    return {**plain(remedy), "price": price}


# Fields of a verdict that are left out of the JSON if empty -> their keys
SAID = {"ground": "ground", "seen": "seen"}
SAID |= {"spilled": "spilled_bytes", "usable_each": "usable_each_bytes"}


def verdict_as_dict(verdict: "Verdict") -> dict[str, Any]:
    """Return a verdict as JSON."""
    fields = plain(verdict)
    renamed = {key: value for name, key in SAID.items() if (value := fields.pop(name))}
    host = None if verdict.host is None else _host(verdict.host)
    return {**fields, **renamed, "host": host, "conditions": [*map(_condition, verdict.conditions)]}


def _condition(condition: "Condition") -> dict[str, Any]:
    """Return a condition as JSON, with its own answer."""
    return {**plain(condition), "holds": condition.holds}


def _host(host: "HostVerdict") -> dict[str, Any]:
    fields = plain(host)
    renamed = {"available_bytes": fields.pop("room"), "container_bytes": fields.pop("container")}
    swapped = fields.pop("swapped")
    more = {"swapped_bytes": swapped} if swapped else {}
    return {**fields, **renamed, "available": host.available, **more}


def plain(record: Any) -> dict[str, Any]:
    """Return a record as JSON, by the names of its fields."""
    names = fields_of(record) or record._fields
    return {name: _plain(getattr(record, name)) for name in names}


def _plain(value: Any) -> Any:
    """Return a value as JSON: records as mappings, text without its key, tuples as lists."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "_fields"):
        return plain(value)
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value

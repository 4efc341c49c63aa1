"""The answer as one frozen record; renderers and `to_dict` read it, nothing computes from it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from weighbridge._version import __version__
from weighbridge.memory import LEVELS, Bytes, Component, Device, Exact, Phase, compared
from weighbridge.report.forms import Shown
from weighbridge.report.keys import DerivedFacts, EffectiveSettings

if TYPE_CHECKING:
    from weighbridge.quantization.quality import Finding
    from weighbridge.report.verdict import HostVerdict, Price, Remedy, Verdict

SCHEMA = "weighbridge.report/1"


class ModelFacts(NamedTuple):  # not a frozen dataclass, here and below: every start makes it
    """What was weighed. Counts are of the class that the config names, ties once."""

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
    rough: bool = False  # from a bare size: nothing but the parameter count is known


class Row(NamedTuple):
    """One line of the load table: what the weights would take in one format."""

    dtype: str
    largest_layer: str
    largest_layer_bytes: int
    total_bytes: int
    training_adam_bytes: int | None
    training_adam_pure_bytes: int | None
    basis: str  # "division" of all parameters alike, or "format": scales and exceptions counted
    left_alone: str = ""  # what the format keeps in the model's own dtype
    quality: "Finding | None" = None  # None where no published figure is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Shown):
    """What was asked, of which model, and what it takes on every device."""

    task: str
    model: ModelFacts
    workload: EffectiveSettings
    devices: tuple[Device, ...]
    derived: DerivedFacts = field(default_factory=DerivedFacts)
    table: tuple[Row, ...] = ()
    verdict: "Verdict | None" = None
    warnings: tuple[str, ...] = ()
    remedies: "tuple[Remedy, ...]" = ()

    @property
    def peak(self) -> Bytes:
        """Driver-level peak of the fullest accelerator; of the host where there is none."""
        gpus = [d for d in self.devices if d.kind == "gpu"] or self.devices
        return max((d.peak("driver") for d in gpus), key=lambda b: b.expected)

    def setting(self, name: str) -> Any:
        """Return a setting as it was used; None where there is none of that name."""
        return self.workload.get(name)

    def to_dict(self) -> dict[str, Any]:
        """The JSON report (docs/report.md): bytes are integers."""
        facts = self.model
        return {
            "schema": SCHEMA,
            "version": __version__,
            "task": self.task,
            "model": {
                "reference": facts.reference,
                "revision": facts.revision,
                "name": facts.name,
                "architecture": facts.architecture,
                "parameters": facts.parameters,
                "active_parameters": facts.active_parameters,
                "stored_bytes": facts.stored_bytes,
                "download_bytes": facts.download_bytes,
                "read_from": list(facts.read_from),
                "parts": [{"name": n, "parameters": count} for n, count in facts.parts],
                "rough": facts.rough,
            },
            "workload": dict(self.workload),
            "devices": list(_devices(self.devices)),
            "derived": dict(self.derived),
            "table": [_row(r) for r in self.table],
            "verdict": None if self.verdict is None else _verdict(self.verdict),
            "remedies": [as_dict(r) for r in self.remedies],
            "warnings": list(self.warnings),
        }


def _bytes(b: Bytes) -> dict[str, int]:
    return b._asdict()


def _component(c: Component) -> dict[str, Any]:
    return {
        "name": c.name,
        "detail": c.detail,
        "level": c.level,
        "bytes": _bytes(c.bytes),
        "basis": c.basis,
        "formula": c.formula,
        "source": c.source,
        "droppable": c.droppable,
    }


def _phase(p: Phase) -> dict[str, Any]:
    return {
        "name": p.name,
        "bytes": _bytes(p.at("driver")),
        "components": [_component(c) for c in p.components],
    }


def _devices(devices: Iterable[Device]) -> Iterator[dict[str, Any]]:
    """Ranks that are alike have the same phases, which are written out once."""
    shown: dict[tuple[int, int, int | None], dict[str, Any]] = {}
    for d in devices:
        key = id(d.phases), id(d.exact), d.taken
        if key not in shown:
            shown[key] = _device(d)
        yield {**shown[key], "index": d.index, "kind": d.kind}


def _device(d: Device) -> dict[str, Any]:
    return {
        "index": d.index,
        "kind": d.kind,
        "peak_phase": d.peak_phase,
        "peak": {level: _bytes(d.peak(level)) for level in LEVELS},
        "taken": d.taken,
        "exact": None if d.exact is None else _exact(d.exact),
        "phases": [_phase(p) for p in d.phases],
    }


def _exact(e: Exact) -> dict[str, Any]:
    return {"source": e.source, "phases": [_compared(*pair) for pair in e.phases]}


def _compared(closed: Phase, traced: Phase) -> dict[str, Any]:
    """The difference is what was traced less what the closed form expects."""
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


def _levels(p: Phase) -> dict[str, Any]:
    return {level: _bytes(p.at(level)) for level in LEVELS}


def _row(r: Row) -> dict[str, Any]:
    return {
        "dtype": r.dtype,
        "largest_layer": r.largest_layer,
        "largest_layer_bytes": r.largest_layer_bytes,
        "total_bytes": r.total_bytes,
        "training_adam_bytes": r.training_adam_bytes,
        "training_adam_pure_bytes": r.training_adam_pure_bytes,
        "basis": r.basis,
        "left_alone": r.left_alone,
        "quality": None if r.quality is None else r.quality.to_dict(),
    }


def as_dict(r: "Remedy") -> dict[str, Any]:
    return {
        "change": dict(r.change),
        "peak_bytes": r.peak_bytes,
        "fits": r.fits,
        "cost": r.cost,
        "flags": r.flags,
        "source": r.source,
        "paste": r.paste,
        "note": r.note,
        "margin_bytes": r.margin_bytes,
        "per_device": None if r.per_device is None else _bytes(r.per_device),
        "price": None if r.price is None else _price(r.price),
        "kind": r.kind,
    }


def _price(p: "Price") -> dict[str, float]:
    return {
        "quality": p.quality,
        "speed": p.speed,
        "scope": p.scope,
        "effort": p.effort,
        "money": p.money,
        "points": p.points,
    }


def _verdict(v: "Verdict") -> dict[str, Any]:
    return {
        "accelerator": v.accelerator,
        "accelerator_id": v.accelerator_id,
        "count": v.count,
        "usable_bytes": v.usable_bytes,
        "fits": v.fits,
        "margin_bytes": v.margin_bytes,
        "reason": v.reason,
        "marketed_gb": v.marketed_gb,
        "total": _bytes(v.total),
        "visible": _bytes(v.visible),
        "usable": _bytes(v.usable),
        "headroom_bytes": v.headroom_bytes,
        "per_device": _bytes(v.per_device),
        "devices_used": v.devices_used,
        "basis": v.basis,
        "source": v.source,
        "published": None if v.published is None else dict(v.published),
        "host": None if v.host is None else _host(v.host),
        "share_that_fits": v.share_that_fits,
        "tight": v.tight,
        "tipped_by": v.tipped_by,
        "nodes": v.nodes,
        **({"usable_each_bytes": list(v.usable_each)} if v.usable_each else {}),
    }


def _host(h: "HostVerdict") -> dict[str, Any]:
    return {
        "needed": _bytes(h.needed),
        "phase": h.phase,
        "available": h.available,
        "fits": h.fits,
        "reason": h.reason,
        "share_that_fits": h.share_that_fits,
        "tight": h.tight,
        "tipped_by": h.tipped_by,
    }

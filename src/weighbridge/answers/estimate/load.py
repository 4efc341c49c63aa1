"""`load`: memory of a model's weights, in the chosen format and in every other one."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from weighbridge.answers import bounds
from weighbridge.answers.estimate.facts import cautions, facts
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.base.memo import memo
from weighbridge.base.memory import Basis, Component, Device, Instant
from weighbridge.engines import ignorance
from weighbridge.engines.format_choice import Decision, by_transformers, decide, native_dtype
from weighbridge.engines.table import record, usual
from weighbridge.engines.transformers import rules as transformers
from weighbridge.memory.components import device, host, spelled
from weighbridge.memory.components.table import largest_kept_whole, table
from weighbridge.memory.components.weights import (
    Choices,
    FormatChoice,
    by_module,
    formats,
    stacked,
    tensors,
    unpacked_experts,
    volatile_bytes,
    weight_bytes,
)
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.models.checkpoint.model import Model
from weighbridge.models.quantization.scheme import Scheme
from weighbridge.workload import Load

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part
    from weighbridge.machines.accelerators.pools import MachineMemory
    from weighbridge.memory.report.verdict import Verdict

BASIS: dict[bool, Basis] = {True: "read", False: "computed"}  # keyed by `as_stored`
STACKED = 5  # first transformers major that stacks the experts of a layer in one tensor
METAL = "mlx-lm"  # the engine that loads MLX formats
OTHERS = (
    "timm",
    "ultralytics",
    "torchvision",
    "diffusers",
    "torch",
)  # libraries that load their own models


def load(
    model: Model, workload: Load, margins: bounds.MarginTable | None = None, *, formats: bool = True
) -> Report:
    """Report the memory of `model`'s weights on one device: in the chosen format, and with
    `formats` in every one. `margins` replace the package's own table."""
    version = transformers.parse_version(workload.engine_version)
    major = version[0]
    default = by_transformers(major)
    decisions = {p.name: decide(p, workload, default, major=major) for p in model.parts}
    budget = workload.budget()
    card = budget.choice.part if budget is not None else None
    notes: list[str] = []
    if engine(model, decisions[model.parts[0].name].choice.scheme) == usual().name:
        _known(model, version)
        decisions, notes = _on_card(model, decisions, card, version)
        experts = (
            unpacked_experts(part, decisions[part.name].choice, major) for part in model.parts
        )
        notes += dict.fromkeys(filter(None, experts))
    first = decisions[model.parts[0].name]
    choices = {name: decision.choice for name, decision in decisions.items()}
    weights = {
        part.name: weight_bytes(part, choices[part.name], major=major) for part in model.parts
    }
    model_facts = facts(model)
    warm = workload.device_map is not None and transformers.warms_up(version)
    on_device = _on_device(
        model,
        sum(weights.values()),
        lambda: _settled(model, choices, major, warm=warm),
        first.choice,
        formula=spelled.parameters(
            model_facts.parameters, first.choice.name, sum(weights.values())
        ),
        part=card,
    )
    dtypes = {part.name: native_dtype(part) for part in model.parts}
    priced = table(model, dtypes, major=major) if formats else None
    on_host = _on_host(model, decisions, weights, version, mapped=workload.device_map is not None)
    gpu = Device(index=0, kind="gpu", phases=(on_device,))
    devices = (
        *bounds.widened((gpu,), runs(model, first.choice.scheme), margins),
        Device(index=0, kind="host", phases=(on_host,)),
    )
    return Report(
        task="load",
        model=model_facts,
        workload=effective(model, workload, decisions),
        devices=devices,
        derived=derived(model, decisions, major)
        | {
            "download_estimate_bytes": _download(model, decisions, weights, major),
            "unavailable_formats": priced.unavailable if priced else {},
        },
        table=priced.rows if priced else (),
        verdict=spilled(
            _verdict(model, budget, workload.host_memory(), devices, choices, major), workload
        ),
        warnings=(
            *model.notes,
            *ignorance.sentences(ignorance.of_name(model.notes)),
            *notes,
            *cautions(workload),
        ),
    )


def _known(model: Model, version: tuple[int, int]) -> None:
    """Raise ReleaseError if this release of transformers lacks the model's class."""
    from weighbridge.engines import model_classes
    from weighbridge.engines.weight_formats import Loader

    for part in model.parts:
        model_classes.check(part, Loader(usual(), version, None, model.reference))


def _verdict(
    model: Model,
    budget: "Budget | None",
    machine: "MachineMemory | None",
    devices: tuple[Device, ...],
    choices: Choices,
    major: int,
) -> "Verdict | None":
    """Return the verdict on devices and host; None if neither was named."""
    if budget is None and machine is None:
        return None
    from weighbridge.answers.verdict import on_devices, on_host

    if budget is None:
        return on_host.both(None, devices, machine)
    largest = _largest(model, choices, major) if budget.choice.count > 1 else None
    loader = engine(model, choices[model.parts[0].name].scheme)
    verdict = on_devices.verdict(devices[0], budget, engine=loader, largest_layer=largest)
    return on_host.both(verdict, devices, machine)


def _largest(model: Model, choices: Choices, major: int) -> int | None:
    """Return the bytes of the largest layer, which is never split over devices."""

    def nbytes() -> int:
        placed = tensors(model, choices, major=major)
        return largest_kept_whole(
            (tensor.module, tensor.nbytes * tensor.copies) for tensor in placed
        )

    return None if model.rough else memo(model, ("largest", formats(choices), major), nbytes)


def _settled(model: Model, choices: Choices, major: int, *, warm: bool) -> device.Settled:
    """Return all tensors placed on one device: in their own order after a warm-up, else as `.to`
    moves them. Since transformers 5 the experts of a layer are one tensor, unless quantized."""
    order = None if warm else transformers.placement_order
    facts = ("settled", formats(choices), major, warm)
    loading = tensors if warm else by_module
    whole = major >= STACKED and all(choice.scheme is None for choice in choices.values())

    def place() -> device.Settled:
        placed = loading(model, choices, major=major)
        return device.settled(stacked(placed) if whole else placed, order)

    return memo(model, facts, place)


def _on_card(
    model: Model,
    decisions: Mapping[str, Decision],
    card: "Part | None",
    version: tuple[int, int],
) -> tuple[dict[str, Decision], list[str]]:
    """Return what is loaded on a card without units for it, dequantized, and the notes about it."""
    if card is None:
        return dict(decisions), []
    from weighbridge.engines.transformers import formats

    changed, notes, how = {}, [], formats.Unpacking(card, version)
    for part in model.parts:
        before = decisions[part.name]
        choice, note = formats.unpacked(before.choice, part, how)
        changed[part.name] = Decision(choice, f"{before.choice.name} unpacked") if note else before
        notes += [note, formats.advised(card, choice)]
    return changed, list(dict.fromkeys(filter(None, notes)))


def _on_host(
    model: Model,
    decisions: Mapping[str, Decision],
    weights: Mapping[str, int],
    version: tuple[int, int],
    *,
    mapped: bool,
) -> Instant:
    """Return the host's phase: the process, and the bytes it holds of each part while loading."""
    loader = engine(model, decisions[model.parts[0].name].choice.scheme)
    components = [_process(loader)]
    for part in model.parts:
        choice = decisions[part.name].choice
        straight = mapped or one_buffer(loader)
        components += host.while_loading(
            part,
            host.loaded(part, choice, weights[part.name], native_dtype(part)),
            host.HostReading(straight=host.straight(choice.scheme, device_map=straight)),
            version=version,
        )
    return Instant("load", tuple(components))


def _process(loader: str) -> Component:
    """Return the memory of the loading process: llama.cpp's is small."""
    if one_buffer(loader):
        from weighbridge.engines.llama_cpp.process import PROCESS

        return host.processes(1, PROCESS)
    return host.processes(1)


def _on_device(
    model: Model,
    weights: int,
    settled: Callable[[], device.Settled],
    first: FormatChoice,
    *,
    formula: str,
    part: "Part | None",
) -> Instant:
    form, basis = first.scheme, BASIS[first.as_stored]
    if model.rough:
        alone = device.words_alone(model.parameters, first, weights)
        return device.rough(weights, part, alone=alone)
    if one_buffer(engine(model, form)):
        return device.in_one_buffer(weights, formula=formula, basis=basis, part=part)
    return device.loaded(settled(), formula=formula, basis=basis, part=part)


def runs(model: Model, form: Scheme | None) -> bounds.RunForm:
    """Return the kind of published runs whose margins apply."""
    return bounds.RunForm(
        "load",
        engine(model, form),
        bounds.form(form.name if form else None),
        doubt=ignorance.doubt(ignorance.of_name(model.notes)),
    )


def engine(model: Model, form: Scheme | None = None) -> str:
    """Return the engine that loads the model's files, or the format `form` if it belongs to one."""
    if form is not None and form.engine:
        return form.engine
    kinds = {part.library: None for part in model.parts}
    if "gguf" in kinds:
        return usual(gguf=True).name
    return next((kind for kind in kinds if kind in OTHERS), usual().name)


def one_buffer(loader: str) -> bool:
    """Return whether tensors are loaded into one buffer, without a caching allocator."""
    return loader == METAL or record(loader).reads == "gguf"


def effective(model: Model, workload: Load, decisions: Mapping[str, Decision]) -> EffectiveSettings:
    """Return every setting as it was used, defaults included. Parts of a pipeline may differ."""
    first = next(iter(decisions.values()))
    form = first.choice.scheme
    name = engine(model, form)
    dtypes = dict.fromkeys(decision.choice.dtype.name for decision in decisions.values())
    newest = transformers.NEWEST if record(name).reads == "any" else None
    return {
        "engine": name,
        "engine_version": workload.engine_version or newest,
        "dtype": " and ".join(dtypes),
        "quantization": form.name if form else None,
        "device_map": workload.device_map,
        "base_model": workload.base_model,
        "gpu": workload.gpu,
        "gpu_memory": workload.gpu_memory,
        "headroom": workload.headroom,
        "ram": workload.ram,
        "platform": workload.platform,
    }


def _download(
    model: Model, decisions: Mapping[str, Decision], weights: Mapping[str, int], major: int
) -> int | None:
    """Return an estimate of the download in bytes, from the dtypes in the config; None if the file
    sizes are known.

    `weights` are the bytes of each part as loaded, mostly the same as stored.
    """
    if model.download_bytes is not None or model.rough:
        return None
    nbytes = 0
    for part in model.parts:
        plain, chosen = (
            decide(part, Load(), by_transformers(5)).choice,
            decisions[part.name].choice,
        )
        same = major >= 5 and (plain.name, plain.dtype) == (chosen.name, chosen.dtype)
        stored = weights[part.name] if same else weight_bytes(part, plain, major=5)
        nbytes += stored
    return nbytes


def derived(model: Model, decisions: Mapping[str, Decision], major: int) -> DerivedFacts:
    """Return the facts that follow from the model and are no settings."""
    unloaded = [tensor for part in model.parts for tensor in part.unloaded]
    return {
        "dtype_from": ", ".join(dict.fromkeys(decision.why for decision in decisions.values())),
        "as_stored": any(decision.choice.as_stored for decision in decisions.values()),
        "unloaded_tensors": len(unloaded),
        "unloaded_bytes": sum(tensor.nbytes for tensor in unloaded),
        "volatile_buffer_bytes": sum(volatile_bytes(part, major) for part in model.parts),
    }

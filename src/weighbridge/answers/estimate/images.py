"""Networks that see one picture: what a forward of a batch takes, beside what loading takes.

load      the weights, as `load` answers
forward   a batch of pictures through the network, without gradients: run over shapes by the
          program of its kind, with the allocator replayed (weighbridge.pictures.images)
"""

from weighbridge.answers import bounds
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.base.dtypes import TORCH as DTYPES
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.machines.accelerators.chips import ASSUMED
from weighbridge.machines.kernels import workspaces
from weighbridge.memory.components import device
from weighbridge.memory.components.activations import LivePeak
from weighbridge.memory.components.weights import buffer_size
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.memory.report.verdict import Verdict
from weighbridge.models.checkpoint.model import Model, ModelPart
from weighbridge.pictures import images
from weighbridge.pictures.images import Seen
from weighbridge.pictures.values import TORCH
from weighbridge.workload import Infer

SIDE = 224  # of most networks of ImageNet, where neither the name nor a size says
BESIDE = frozenset(("workspaces", "temporaries"))
HELD = frozenset(("weights", "buffers", "inputs"))
SOURCE = "timm 1.0.31, run over shapes; c10/cuda/CUDACachingAllocator.cpp, replayed"


def known(model: Model, w: Infer) -> bool:
    """Tell whether a network's forward is followed: alone, as it is stored, in one dtype."""
    part = model.parts[0]
    alone = len(model.parts) == 1 and not model.rough
    plain = w.quantization is None and not part.packed
    return alone and plain and images.program(_shapes(part)) is not None


def weighed(model: Model, w: Infer, loaded: Report) -> Report | None:
    """Return the report with a forward beside loading; None where a tensor has no operator here."""
    budget = w.budget()
    seen = _seen(model.parts[0], w, str(loaded.workload["dtype"]), budget)
    try:
        peak = images.peak(seen)
    except UnsupportedError:
        return None
    gpu, *others = loaded.devices
    instant = _margined(_instant(peak, model.parts[0], budget), budget)
    devices = (replace(gpu, phases=(*gpu.phases, instant)), *others)
    settings: EffectiveSettings = {
        "context": w.context,
        "batch_size": seen.batch,
        "image_size": [seen.height, seen.width],
    }
    derived: DerivedFacts = {
        "dtype_from": loaded.derived["dtype_from"],
        "as_stored": loaded.derived["as_stored"],
        "volatile_buffer_bytes": loaded.derived["volatile_buffer_bytes"],
        "context_from": "",
        "longest_context": None,
        "not_counted": [],
    }
    return replace(
        loaded,
        task="infer",
        workload=loaded.workload | settings,
        devices=devices,
        derived=derived,
        table=(),
        verdict=_verdict(devices, w, budget),
        warnings=(*loaded.warnings, *_unmeasured(budget)),
    )


def _shapes(part: ModelPart) -> dict[str, tuple[int, ...]]:
    return {param.name: param.shape for param in part.blueprint.params}


def _seen(part: ModelPart, w: Infer, dtype: str, budget: Budget | None) -> Seen:
    kind, shapes = DTYPES[dtype], _shapes(part)
    height, width = w.image_size or images.usual(shapes) or (SIDE, SIDE)
    return Seen(
        shapes=images.resized(shapes, height, width),
        buffers=tuple(buffer_size(one, kind) for one in part.blueprint.buffers),
        dtype=kind,
        batch=w.batch_size or 1,
        height=height,
        width=width,
        chip=(None if budget is None else budget.choice.part.chip) or ASSUMED,
    )


def _instant(peak: LivePeak, part: ModelPart, budget: Budget | None) -> Instant:
    card, live = None if budget is None else budget.choice.part, peak.live
    computed = sum(n for name, n in live.items() if name not in BESIDE | HELD)
    cls = part.blueprint.cls
    rows = (
        ("weights", "", live["weights"], f"parameters of {cls}", "the class's tensors"),
        ("buffers", "", live.get("buffers", 0), f"buffers of {cls}", "the class's tensors"),
        ("activations", "pictures", live["inputs"], "the batch, channels first", SOURCE),
        ("activations", cls, computed, f"the forward of {cls}", SOURCE),
        (
            "workspaces",
            "",
            sum(live.get(name, 0) for name in BESIDE),
            "cuBLAS; cuDNN puts channels last beside a convolution",
            "machines/kernels/workspaces.py",
        ),
        ("rounding", "", peak.rounding, "blocks of 512 bytes", device.REPLAY),
    )
    counted = (
        Component(
            name=name,
            detail=detail,
            bytes=exactly(n),
            basis="computed",
            formula=formula,
            source=source,
        )
        for name, detail, n, formula, source in rows
        if n
    )
    free = Component(
        name="fragmentation",
        bytes=device.cached(peak.fragmentation),
        basis="computed",
        formula="cached blocks that nothing lives in",
        source=device.REPLAY,
    )
    return Instant("forward", (*counted, free, device.context(card), device.libraries(TORCH, card)))


def _margined(instant: Instant, budget: Budget | None) -> Instant:
    """Widen by the margin of programs with convolutions that were run again, upwards by more on a
    chip that none of them ran on."""
    like = bounds.RunForm("trace", "torch", bounds.CONVOLUTIONS)
    margined = bounds.phase(instant, like)
    if not _unmeasured(budget):
        return margined
    more = margined.at("driver").expected * workspaces.UNMEASURED // 100
    beyond = Component(
        name="workspaces",
        detail="of chips that nobody measured",
        bytes=Bytes(0, 0, more),
        basis="assumed",
        formula=f"cuDNN chose up to {workspaces.UNMEASURED} % more in all",
        source="people's own reports",
    )
    return replace(margined, components=(*margined.components, beyond))


def _unmeasured(budget: Budget | None) -> tuple[str, ...]:
    part = None if budget is None else budget.choice.part
    chip = None if part is None else part.chip
    if part is None or (chip and workspaces.is_measured(chip.capability, TORCH)):
        return ()
    return (sentence("images.unmeasured", card=part.name, percent=workspaces.UNMEASURED),)


def _verdict(devices: tuple[Device, ...], w: Infer, budget: Budget | None) -> Verdict | None:
    from weighbridge.answers.verdict import on_devices, on_host

    judged = None if budget is None else on_devices.serving(devices, budget)
    return spilled(on_host.both(judged, devices, w.host_memory()), w)

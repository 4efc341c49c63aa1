"""Networks that process one picture: memory of a forward pass on a batch, on top of loading.

load      the weights, as `load` answers
forward   a batch of pictures through the network, without gradients: run over shapes by the
          program of its kind, with the allocator replayed (weighbridge.pictures.images)
"""

import re
from collections.abc import Mapping
from typing import Any

from weighbridge.answers import bounds
from weighbridge.answers.estimate import detection
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.base.dtypes import TORCH as DTYPES
from weighbridge.base.dtypes import DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly, within
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.engine import version, written
from weighbridge.engines.table import usual as usual_engine
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.machines.accelerators.chips import ASSUMED
from weighbridge.machines.kernels import workspaces
from weighbridge.memory.components import device
from weighbridge.memory.components.activations import LivePeak
from weighbridge.memory.components.weights import buffer_size
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.memory.report.verdict import Verdict
from weighbridge.models import catalogue
from weighbridge.models.checkpoint.model import Model, ModelPart
from weighbridge.pictures import images
from weighbridge.pictures.images import SeenImages
from weighbridge.pictures.nets import rcnn
from weighbridge.pictures.seeing import seeing, sees
from weighbridge.pictures.values import TORCH
from weighbridge.workload import Infer, Train

SIDE = 224  # pixels, of most ImageNet networks, if neither name nor config has a size
NAMED = "swin", "vit", "deit"
# timm 1.0.31 models/{efficientnet,mobilenetv3,convnext,eva}.py, default_cfgs
SIDES = {
    "efficientnet_b1": 240,
    "efficientnet_b2": 256,
    "efficientnet_b3": 288,
    "efficientnet_b4": 320,
    "efficientnet_b5": 448,
    "efficientnet_b6": 528,
    "efficientnet_b7": 600,
    "efficientnet_b8": 672,
    "tf_efficientnet_b1": 240,
    "tf_efficientnet_b2": 260,
    "tf_efficientnet_b3": 300,
    "tf_efficientnet_b4": 380,
    "tf_efficientnet_b5": 456,
    "tf_efficientnet_b6": 528,
    "tf_efficientnet_b7": 600,
    "tf_efficientnet_b8": 672,
    "efficientnetv2_s": 288,
    "efficientnetv2_m": 320,
    "efficientnetv2_l": 384,
    "efficientnetv2_xl": 384,
    "tf_efficientnetv2_b0": 192,
    "tf_efficientnetv2_b1": 192,
    "tf_efficientnetv2_b2": 208,
    "tf_efficientnetv2_b3": 240,
    "tf_efficientnetv2_s": 300,
    "tf_efficientnetv2_m": 384,
    "tf_efficientnetv2_l": 384,
    "tf_efficientnetv2_xl": 384,
    "mobilenetv4_conv_medium": 256,
    "mobilenetv4_conv_large": 384,
    "convnextv2_huge": 384,
}
OF_KINDS = {"dinov3": 256}
# Options of transformers' ResNet that move the stride to other convolutions than assumed here
OTHERWISE = "downsample_in_first_stage", "downsample_in_bottleneck"
OTHER_GELU = "quickgelu"  # in names of networks whose GELU is written out in several operators
BESIDE = frozenset(("workspaces", "temporaries"))
TRAINED = "gradients", "optimizer_states", "adapters"
HELD = frozenset(("weights", "buffers", "inputs", *TRAINED))
MOVING = frozenset(("activations", "workspaces"))
SOURCE = (
    "timm 1.0.31, transformers 5.23 and ultralytics 8.4, run over shapes;"
    " c10/cuda/CUDACachingAllocator.cpp, replayed"
)


def known(model: Model, w: Infer | Train) -> bool:
    """Return whether the forward is supported: one unquantized network, without odd options."""
    part = model.parts[0]
    alone = len(model.parts) == 1 and not model.rough
    plain = w.quantization is None and not part.packed
    otherwise = OTHER_GELU in str(part.config.get("architecture"))
    if not alone or not plain or otherwise or any(part.config.get(name) for name in OTHERWISE):
        return False
    return sees(part.config) or images.program(_shapes(part)) is not None


def weighed(model: Model, w: Infer, loaded: Report) -> Report | None:
    """Return `loaded` with a forward phase added; None if an operator is not supported."""
    budget = w.budget()
    one = seen(model.parts[0], w, DTYPES[str(loaded.workload["dtype"])], budget)
    try:
        peak = images.peak(one)
    except UnsupportedError:
        return None
    gpu, *others = loaded.devices
    boxes = detection.kept(model.parts[0], one)
    forward = instant("forward", peak, model.parts[0], budget, more=boxes)
    devices = (replace(gpu, phases=(*gpu.phases, forward)), *others)
    settings: EffectiveSettings = {
        "context": w.context,
        "batch_size": one.batch,
        "image_size": [one.height, one.width],
    }
    if loaded.workload["engine_version"] is not None:
        settings["engine_version"] = written(version(usual_engine(), w.engine_version)[0])
    derived: DerivedFacts = {
        "dtype_from": loaded.derived["dtype_from"],
        "as_stored": loaded.derived["as_stored"],
        "volatile_buffer_bytes": loaded.derived["volatile_buffer_bytes"],
        "context_from": "",
        "longest_context": None,
        "not_counted": [],
        "launch": _lines(model, one, str(loaded.workload["dtype"])),
    }
    return replace(
        loaded,
        task="infer",
        workload=loaded.workload | settings,
        devices=devices,
        derived=derived,
        table=(),
        verdict=verdict(devices, w, budget),
        warnings=(*loaded.warnings, *resized(one), *unmeasured(budget)),
    )


def _lines(model: Model, one: SeenImages, dtype: str) -> str | None:
    """Return Python lines that run this forward; None if the network's architecture is unknown."""
    part = model.parts[0]
    shape = f"{one.batch}, 3, {one.height}, {one.width}"
    pixels = f'torch.randn({shape}, device="cuda", dtype=torch.{dtype})'
    if part.library == catalogue.YOLO:
        sides = f"imgsz=({one.height}, {one.width}), batch={one.batch}"
        return (
            f'from ultralytics import YOLO; YOLO("{model.name}.pt").predict("pictures/", {sides})'
        )
    if part.library == catalogue.TORCHVISION:
        function = f'{part.config.get("architecture")}(weights="DEFAULT")'
        return "\n".join(
            (
                "import torch; from torchvision.models import detection",
                f'net = detection.{function}.eval().to("cuda", torch.{dtype})',
                "with torch.no_grad():",
                f"    out = net(list({pixels}))",
            )
        )
    if part.library == "transformers":
        cls = part.blueprint.cls
        made = f'{cls}.from_pretrained("{model.loads_as}", dtype=torch.{dtype})'
        imports, made = f"import torch; from transformers import {cls}", f'{made}.to("cuda")'
        return "\n".join(
            (imports, f"net = {made}", "with torch.no_grad():", f"    out = net({pixels})")
        )
    name = part.config.get("architecture")
    if not isinstance(name, str) or not name.isidentifier():
        return None
    made = f'timm.create_model("{name}", pretrained=True).eval().to("cuda", torch.{dtype})'
    return "\n".join(
        ("import timm, torch", f"net = {made}", "with torch.no_grad():", f"    out = net({pixels})")
    )


def usual(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the (height, width) of pictures that a network was made for, in pixels: from its
    config, its name, or its class."""
    pretrained = config.get("pretrained_cfg")
    sides = pretrained.get("input_size") if isinstance(pretrained, Mapping) else None
    if isinstance(sides, list) and len(sides) == 3 and all(type(n) is int for n in sides):
        return sides[1], sides[2]
    size = config.get("image_size")
    if type(size) is int and size > 0:
        return size, size
    name = str(config.get("architecture")).partition(".")[0]
    named = re.search(r"_(\d{3})$", name) if name.startswith(NAMED) else None
    of_kind = next((side for kind, side in OF_KINDS.items() if kind in name), SIDE)
    side = int(named[1]) if named else SIDES.get(name, of_kind)
    return side, side


def _shapes(part: ModelPart) -> dict[str, tuple[int, ...]]:
    return {param.name: param.shape for param in part.blueprint.params}


def seen(part: ModelPart, w: Infer | Train, kind: DType, budget: Budget | None) -> SeenImages:
    """Return the forward's input on the card: pictures of the requested size, or the usual one."""
    shapes = _shapes(part)
    known_class = seeing(part.config)
    usual_sides = None if known_class is None else (known_class.height, known_class.width)
    height, width = w.image_size or usual_sides or images.usual(shapes) or usual(part.config)
    return SeenImages(
        shapes=images.resized(shapes, height, width),
        buffers=tuple(buffer_size(one, kind) for one in part.blueprint.buffers),
        dtype=kind,
        batch=w.batch_size or 1,
        height=height,
        width=width,
        chip=(None if budget is None else budget.choice.part.chip) or ASSUMED,
        detections=detection.DETECTED[0],
        config={} if known_class is None else part.config,
        pads_copies=str(part.config.get("architecture")).startswith("tf_"),
        averaged=isinstance(w, Train) and detection.finds_boxes(part),
    )


def instant(
    phase: str,
    peak: LivePeak,
    part: ModelPart,
    budget: Budget | None,
    spread: float | None = None,
    more: tuple[Component, ...] = (),
) -> Instant:
    """Return one phase of a network, with its margin. `spread` is the relative margin of what a
    training step computes, None in inference; `more` are components outside the network."""
    card, live = None if budget is None else budget.choice.part, peak.live
    computed = sum(n for name, n in live.items() if name not in BESIDE | HELD)
    cls = part.blueprint.cls
    rows = (
        *((name, "", live.get(name, 0), f"parameters of {cls}", SOURCE) for name in TRAINED),
        ("weights", "", live["weights"], f"parameters of {cls}", "the class's tensors"),
        ("buffers", "", live.get("buffers", 0), f"buffers of {cls}", "the class's tensors"),
        ("activations", "pictures", live.get("inputs", 0), "the batch, channels first", SOURCE),
        ("activations", cls, computed, f"the forward of {cls}", SOURCE),
        (
            "workspaces",
            "",
            sum(live.get(name, 0) for name in BESIDE),
            "cuBLAS; cuDNN puts channels last beside a convolution",
            "machines/kernels/workspaces.py",
        ),
    )
    counted = (
        Component(
            name=name,
            detail=detail,
            bytes=within(n, spread or 0) if name in MOVING else exactly(n),
            basis="computed",
            formula=formula,
            source=source,
        )
        for name, detail, n, formula, source in rows
        if n
    )
    parts = (
        *counted,
        *more,
        device.rounding(peak.rounding),
        device.fragmentation(device.cached(peak.fragmentation)),
        device.context(card),
        device.libraries(TORCH, card, training=spread is not None),
    )
    return _margined(Instant(phase, parts), budget)


def _margined(one: Instant, budget: Budget | None) -> Instant:
    """Return the phase with the margin of reproduced convolutional programs, and a higher high end
    on a chip that none of them ran on."""
    like = bounds.RunForm("trace", "torch", bounds.CONVOLUTIONS)
    margined = bounds.phase(one, like)
    if not unmeasured(budget):
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


def resized(one: SeenImages) -> tuple[str, ...]:
    """Return a warning about the picture size inside the network, if its class resizes pictures."""
    known_class = seeing(one.config)
    if known_class is None or not known_class.resizes:
        return ()
    tall, wide = rcnn.network_sides(one.height, one.width)
    size = f"{one.width} x {one.height}"
    return (sentence("images.resized", size=size, within=f"{wide} x {tall}"),)


def unmeasured(budget: Budget | None) -> tuple[str, ...]:
    part = None if budget is None else budget.choice.part
    chip = None if part is None else part.chip
    if part is None or (chip and workspaces.is_measured(chip.capability, TORCH)):
        return ()
    return (sentence("images.unmeasured", card=part.name, percent=workspaces.UNMEASURED),)


def verdict(devices: tuple[Device, ...], w: Infer | Train, budget: Budget | None) -> Verdict | None:
    from weighbridge.answers.verdict import on_devices, on_host

    judged = None if budget is None else on_devices.serving(devices, budget)
    return spilled(on_host.both(judged, devices, w.host_memory()), w)

"""Training of a pipeline's denoiser: what a step takes, phase by phase, on the card and beside it.

cache    encoders that run before the steps      load      what stays
encode   encoders that run in each step          forward, backward, step
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.answers.estimate.facts import cautions, facts
from weighbridge.answers.estimate.pictures import known
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.memory.components import device, host, spelled
from weighbridge.memory.components.activations import LivePeak
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import EffectiveSettings
from weighbridge.models.checkpoint.model import Model
from weighbridge.pictures import formats
from weighbridge.pictures.adapting import PictureAdapters
from weighbridge.pictures.base import known as read
from weighbridge.pictures.base import stored
from weighbridge.pictures.config import class_of
from weighbridge.pictures.spec import row_of
from weighbridge.pictures.swapping import most
from weighbridge.pictures.training import EMA, PHASES, PicturePlan, PictureRun, run
from weighbridge.pictures.training_request import notes, plan, trainer_of
from weighbridge.pictures.values import TORCH
from weighbridge.training.forward.ops.packed import DEQUANTIZED
from weighbridge.workload.picture_training import PictureTraining

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

UNREAD = 25  # percent more, of a format whose linears were not followed
MOVING = ("activations", "temporaries", DEQUANTIZED)
NAMES = {DEQUANTIZED: "activations", EMA: "weights"}
SOURCE = "diffusers 0.42, run over shapes; training/forward"


def train(model: Model, w: PictureTraining) -> Report:
    """Raises UnsupportedError for a pipeline of which a network has no program, UsageError for
    settings that contradict it."""
    row = row_of(model)
    parts = {p.name: p for p in model.parts}
    known(row, parts)
    budget = w.budget()
    card = None if budget is None else budget.choice.part
    asked = plan(row, parts, w, None if card is None else card.chip)
    ran = run(asked)
    spread = trainer_of(w).spread(class_of(asked.denoiser.config))
    spread += 0 if read(asked.form) else UNREAD
    phases = tuple(_phase(asked, ran, name, spread, card) for name in PHASES if name in ran.moments)
    devices = (
        Device(index=0, kind="gpu", phases=phases),
        Device(index=0, kind="host", phases=(_host(asked, ran),)),
    )
    from weighbridge.answers.verdict import on_devices, on_host

    judged = None if budget is None else on_devices.serving(devices, budget)
    return Report(
        task="train",
        model=facts(model),
        workload=_effective(asked, w),
        devices=devices,
        derived={
            "trainable_parameters": ran.trained,
            "saved_activation_bytes": ran.saved,
            "blocks": most(asked.denoiser.blueprint.counted, combined=asked.combined),
            "denoiser_class": class_of(asked.denoiser.config),
        },
        verdict=spilled(on_host.both(judged, devices, w.host_memory()), w),
        warnings=(*model.notes, *notes(row, w, asked), *cautions(w)),
    )


def _phase(
    asked: PicturePlan, ran: PictureRun, name: str, spread: int, card: "Part | None"
) -> Instant:
    peak = ran.moments[name]
    return Instant(
        name,
        (
            *_live(asked, ran, peak, spread),
            device.rounding(peak.rounding),
            device.fragmentation(device.cached(max(0, ran.reserved[name] - peak.allocated))),
            device.context(card),
            device.libraries(TORCH, card),
        ),
    )


def _live(asked: PicturePlan, ran: PictureRun, peak: LivePeak, spread: int) -> Iterator[Component]:
    """Yield what tensors live for. What moves is as sure as whose code it is."""
    for what, nbytes in peak.live.items():
        moves = what in MOVING
        share = nbytes * spread // 100 if moves else 0
        part = what in asked.parts
        name = "weights" if part else NAMES.get(what, what)
        yield Component(
            name=name,
            detail=_detail(asked, what),
            bytes=Bytes(nbytes - share, nbytes, nbytes + share),
            basis="assumed" if moves and spread > ASSUMED else "computed",
            formula=_formula(asked, ran, what, nbytes),
            source=asked.optimizer.source if what == "optimizer_states" else SOURCE,
        )


ASSUMED = 5  # percent: a wider spread is none that was followed


def _detail(asked: PicturePlan, what: str) -> str:
    if what in asked.parts or what in NAMES:
        return what
    return asked.spec.denoiser if what == "weights" else ""


def _formula(asked: PicturePlan, ran: PictureRun, what: str, nbytes: int) -> str:
    trained = spelled.each(nbytes, ran.trained, "trained parameters")
    form = asked.form or asked.weights.name
    return {
        "weights": f"{asked.denoiser.blueprint.parameters:,} parameters, {form}",
        "adapters": trained,
        "gradients": trained,
        "optimizer_states": f"{trained}: {asked.optimizer.name}, {asked.optimizer.formula}",
        EMA: trained,
        "activations": f"kept for backward: checkpointing {asked.checkpointing}",
        "temporaries": "gradients of activations and what kernels take for a moment",
        DEQUANTIZED: "16 bits a number of packed linears, from forward to backward",
        "workspaces": "cuBLAS, one for each thread that multiplies",
    }.get(what, "the class's tensors")


def _host(asked: PicturePlan, ran: PictureRun) -> Instant:
    """The process, weights and activations that wait there, and pages of files."""
    parts: list[Component] = [host.processes(1)]
    waits = {
        "weights that wait": (ran.waiting, "blocks that are swapped, or layers that are streamed"),
        "inputs of blocks": (ran.away, "activations that checkpoints keep in host memory"),
    }
    for detail, (nbytes, formula) in waits.items():
        if nbytes:
            parts.append(
                Component(
                    name="weights",
                    detail=detail,
                    bytes=exactly(nbytes),
                    basis="computed",
                    formula=formula,
                    source="musubi-tuner modules/custom_offloading_utils.py",
                    passing=True,
                )
            )
    read_from = formats.nbytes(asked.denoiser, stored(None), asked.weights)
    parts.append(host.pages(read_from, source="diffusers 0.42 models/model_loading_utils.py"))
    return Instant("load", tuple(parts))


def _effective(asked: PicturePlan, w: PictureTraining) -> EffectiveSettings:
    """Collect every setting as it was used."""
    s, spec, adapters = asked.sizes, asked.spec, asked.adapters
    settings: EffectiveSettings = {
        "pipeline": spec.name,
        "method": "full" if adapters is None else adapters.method,
        "framework": trainer_of(w).name,
        "dtype": asked.weights.name,
        "quantization": w.quantization if asked.forms else None,
        "precision": w.precision or trainer_of(w).precision,
        "width": s.width * spec.space,
        "height": s.height * spec.space,
        "frames": (s.frames - 1) * spec.time + 1,
        "batch_size": s.batch,
        "prompt_tokens": s.text,
        "gradient_accumulation": asked.accumulation,
        "optimizer": asked.optimizer.name,
        "checkpointing": asked.checkpointing,
        "attention": asked.attention,
        **_beside_base(adapters),
        "blocks_to_swap": asked.blocks_to_swap,
    }
    where = ("gpu", "gpu_memory", "headroom", "ram", "platform")
    if asked.streaming != "none":
        settings |= {"streaming": asked.streaming, "offload_fraction": asked.waiting}
    settings |= {"drop": list(w.drop)} if w.drop else {}
    return settings | _switched(w) | {name: getattr(w, name) for name in where}


def _beside_base(adapters: PictureAdapters | None) -> EffectiveSettings:
    names = "lora_r", "lora_targets", "lora_dropout"
    if adapters is None:
        return dict.fromkeys(names)
    rank = None if adapters.method == "lokr" else adapters.rank
    values = rank, list(adapters.targets), adapters.dropout
    more = {"lora_conv_r": adapters.conv_rank} if adapters.conv_rank else {}
    return dict(zip(names, values, strict=True)) | more


def _switched(w: PictureTraining) -> EffectiveSettings:
    names = ("uncached_latents", "uncached_text", "train_text_encoder", "ema", "fuse_qkv")
    return {name: True for name in (*names, "fused_backward") if getattr(w, name)}

"""Training of a pipeline's denoiser: memory of a step by phase, on the card and on the host.

cache    encoders that run before the steps      load      weights that stay
encode   encoders that run in each step          forward, backward, step
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.answers.estimate.facts import cautions, facts
from weighbridge.answers.estimate.picture_host import InRam, on_host
from weighbridge.answers.estimate.pictures import known
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.units import ceil_div, power_of_two
from weighbridge.memory.components import device, spelled
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import EffectiveSettings
from weighbridge.models.checkpoint.model import Model
from weighbridge.pictures import formats
from weighbridge.pictures.adapting import PictureAdapters
from weighbridge.pictures.base import known as read
from weighbridge.pictures.base import stored
from weighbridge.pictures.components import unfused
from weighbridge.pictures.config import class_of
from weighbridge.pictures.formats import FP8
from weighbridge.pictures.spec import row_of
from weighbridge.pictures.swapping import most
from weighbridge.pictures.trainers import StepSpread
from weighbridge.pictures.training import EMA, PHASES, PicturePlan, PictureRun, run
from weighbridge.pictures.training_request import (
    again,
    notes,
    plan,
    trainer_of,
    with_less_of_factors,
)
from weighbridge.pictures.values import TORCH
from weighbridge.training.answer import MOST_LISTED
from weighbridge.training.forward.ops.packed import DEQUANTIZED
from weighbridge.workload.picture_training import PictureTraining

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

SENT = 4 + 2  # bytes per gradient element: 32 bits and 16 bits
SWAPPED = "musubi-tuner modules/custom_offloading_utils.py"
# Percent added at the high end for a float8 file with the program's own linears: all six published
# peaks of musubi-tuner and SimpleTuner were higher, by 66 to 198 % of MOVING; the cause is unknown
OF_FILES = 100
# Percent added if autocast runs norms in float32, as torch 2.12 and newer do: 11 for what a step of
# FLUX.1 saves, 16 for FLUX.2 klein
OF_NORMS = 17
UNREAD = 25  # percent, either way, for a format whose linears were not followed
MOVING = ("activations", "temporaries", DEQUANTIZED)
NAMES = {DEQUANTIZED: "activations", EMA: "weights"}
SOURCE = "diffusers 0.42, run over shapes; training/forward"
SWITCHES = (
    *("uncached_latents", "uncached_text", "train_text_encoder", "ema", "fuse_qkv", "compile"),
    *("fused_backward", "offload_attention", "vae_tiling"),
)


def train(model: Model, w: PictureTraining) -> Report:
    """Report a training step's memory by phase. Raises UnsupportedError if a network has no program
    here, UsageError for settings that contradict the pipeline."""
    row = row_of(model)
    parts = {p.name: p for p in model.parts}
    known(row, parts)
    budget = w.budget()
    card = None if budget is None else budget.choice.part
    asked = plan(row, parts, w, None if card is None else card.chip)
    ran = run(asked)
    cls = class_of(asked.denoiser.config)
    how = again(w, cls, most=True)
    least = ran if how == asked.checkpointing else run(replace(asked, checkpointing=how))
    most_trained = run(larger) if (larger := with_less_of_factors(asked, w)) else ran
    spread = _spread(asked, ran, trainer_of(w).spread(cls))
    whole = WholeStep(asked, ran, least, most_trained, spread)
    phases = tuple(_phase(whole, name, card) for name in PHASES if name in ran.moments)
    listed = range(min(asked.sharding.cards, MOST_LISTED))
    devices = (
        *(Device(index=i, kind="gpu", phases=phases) for i in listed),
        Device(index=0, kind="host", phases=(_host(asked, ran),)),
    )
    from weighbridge.answers.verdict import on_devices
    from weighbridge.answers.verdict.on_host import both

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
        verdict=spilled(both(judged, devices, w.host_memory()), w),
        warnings=(
            *model.notes,
            *notes(row, w, asked),
            *unfused(parts[row.denoiser].config, fused=w.fuse_qkv),
            *cautions(w),
        ),
    )


class WholeStep(NamedTuple):
    """A run with its lower and upper variants: `least` if checkpoints recompute all, `most` with
    adapters as large as in the program's examples."""

    asked: PicturePlan
    ran: PictureRun
    least: PictureRun
    most: PictureRun
    spread: StepSpread


def _spread(asked: PicturePlan, ran: PictureRun, spread: StepSpread) -> StepSpread:
    below, above = spread
    if ran.unsettled and below <= ASSUMED:
        above += OF_NORMS
    if not read(asked.form):
        below, above = below + UNREAD, above + UNREAD
    elif asked.form == FP8 and below > ASSUMED:
        above += OF_FILES
    return StepSpread(below, above)


def _phase(whole: WholeStep, name: str, card: "Part | None") -> Instant:
    peak = whole.ran.moments[name]
    cached = max(0, whole.ran.reserved[name] - peak.allocated)
    return Instant(
        name,
        (
            *_live(whole, name),
            device.rounding(peak.rounding),
            device.fragmentation(device.cached(cached, peak.live.get("temporaries", 0))),
            device.context(card),
            device.libraries(TORCH, card),
        ),
    )


def _live(whole: WholeStep, moment: str) -> Iterator[Component]:
    """Yield the components of live tensors. MOVING ones have the program's margin."""
    asked, spread, least = whole.asked, whole.spread, whole.least.moments[moment].live
    most, base = whole.most.moments[moment].live, asked.spec.denoiser
    for what, nbytes in whole.ran.moments[moment].live.items():
        moves = what in MOVING
        share = spread if moves else StepSpread(0, 0)
        low = min(nbytes, least.get(what, 0) if moves else nbytes)
        if what == "weights" and asked.sharding.parameters and asked.form is not None:
            low = nbytes // asked.sharding.cards
        elif what == "weights" and asked.away_whole:
            low = 0
        high = max(nbytes, most.get(what, 0))
        part = what in asked.parts
        name = "weights" if part else NAMES.get(what, what)
        yield Component(
            name=name,
            detail=what if part or what in NAMES else base if what == "weights" else "",
            bytes=Bytes(low - low * share.below // 100, nbytes, high + high * share.above // 100),
            basis="assumed" if moves and spread.below > ASSUMED else "computed",
            formula=_formula(asked, whole.ran, what, nbytes),
            source=asked.optimizer.source if what == "optimizer_states" else SOURCE,
        )


ASSUMED = 5  # percent: a wider margin means that the program was not followed


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
    """Return the host's phase: processes, offloaded weights and activations, pages of files."""
    elements = ceil_div(ran.trained, asked.sharding.data)
    sent = 0 if asked.sharding.fully else SENT * elements  # gradients, in 16 bits and in 32
    offloaded = ran.offloaded + sent if ran.offloaded else 0
    pinned = power_of_two(offloaded)
    swapped = "blocks that are swapped, or layers that are streamed"
    again = "activations that checkpoints keep in host memory"
    rows = (
        InRam("weights that wait", exactly(ran.waiting), swapped, SWAPPED, passing=True),
        InRam("inputs of blocks", exactly(ran.away), again, SWAPPED, passing=True),
        InRam(
            "offloaded",
            Bytes(offloaded, (offloaded + pinned) // 2, pinned),
            f"{ran.offloaded:,} bytes a rank, and gradients on their way; blocks that are pinned "
            "are rounded up to powers of two",
            "DeepSpeed runtime/zero/stage_1_and_2.py, stage3.py; training/host.py",
            name="optimizer_states",
        ),
    )
    read_from = formats.nbytes(asked.denoiser, stored(None), asked.weights)
    return on_host(asked.sharding.local, rows, read_from)


def _effective(asked: PicturePlan, w: PictureTraining) -> EffectiveSettings:
    """Return every setting as it was used, defaults included."""
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
    if asked.sharding.kind != "none":
        settings |= {"shard": asked.sharding.kind, **asked.sharding.settings("data")}
    if asked.sharding.offload != "none":
        settings["offload"] = asked.sharding.offload
    settings |= {"drop": list(w.drop)} if w.drop else {}
    settings |= {name: True for name in SWITCHES if getattr(w, name)}
    return settings | {name: getattr(w, name) for name in where}


def _beside_base(adapters: PictureAdapters | None) -> EffectiveSettings:
    names = "lora_r", "lora_targets", "lora_dropout"
    if adapters is None:
        return dict.fromkeys(names)
    rank = None if adapters.method == "lokr" else adapters.rank
    values = rank, list(adapters.targets), adapters.dropout
    more = {"lora_conv_r": adapters.conv_rank} if adapters.conv_rank else {}
    return dict(zip(names, values, strict=True)) | more

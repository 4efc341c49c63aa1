"""Image and video generation: memory of a pipeline, stage by stage.

    encode   each encoder        denoise   one step        decode   the autoencoder

Each stage is a phase. Its weights are those on the card then; what the stage computes is run over
shapes by the programs of the networks, with the allocator replayed (weighbridge.pictures).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from weighbridge.answers.estimate.facts import cautions, facts
from weighbridge.answers.estimate.picture_host import InRam, on_host
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly, within
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge.machines.kernels.workspaces import MOST_WORKSPACE
from weighbridge.memory.components import device
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Condition
from weighbridge.models.checkpoint.model import Model, ModelPart
from weighbridge.pictures import comfy, components, formats, sdcpp, stages
from weighbridge.pictures.card import CPU, ComponentPlacement, PipelineCard, waiting
from weighbridge.pictures.cards import on_cards, placed
from weighbridge.pictures.companions import joined
from weighbridge.pictures.request import (
    checks,
    foreign,
    notes,
    placement,
    request,
    staying,
    swaps,
    unweighed,
)
from weighbridge.pictures.script import script
from weighbridge.pictures.spec import PipelineSpec, row_of
from weighbridge.pictures.stages import PictureRequest, Stage
from weighbridge.pictures.swapping import most
from weighbridge.pictures.values import TORCH
from weighbridge.workload.picture import Picture

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part
    from weighbridge.memory.report.verdict import Verdict

# Margins, as shares of a stage's bytes. 186 published peaks of diffusers' pipelines (CogVideoX,
# FLUX, Qwen-Image: diffusers-torchao, InvokeAI) were 4 % below to 4 % above; programs with file
# formats of their own are 15 to 25 % off where anybody measured (assumed)
SPREAD: Mapping[str, float] = {
    "diffusers": 0.04,
    comfy.NAME: comfy.SPREAD,
    sdcpp.NAME: sdcpp.SPREAD,
}
OTHER_PROGRAM = 0.25
OF_COMPUTING = (comfy.NAME, sdcpp.NAME)  # programs that print what they load: a share of the rest
FLOATING = ("torchao-fp4", "torchao-fp5", "torchao-fp6")  # packing takes up to a fifth more
PACKING = 0.2
SOURCE = "diffusers 0.42, run over shapes; c10/cuda/CUDACachingAllocator.cpp, replayed"


def picture(model: Model, w: Picture) -> Report:
    """Report a pipeline's memory, stage by stage. Raises UnsupportedError if a network has no
    program here, UsageError for settings that contradict the pipeline."""
    row = row_of(model)
    parts = loaded(row, model, w)
    known(row, parts)
    absent = [name for name in row.order if not any(p.name == name for p in model.parts)]
    row, parts = joined(row, parts, w)
    budget = w.budget()
    part = None if budget is None else budget.choice.part
    foreign(w)
    swaps(row, w, parts[row.denoiser])
    ran = BY[w.engine or "diffusers"](row, parts, w, part)
    place, wanted = ran.place, ran.wanted
    spread = SPREAD.get(w.engine or "diffusers", OTHER_PROGRAM)
    alone = w.engine in OF_COMPUTING
    kinds = [part] if budget is None or not budget.mixed else [c.part for c in budget.choice.cards]
    instants = [
        _instant(
            s, place, parts, kinds[s.result.card % len(kinds)], _spread(s, parts, w), alone=alone
        )
        for s in ran.stages
    ]
    packed = [_quantized(ran.packed, spread, part)] if ran.packed else []
    checked = [_checked(row, ran.stages[0], place, parts, part)] if checks(row, w) else []
    hosted = Device(index=0, kind="host", phases=(_host(ran, parts, row),))
    devices = (*_gpus(ran, [*packed, *checked], instants, parts, part), hosted)
    missing = unweighed(row, w)
    verdict = _judged(ran, w, devices, budget, missing)
    settings, denoiser = _effective(row, wanted, w, place), parts[row.denoiser]
    machine = None if verdict is None else verdict.host
    tight = ran.mapped and ran.in_ram and machine is not None and machine.fits in ("no", "unknown")
    disk = (sentence("comfy.from_disk", size=human(ran.in_ram)),) if tight else ()
    return Report(
        task="infer",
        model=facts(model),
        workload=settings,
        devices=devices,
        derived={
            "picture_stages": [
                *(
                    {
                        "stage": i.name,
                        "component": ", ".join(row.unweighed),
                        "bytes": i.at("driver"),
                    }
                    for i in checked
                ),
                *(
                    _stage_facts(s, i, place.cards)
                    for s, i in zip(ran.stages, instants, strict=True)
                ),
            ],
            "launch": script(model, row, place, settings),
            "blocks": memo(denoiser, ("most blocks",), lambda: most(denoiser.blueprint.counted)),
            **({"in_ram": ran.in_ram} if ran.in_ram else {}),
            **({"cards": dict(place.cards)} if place.cards else {}),
        },
        verdict=verdict,
        warnings=(
            *model.notes,
            *notes(row, w, wanted, absent),
            *components.unfused(denoiser.config, fused=w.fuse_qkv),
            *on_cards(w, parts[row.denoiser], 1 if budget is None else budget.choice.count),
            *ran.notes,
            *disk,
            *cautions(w),
        ),
    )


def _judged(
    ran: "StagesRun",
    w: Picture,
    devices: Sequence[Device],
    budget: "Budget | None",
    missing: str,
) -> "Verdict | None":
    """Return the verdict on cards and machine; open if a component runs on the CPU or is not
    estimated."""
    from weighbridge.answers.verdict import on_devices
    from weighbridge.answers.verdict.on_host import both

    judged = None if budget is None else on_devices.serving(devices, budget)
    judged = judged if judged is None or not ran.in_ram else _in_part(judged, ran.in_ram)
    verdict = spilled(both(judged, devices, w.host_memory()), w)
    away = [name for name, number in ran.place.cards.items() if number == CPU]
    if verdict is None or verdict.fits == "no":
        return verdict
    if missing:
        reason = sentence("picture.unweighed", components=missing)
        verdict = verdict.under(Condition("not_counted", opens="yes"), reason=reason)
    if not away:
        return verdict
    reason = sentence("device_map.cpu", components=", ".join(away))
    return verdict.under(Condition("device_map", opens="yes"), reason=reason)


def _gpus(
    ran: "StagesRun",
    packed: list[Instant],
    instants: Sequence[Instant],
    parts: Mapping[str, ModelPart],
    card: "Part | None",
) -> Iterator[Device]:
    """Yield the cards in order, idle ones too. Ranks that split a sequence are alike."""
    by_card: dict[int, list[Instant]] = {0: packed}
    for stage, instant in zip(ran.stages, instants, strict=True):
        by_card.setdefault(stage.result.card, []).append(instant)
    ranks = ran.wanted.ranks
    for index in range(ranks if ranks > 1 else 1 + max((*by_card, *ran.resting))):
        there = ran.resting.get(index, {}).items()
        weights = (_weights(name, n, ran.place, parts.get(name)) for name, n in there if n)
        idle = [Instant("load", (*weights, device.context(card)))]
        phases = by_card.get(0 if ranks > 1 else index) or idle
        yield Device(index=index, kind="gpu", phases=_by_name(phases))


def _spread(stage: Stage, parts: Mapping[str, ModelPart], w: Picture) -> float:
    if w.engine == comfy.NAME:
        return comfy.spread(stage, parts[stage.component].config)
    return SPREAD.get(w.engine or "diffusers", OTHER_PROGRAM)


class StagesRun(NamedTuple):
    """The stages of a pipeline on a card, as one program runs them."""

    stages: tuple[Stage, ...]
    wanted: PictureRequest
    place: ComponentPlacement
    packed: int = 0  # peak bytes on the card while weights are quantized there
    in_ram: int = 0  # bytes of weights that do not fit on the card and are streamed
    mapped: bool = False  # weights in RAM are pages of files
    files: int = 0  # bytes of LoRAs in RAM, merged as weights are loaded
    resting: Mapping[int, Mapping[str, int]] = {}  # card -> component -> bytes of weights
    notes: tuple[str, ...] = ()


def _by_diffusers(
    row: PipelineSpec, parts: Mapping[str, ModelPart], w: Picture, part: "Part | None"
) -> StagesRun:
    wanted, place = request(row, w), _on_cards(row, parts, w, placement(row, w, tuple(parts)))
    row = staying(row, w, place)
    card = PipelineCard(row, parts, place, None if part is None else part.chip)
    ran = tuple(stages.run(card, wanted))
    card.close()
    on_card = w.quantize_on_card
    packed = card.packing(there=on_card) if on_card or place.offload != "none" else 0
    return StagesRun(ran, wanted, place, packed, resting=card.resting)


def _on_cards(
    row: PipelineSpec, parts: Mapping[str, ModelPart], w: Picture, place: ComponentPlacement
) -> ComponentPlacement:
    """Return the placement over several cards, by their free memory less a CUDA context."""
    budget, dtype = w.budget(), place.dtypes[row.denoiser]
    rooms = [] if budget is None else [room.expected for room in budget.each]
    beside = device.context(None if budget is None else budget.choice.part).bytes.expected
    return replace(place, cards=placed(w, row, parts, dtype, [n - beside for n in rooms]))


def _by_comfy(
    row: PipelineSpec, parts: Mapping[str, ModelPart], w: Picture, part: "Part | None"
) -> StagesRun:
    how, row = comfy.rules(w, part), comfy.recipe(row, w)
    offload = "none" if how.mode == "high" else "model"
    wanted, place = request(row, w), placement(row, w.but(offload=offload), tuple(parts))
    place, files = comfy.patched(place, parts)
    beside = device.context(part).bytes.plus(device.libraries(TORCH, part, training=False).bytes)
    budget = w.budget()
    free = None if budget is None else budget.usable.low - beside.high
    chip = None if part is None else part.chip
    ran = comfy.run(comfy.ComfyRun(row, parts, place, how, chip, free), wanted, w.guidance)
    sentences = (
        *ran.notes,
        *([sentence("comfy.loras")] if files else ()),
        sentence("comfy.spread"),
    )
    mapped = how.dynamic
    return StagesRun(ran.stages, ran.request, place, 0, ran.in_ram, mapped, files, notes=sentences)


def _by_sdcpp(
    row: PipelineSpec, parts: Mapping[str, ModelPart], w: Picture, part: "Part | None"
) -> StagesRun:
    row = sdcpp.recipe(row)
    half = w if w.dtype else w.but(dtype="float16")
    place = _on_cards(row, parts, w, placement(row, half, tuple(parts)))
    wanted = sdcpp.asked(request(row, w))
    card = sdcpp.GgmlCard(row, parts, place, None if part is None else part.chip)
    ran = tuple(stages.run(card, wanted))
    card.close()
    notes = (sentence("sdcpp.spread"),)
    return StagesRun(ran, wanted, place, notes=notes, resting=card.resting)


BY = {"diffusers": _by_diffusers, comfy.NAME: _by_comfy, sdcpp.NAME: _by_sdcpp}


def _in_part(judged: "Verdict", nbytes: int) -> "Verdict":
    """Return the verdict opened, since `nbytes` of weights come from RAM: it runs, but slower."""
    lead = sentence("comfy.in_part", size=human(nbytes))
    if judged.fits == "no":
        return judged
    slower = judged.under(Condition("weights_in_ram", opens="yes"), reason=lead)
    return replace(slower, spilled=nbytes)


def loaded(row: PipelineSpec, model: Model, w: Picture) -> dict[str, ModelPart]:
    """Return the components that are loaded. Raises UsageError if one to `drop` does not exist."""
    dropped = formats.left_out(w.drop or (), row, [p.name for p in model.parts])
    return {p.name: p for p in model.parts if p.name not in dropped}


def known(row: PipelineSpec, parts: Mapping[str, ModelPart]) -> None:
    for name in (*row.denoisers[:1], row.vae):
        if name not in parts:
            raise UnsupportedError(sentence("picture.lacks", pipeline=row.name, component=name))
        if not components.known(parts[name].config):
            cls = parts[name].blueprint.cls
            raise UnsupportedError(sentence("picture.no_program", cls=cls))


def _instant(
    stage: Stage,
    place: ComponentPlacement,
    parts: Mapping[str, ModelPart],
    card: "Part | None",
    spread: float,
    *,
    alone: bool,
) -> Instant:
    """Return a stage's peak. `alone`: the margin is a share of all but the weights."""
    peak, weights, *_ = stage.result
    live = {name: n for name, n in peak.live.items() if name != "weights"}
    whole = sum(live.values()) if alone else peak.allocated
    passing = live.pop("temporaries", 0)
    spaces = live.pop("workspaces", 0) + passing
    return Instant(
        stage.name,
        (
            *(_weights(name, n, place, parts.get(name)) for name, n in weights.items() if n),
            Component(
                name="activations",
                bytes=_computed(sum(live.values()), whole, place, spread),
                basis="computed",
                detail=stage.component,
                formula=f"the forward of {parts[stage.component].blueprint.cls}",
                source=SOURCE,
            ),
            Component(
                name="workspaces",
                bytes=Bytes(spaces, spaces, spaces + stage.result.beyond * MOST_WORKSPACE),
                basis="computed",
                formula="cuBLAS; cuDNN puts channels last beside a convolution",
                source="machines/kernels/workspaces.py",
            ),
            device.rounding(peak.rounding),
            device.fragmentation(device.cached(peak.fragmentation, passing)),
            device.context(card),
            device.libraries(TORCH, card, training=False),
        ),
    )


def _quantized(nbytes: int, spread: float, card: "Part | None") -> Instant:
    """Return the load phase if weights are quantized on the card."""
    weights = Component(
        name="weights",
        bytes=within(nbytes, spread),
        basis="computed",
        formula="what is on the card then, and the largest linear that is packed as it was",
        source="torchao quant_api.py (quantize_); diffusers 0.42 quantizers/bitsandbytes/"
        "bnb_quantizer.py (update_device_map)",
    )
    return Instant("load", (weights, device.context(card)))


def _checked(
    row: PipelineSpec,
    stage: Stage,
    place: ComponentPlacement,
    parts: Mapping[str, ModelPart],
    card: "Part | None",
) -> Instant:
    """Return the phase that checks a prompt before `stage` encodes it: the checker is on the card
    with the weights that stay there."""
    weights = stage.result[1] if place.offload == "none" else {}
    checker = Component(
        name="weights",
        detail=", ".join(row.unweighed),
        bytes=Bytes(*map(sum, zip(*row.unweighed.values(), strict=True))),
        basis="assumed",
        formula="LlamaGuard-7b (6,738,415,616 parameters) in 16 bits, or in 32 before transformers "
        "5, SigLIP (877,960,274) and RetinaFace (27 million) in 32, at most with 121 frames",
        source="cosmos-guardrail 6de8c46 cosmos_guardrail.py; diffusers 0.42 pipelines/cosmos",
    )
    stay = (_weights(name, n, place, parts.get(name)) for name, n in weights.items() if n)
    return Instant("check", (*stay, checker, device.context(card)))


def _computed(nbytes: int, whole: int, place: ComponentPlacement, spread: float) -> Bytes:
    """Return the bytes a stage computes, with a margin that is a share of `whole` bytes."""
    packs = any(form.startswith(FLOATING) for form in place.forms.values())
    more = spread + (PACKING if packs else 0)
    return Bytes(max(0, int(nbytes - whole * spread)), nbytes, int(nbytes + whole * more))


def _weights(
    name: str, nbytes: int, place: ComponentPlacement, part: ModelPart | None
) -> Component:
    dtype = place.dtypes[name]
    form = place.forms.get(name) or dtype.name
    count, cls = (
        (nbytes // dtype.nbytes, name)
        if part is None
        else (part.blueprint.parameters, part.blueprint.cls)
    )
    return Component(
        name="weights",
        detail=name,
        bytes=exactly(nbytes),
        basis="computed",
        formula=f"{count:,} parameters of {cls}, {form}",
        source="the class's tensors",
    )


def _by_name(instants: Sequence[Instant]) -> tuple[Instant, ...]:
    """Return the fullest phase of each name, in order."""
    fullest: dict[str, Instant] = {}
    for one in instants:
        known = fullest.get(one.name)
        if known is None or one.at("driver").expected > known.at("driver").expected:
            fullest[one.name] = one
    return tuple(fullest.values())


def _stage_facts(stage: Stage, instant: Instant, cards: Mapping[str, int]) -> dict[str, object]:
    return {
        "stage": stage.name,
        "component": stage.component,
        "bytes": list(instant.at("driver")),
        **({"tiled": True} if stage.tiled else {}),
        **({"card": stage.result.card} if cards else {}),
    }


def _host(ran: StagesRun, parts: Mapping[str, ModelPart], row: PipelineSpec) -> Instant:
    """Return the host's fullest phase: components wait in RAM while others run, or, mapped, pass
    through it while loading."""
    place = ran.place
    waits = exactly(waiting(place, parts, row))
    if ran.mapped:  # may be read from disk again; block swapping keeps all models
        most_there = waits.high if any(place.swapped.values()) else ran.in_ram
        waits = Bytes(0, most_there, most_there)
    total = sum(formats.nbytes(p, place.forms.get(n), place.dtypes[n]) for n, p in parts.items())
    pinned = "; pinned for the stream" if place.stream else ""
    again = "; pages of files, which are read again where RAM has no room for them"
    rows = (
        InRam(
            "LoRAs",
            exactly(ran.files),
            "files that are added to weights as these are loaded",
            "ComfyUI 0.3.64 comfy/model_patcher.py",
        ),
        InRam(
            "components that wait",
            waits,
            "weights that are moved to the card when they run" + (pinned if waits.low else again),
            "diffusers 0.42 pipelines/pipeline_utils.py, hooks/group_offloading.py",
        ),
    )
    return on_host(ran.wanted.ranks, rows, 0 if waits.high else total)


def _effective(
    row: PipelineSpec, wanted: PictureRequest, w: Picture, place: ComponentPlacement
) -> dict[str, object]:
    """Return every setting as it was used, defaults included."""
    settings: dict[str, object] = {
        "pipeline": row.name,
        "engine": w.engine or "diffusers",
        "engine_version": w.engine_version,
        "dtype": place.dtypes[row.denoiser].name,
        "quantization": w.quantization,
        "width": wanted.width,
        "height": wanted.height,
        "frames": wanted.frames,
        "batch_size": wanted.batch,
        "prompt_tokens": wanted.text,
        "guidance": wanted.guidance,
        "images": wanted.images,
        "offload": place.offload,
        "vae_dtype": place.dtypes[row.vae].name,
        "attention": wanted.attention,
    }
    switches = ("vae_tiling", "vae_slicing", "offload_stream", "layerwise_casting", "fuse_qkv")
    settings |= {name: True for name in switches if getattr(w, name)}
    if w.engine == comfy.NAME:
        settings |= {"vram_mode": w.vram_mode or "normal", "reserve_vram": w.reserve_vram}
        settings |= {"disable_smart_memory": True} if w.disable_smart_memory else {}
    added = ("controlnet", "ip_adapter", "refiner", "lora", "lora_r", "fuse_lora")
    settings |= {name: value for name in added if (value := getattr(w, name))}
    settings |= {"blocks_to_swap": w.blocks_to_swap} if w.blocks_to_swap else {}
    settings |= {"gguf": row.gguf} if row.gguf else {}
    settings |= {"drop": list(w.drop)} if w.drop else {}
    settings |= {"device_map": list(w.device_map)} if w.device_map else {}
    if wanted.ranks > 1:
        settings["context_parallel_size"] = wanted.ranks
        settings["context_parallel_by"] = wanted.attends_by
    where = ("gpu", "gpu_memory", "headroom", "ram", "platform")
    return settings | {name: getattr(w, name) for name in where}

"""What is asked of a pipeline, with the defaults that the pipeline has."""

import math
from collections.abc import Iterator, Mapping, Sequence

from weighbridge.base.dtypes import TORCH
from weighbridge.base.errors import ContradictionError, TriedError, UsageError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import release
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.tensors import torch_dtype
from weighbridge.pictures import formats
from weighbridge.pictures.card import ComponentPlacement
from weighbridge.pictures.companions import loras
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.stages import PictureRequest
from weighbridge.pictures.swapping import lists
from weighbridge.settings.ranks import ULYSSES
from weighbridge.workload.picture import Picture

# As in pipelines' own examples; float16 if the autoencoder decodes in float32
USUAL_DTYPE, OF_UPCAST = "bfloat16", "float16"
BFLOAT16_SINCE = (8, 0)  # compute capability
FRAMES_A_SECOND = 16  # default frames per second
DIFFUSERS, COMFYUI, SD_CPP = PROGRAMS = ("diffusers", "comfyui", "stable-diffusion.cpp")
PROGRAMS_OF: Mapping[str, list[str]] = {
    name: having for name, *having in map(str.split, lines_beside(__file__, "programs_of.txt"))
}
OF_SD_CPP = (None, "none", "model")  # its offload modes
SWAPPED = "wan"  # prefix of pipelines whose blocks ComfyUI-WanVideoWrapper swaps
IN_PLACE_UNTIL = (0, 31)  # of diffusers: caches of causal convolutions, upsampling in float32
LEAVES_SINCE = (0, 37)  # diffusers since which 8-bit modules of bitsandbytes can leave the card


def foreign(w: Picture) -> None:
    """Raise ContradictionError for a setting that only other engines have."""
    engine = w.engine or DIFFUSERS
    for name, having in PROGRAMS_OF.items():
        value = w.said.get(name)
        only = (DIFFUSERS,) if name == "offload" and value not in OF_SD_CPP else having
        if value and value != "none" and engine not in only:
            flag, theirs = f"--{name.replace('_', '-')}", " and ".join(only)
            raise ContradictionError(sentence("foreign", flag=flag, engines=theirs, engine=engine))


def swaps(spec: PipelineSpec, w: Picture, part: ModelPart) -> None:
    """Raise UsageError if the denoiser has fewer blocks than should be swapped, or the pipeline has
    no block swapping."""
    if not w.blocks_to_swap:
        return
    if not spec.name.startswith(SWAPPED):
        raise UsageError(sentence("picture.swaps", pipeline=spec.name))
    count = sum(lists(part.blueprint.counted).values())
    if w.blocks_to_swap > count:
        flag = f"--blocks-to-swap {w.blocks_to_swap}"
        raise UsageError(sentence("picture.blocks", pipeline=spec.name, most=count), where=flag)


def request(spec: PipelineSpec, w: Picture) -> PictureRequest:
    """Return what the pipeline should make, with all defaults. Raises UsageError for impossible
    sizes."""
    width, height = _sides(spec, w)
    images = max(w.images or 0, spec.pictures)
    old = (release(w.engine_version or "") or IN_PLACE_UNTIL) < IN_PLACE_UNTIL
    return PictureRequest(
        width=width,
        height=height,
        frames=_frames(spec, w, spec.size[-1]),
        batch=w.batch_size or 1,
        text=(w.prompt_tokens or spec.text) + images * spec.picture_text,
        guidance=_guidance(spec, w),
        images=images,
        tiling=w.vae_tiling,
        slicing=w.vae_slicing,
        attention=w.attention or "sdpa",
        fuse_qkv=w.fuse_qkv,
        float_upsampling=old,
        caches_in_place=old,
        ranks=w.context_parallel_size or 1,
        attends_by=w.context_parallel_by or ULYSSES,
    )


def _sides(spec: PipelineSpec, w: Picture) -> tuple[int, int]:
    """Return (width, height), rounded or scaled as the pipeline does. Raises UsageError if too
    small."""
    width, height, _ = spec.size
    if w.size is not None:
        height, width = w.size
    multiple = spec.sides
    if min(width, height) < multiple:
        raise UsageError(sentence("picture.small", width=width, height=height, least=multiple))
    scale = math.sqrt(spec.area / (width * height)) if spec.area else 1
    width, height = (int(side * scale // multiple * multiple) for side in (width, height))
    return width, height


def _frames(spec: PipelineSpec, w: Picture, usual: int) -> int:
    lasting = None if w.seconds is None else _lasting(spec, w.seconds)
    if w.frames is not None and lasting not in (None, w.frames):
        values = {"frames": w.frames, "seconds": f"{w.seconds:g}", "lasting": lasting}
        raise ContradictionError(sentence("seconds", **values))
    asked = lasting or w.frames or usual
    if spec.kind == "image" and asked > 1:
        raise UsageError(sentence("picture.frames", pipeline=spec.name, frames=asked))
    return rounded(spec, asked)


def rounded(spec: PipelineSpec, frames: int) -> int:
    """Return how many frames a pipeline makes if `frames` are requested. Source: diffusers 0.42
    pipelines/wan/pipeline_wan.py (__call__: n // 4 * 4 + 1 where n % 4 is not 1); others have the
    frames of (n - 1) // time + 1 latents."""
    if spec.frames_nearest and frames % spec.time != 1:
        return max(1, frames // spec.time * spec.time + 1)
    return (frames - 1) // spec.time * spec.time + 1


def _lasting(spec: PipelineSpec, seconds: float) -> int:
    """Return how many frames last `seconds`, with an additional first one: 5 seconds at 16 per
    second are 81. Raises UsageError for images."""
    if spec.kind == "image":
        raise UsageError(sentence("picture.seconds", pipeline=spec.name))
    shown = round(seconds * (spec.fps or FRAMES_A_SECOND))
    return max(1, shown // spec.time * spec.time + (spec.time > 1))


def _guidance(spec: PipelineSpec, w: Picture) -> str:
    if w.guidance in (None, "usual"):
        return spec.guidance if spec.guided else "none"
    return "none" if w.guidance == "off" else str(w.guidance)


def notes(
    spec: PipelineSpec, w: Picture, made: PictureRequest, absent: Sequence[str] = ()
) -> Iterator[str]:
    """Yield notes on a size other than requested, and on components that are not estimated."""
    if w.size is not None and w.size != (made.height, made.width):
        size = f"{made.width} x {made.height}"
        key = "picture.rounded" if spec.rounds else "picture.refused"
        key = "picture.scaled" if spec.area else key
        yield sentence(key, pipeline=spec.name, multiple=spec.sides, size=size)
    if w.frames is not None and w.frames != made.frames:
        nearest = spec.frames_nearest and w.engine in (None, DIFFUSERS)
        key = "picture.frames_nearest" if nearest else "picture.frames_rounded"
        yield sentence(key, frames=made.frames, time=spec.time, asked=w.frames)
    yield from _companion_notes(spec, w)
    if absent:
        listed = ", ".join(absent)
        yield sentence("picture.absent", pipeline=spec.name, components=listed)
    if spec.checker and (w.engine or DIFFUSERS) == DIFFUSERS:
        yield sentence("picture.checker", components="safety_checker")
    if missing := unweighed(spec, w):
        yield sentence("picture.unweighed", components=missing)


def checks(spec: PipelineSpec, w: Picture) -> bool:
    """Return whether diffusers loads safety checkers, whose sizes alone are known, onto the run's
    only card."""
    return bool(spec.unweighed) and not w.device_map and (w.engine or DIFFUSERS) == DIFFUSERS


def unweighed(spec: PipelineSpec, w: Picture) -> str:
    """Return the names of components that diffusers loads and the estimate leaves out, "" for none.
    With components on several cards, the place of those that do not run is not known."""
    names = (*spec.unweighed, *spec.beside) if w.device_map else ()
    return ", ".join(names) if (w.engine or DIFFUSERS) == DIFFUSERS else ""


def _companion_notes(spec: PipelineSpec, w: Picture) -> Iterator[str]:
    """Yield notes on assumptions about ControlNets and LoRAs."""
    if spec.controls and spec.denoiser != "unet":  # of which a ControlNet has the whole way down
        yield sentence("picture.controls")
    if files := loras(w):
        yield sentence("picture.loras", rank=files.rank, component=spec.denoiser)


def staying(spec: PipelineSpec, w: Picture, place: ComponentPlacement) -> PipelineSpec:
    """Return the pipeline with components excluded from offload that cannot leave the card: 8-bit
    modules of bitsandbytes, up to diffusers 0.36 (pull request 12972)."""
    version = release(w.engine_version or "") or LEAVES_SINCE
    names = (
        one for one, form in place.forms.items() if form == "bnb-int8" and version < LEAVES_SINCE
    )
    return spec._replace(excluded=(*spec.excluded, *names))


def usual_dtype(spec: PipelineSpec, w: Picture) -> str:
    """Return a pipeline's default dtype, by name; GPUs before Ampere have no bfloat16 products."""
    return OF_UPCAST if spec.upcast or is_before_bfloat16(w) else USUAL_DTYPE


def is_before_bfloat16(w: Picture) -> bool:
    """Return whether the user's card has no bfloat16 products."""
    budget = w.budget()
    chip = None if budget is None else budget.choice.part.chip
    return chip is not None and chip.capability < BFLOAT16_SINCE


def placement(spec: PipelineSpec, w: Picture, names: tuple[str, ...]) -> ComponentPlacement:
    """Return which weights are on which card, and in which format. Raises UsageError for
    contradictory settings."""
    dtype = torch_dtype(w.dtype or usual_dtype(spec, w), "--dtype")
    dtypes = dict.fromkeys((*names, *spec.beside), dtype)
    upcast = "float32" if spec.upcast and dtype == TORCH["float16"] else ""
    wide = w.vae_dtype or ("" if w.dtype else spec.vae_dtype) or upcast
    dtypes[spec.vae] = torch_dtype(wide, "--vae-dtype") if wide else dtype
    if spec.latents_uncast and wide != upcast and dtypes[spec.vae] != dtype:
        # vae.decode(latents) without a cast, of which torch's convolutions say "Input type and bias
        # type should be the same". Source: diffusers 0.42 pipelines/stable_diffusion_xl/
        # pipeline_stable_diffusion_xl.py, flux/pipeline_flux.py and others (__call__)
        values = {"pipeline": spec.name, "dtype": dtype.name, "vae": dtypes[spec.vae].name}
        raise ContradictionError(sentence("picture.latents_uncast", **values))
    if spec.image_encoder_dtype and w.dtype is None:
        dtypes[spec.image_encoder] = torch_dtype(spec.image_encoder_dtype, "--dtype")
    casting = spec.denoisers if w.layerwise_casting else ()
    forms = formats.by_component(w.quantization, spec)
    if form := next((forms[name] for name in casting if name in forms), ""):
        raise ContradictionError(sentence("casting_packed", form=form))
    if w.offload == "sequential" and (form := next(filter(formats.is_gguf, forms.values()), "")):
        raise TriedError(
            sentence("sequential_gguf", form=form),
            seen="diffusers issue 14691: quantizers/gguf/utils.py, KeyError: None",
        )
    files = loras(w)
    swapped = dict.fromkeys(spec.denoisers, w.blocks_to_swap) if w.blocks_to_swap else {}
    return ComponentPlacement(
        offload=w.offload or "none",
        stream=w.offload_stream,
        dtypes=dtypes,
        forms=forms,
        casting=casting,
        fused=spec.denoisers if w.fuse_qkv else (),
        swapped=swapped,
        loras={spec.denoiser: files} if files else {},
    )

"""What is asked of a pipeline, with the defaults that the pipeline has."""

from collections.abc import Iterator

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import release
from weighbridge.models.tensors import torch_dtype
from weighbridge.pictures import formats
from weighbridge.pictures.card import Placement
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.stages import PictureRequest
from weighbridge.workload.picture import Picture

USUAL_DTYPE = "bfloat16"  # of every pipeline's own example, or float16, which is as large
FRAMES_A_SECOND = 16  # where a pipeline says nothing
IN_PLACE_UNTIL = (0, 31)  # of diffusers: caches of causal convolutions, upsampling in float32


def request(spec: PipelineSpec, w: Picture) -> PictureRequest:
    """Raises UsageError for sizes that the pipeline cannot make."""
    width, height, frames = spec.size
    if w.size is not None:
        height, width = w.size
    multiple = spec.multiple or spec.space
    old = (release(w.engine_version or "") or IN_PLACE_UNTIL) < IN_PLACE_UNTIL
    if min(width, height) < multiple:
        raise UsageError(sentence("picture.small", width=width, height=height, least=multiple))
    return PictureRequest(
        width=width // multiple * multiple,
        height=height // multiple * multiple,
        frames=_frames(spec, w, frames),
        batch=w.batch_size or 1,
        text=w.prompt_tokens or spec.text,
        guidance=_guidance(spec, w),
        images=max(w.images or 0, 1 if spec.image_encoder else 0),
        tiling=w.vae_tiling,
        slicing=w.vae_slicing,
        attention=w.attention or "sdpa",
        fuse_qkv=w.fuse_qkv,
        float_upsampling=old,
        caches_in_place=old,
    )


def _frames(spec: PipelineSpec, w: Picture, usual: int) -> int:
    asked = w.frames
    if asked is None and w.seconds is not None:
        asked = max(1, round(w.seconds * (spec.fps or FRAMES_A_SECOND)))
    if asked is None:
        return usual
    if spec.kind == "image" and asked > 1:
        raise UsageError(sentence("picture.frames", pipeline=spec.name, frames=asked))
    return (asked - 1) // spec.time * spec.time + 1


def _guidance(spec: PipelineSpec, w: Picture) -> str:
    if w.guidance in (None, "usual"):
        return spec.guidance if spec.guided else "none"
    return "none" if w.guidance == "off" else str(w.guidance)


def notes(spec: PipelineSpec, w: Picture, made: PictureRequest) -> Iterator[str]:
    """Yield where a size is not the one that was asked."""
    if w.size is not None and w.size != (made.height, made.width):
        multiple = spec.multiple or spec.space
        size = f"{made.width} x {made.height}"
        yield sentence("picture.rounded", pipeline=spec.name, multiple=multiple, size=size)
    asked = w.frames or (made.frames if w.seconds is None else None)
    if asked is not None and asked != made.frames:
        yield sentence("picture.frames_rounded", frames=made.frames, time=spec.time)


def placement(spec: PipelineSpec, w: Picture, names: tuple[str, ...]) -> Placement:
    """Return which weights are on the card, and in which format. Raises UsageError."""
    dtype = torch_dtype(w.dtype or USUAL_DTYPE, "--dtype")
    dtypes = dict.fromkeys(names, dtype)
    wide = w.vae_dtype or (spec.vae_dtype if w.dtype is None else "")
    dtypes[spec.vae] = torch_dtype(wide, "--vae-dtype") if wide else dtype
    casting = spec.denoisers if w.layerwise_casting else ()
    swapped = dict.fromkeys(spec.denoisers, w.blocks_to_swap) if w.blocks_to_swap else {}
    return Placement(
        offload=w.offload or "none",  # type: ignore[arg-type]  one of its choices
        stream=w.offload_stream,
        dtypes=dtypes,
        forms=formats.by_component(w.quantization, spec),
        casting=casting,
        fused=spec.denoisers if w.fuse_qkv else (),
        swapped=swapped,
    )

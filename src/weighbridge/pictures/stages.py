"""Stages of a pipeline: encode, denoise, decode; each a program at its sizes on one card.

    encode    each encoder of texts, and of pictures that are given
    denoise   one step: more of them run one after the other, and take nothing more
    decode    the autoencoder, whole, in slices, in tiles, or in chunks of frames

Guidance doubles the batch of a step, or asks twice and keeps the first prediction.
Prompts stay as the encoder gave them, to the end. Source: diffusers 0.42 pipelines.
"""

from collections.abc import Iterable, Iterator

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.memo import memo
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures import adapting, components, formats
from weighbridge.pictures.card import PipelineCard, StagePeak
from weighbridge.pictures.cards import divided
from weighbridge.pictures.config import class_of
from weighbridge.pictures.nets import tiles
from weighbridge.pictures.places import kinds_of
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.values import ProgramRun, Sizes, Value
from weighbridge.training.forward.tensors import Tensor

ENCODE, DENOISE, DECODE = "encode", "denoise", "decode"
COLOURS = 3
PICTURES = "AutoencoderKL"  # class that decodes a video as a batch of pictures
FRAMES_AT_ONCE = 16  # decode_chunk_size of AnimateDiff
UNET = "UNet2DConditionModel"
Residuals = list[list[Value]]
PATCH = 2  # latents per token, in each direction


@frozen_record
class PictureRequest:
    """What a pipeline should make: pixels, frames and a batch, with all defaults filled in."""

    width: int
    height: int
    frames: int
    batch: int = 1
    text: int
    guidance: str  # none, batched or two-pass
    images: int = 0
    tiling: bool = False
    slicing: bool = False
    attention: str = "sdpa"
    fuse_qkv: bool = False
    float_upsampling: bool = False
    caches_in_place: bool = False
    ranks: int = 1  # context-parallel ranks that split the denoiser's tokens
    attends_by: str = ""

    def latent(self, spec: PipelineSpec) -> tuple[int, int, int]:
        """Return (frames, height, width) in latents."""
        frames = (self.frames - 1) // spec.time + 1
        return frames, self.height // spec.space, self.width // spec.space


class Stage(NamedTuple):
    """One run of a component, with its role and its peak."""

    name: str
    component: str
    result: StagePeak
    tiled: bool = False  # an autoencoder that takes a part of the picture at a time


def run(
    card: PipelineCard,
    request: PictureRequest,
    dropped: tuple[str, ...] = (),
) -> Iterator[Stage]:
    """Yield the stages in order, each when it has run; `dropped` encoders are skipped."""
    spec = card.spec
    rows = request.batch * (1 if request.guidance == "none" else 2)
    encoders = [one for one in spec.encoders if one in card.parts and one not in dropped]
    texts = [(one, Sizes(batch=rows, text=spec.short.get(one, request.text))) for one in encoders]
    if request.guidance != "none":  # the negative's pass finds the last one on the card
        for name, sizes in texts if card.placement.offload == "model" else ():
            _stage(card, request, ENCODE, name, sizes)
    for name, sizes in texts:
        yield _stage(card, request, ENCODE, name, sizes)
    shape = rows, request.text, spec.embedding_width
    prompts = card.m.new(shape, card.placement.dtypes[spec.denoiser])
    hints = _control_pictures(card, request, rows)
    yield from _pictures(card, request, dropped)
    for name in spec.denoisers:
        if name in card.parts:
            yield from _denoise(card, request, name)
    del hints
    yield decode(card, request)
    del prompts


def _pictures(
    card: PipelineCard, request: PictureRequest, dropped: tuple[str, ...]
) -> Iterator[Stage]:
    spec = card.spec
    encoder = spec.image_encoder if request.images or spec.shown else ""
    if encoder in card.parts and encoder not in dropped:
        yield _stage(card, request, ENCODE, encoder, Sizes(batch=request.batch))
    of_latents = spec.controls and class_of(card.parts[spec.denoiser].config) != UNET
    if request.images or of_latents:
        yield _encoded(card, request)


def _encoded(card: PipelineCard, request: PictureRequest) -> Stage:
    """Return the stage that encodes input pictures with the autoencoder."""
    spec = card.spec
    frames, height, width = request.latent(spec)
    frames = frames if spec.encodes == "video" else 1
    sizes = Sizes(batch=request.batch, frames=frames, height=height, width=width, side="encode")
    pixels = _picture(card, request, card.placement.dtypes[spec.vae])  # programs do not count it
    stage = _stage(card, request, ENCODE, spec.vae, sizes)
    del pixels
    return stage


def _control_pictures(card: PipelineCard, request: PictureRequest, rows: int) -> list[Tensor]:
    """Return the pictures that ControlNets of U-Nets read as pixels; those of transformers read
    latents."""
    spec = card.spec
    if not spec.controls or class_of(card.parts[spec.denoiser].config) != UNET:
        return []
    dtype, shape = card.placement.dtypes[spec.denoiser], (COLOURS, request.height, request.width)
    return [card.m.new((rows, *shape), dtype) for _ in spec.controls]


def _stage(
    card: PipelineCard, request: PictureRequest, name: str, part: str, sizes: Sizes
) -> Stage:
    card.before(part)
    result = forward(card, request, part, sizes)
    del result
    return Stage(name, part, card.after(part))


def forward(
    card: PipelineCard,
    request: PictureRequest,
    part: str,
    sizes: Sizes,
    residuals: Residuals | None = None,
) -> Value | None:
    """Return the output of component `part`'s program, run on the card with the ControlNets'
    `residuals`."""
    run = _program_run(card, request, part)
    run.residuals = residuals or []
    return components.forward(run, card.parts[part].config, sizes)


def _program_run(card: PipelineCard, request: PictureRequest, part: str) -> ProgramRun:
    one, dtype = card.parts[part], card.computes(part)
    code = (
        card.code if components.followed(one.config, card.code) and not card.spec.controls else ""
    )
    steps = part in card.spec.denoisers
    run = ProgramRun(
        m=card.m,
        cls=class_of(one.config),
        dtype=dtype,
        code=code,
        turns_wide=card.turns_wide,
        declared=memo(one, ("declared", code), dict),
        params=memo(one, ("leaves", code, dtype), dict),
        attention=request.attention,
        fused_qkv=request.fuse_qkv and steps,
        ranks=request.ranks if steps else 1,
        attends_by=request.attends_by,
        float_upsampling=request.float_upsampling,
        caches_in_place=request.caches_in_place,
        kinds=memo(one, ("kinds", code), lambda: kinds_of(_tree(one, code))),
    )
    if part in card.placement.loras:
        run.wraps = adapting.loaded(card.parts[part], *card.placement.loras[part], run.dtype)
    return run


def _tree(part: ModelPart, code: str) -> Iterable[Param]:
    if code:
        return components.declared(part.config, code=code).declared.values()
    return part.blueprint.params


def _control_stages(
    card: PipelineCard, request: PictureRequest, sizes: Sizes, residuals: Residuals
) -> Iterator[Stage]:
    """Yield the stages of ControlNets; the denoiser is on the card from its previous step. Each
    one's residuals are added to those before."""
    for control in card.spec.controls:
        card.before(control)
        run = _program_run(card, request, control)
        components.forward(run, card.parts[control].config, sizes)
        pairs = zip(residuals, run.residuals, strict=True) if residuals else ()
        added = [[a + b for a, b in zip(*pair, strict=True)] for pair in pairs]
        residuals[:] = added or run.residuals
        del run
        yield Stage(DENOISE, control, card.after(control))


def _denoise(card: PipelineCard, request: PictureRequest, name: str) -> Iterator[Stage]:
    spec = card.spec
    card.before(name)
    m = card.m
    frames, height, width = request.latent(spec)
    doubled = request.guidance == "batched"
    tokens = 0
    if spec.reference_tokens and request.images:
        tokens = (1 + request.images) * frames * (height // PATCH) * (width // PATCH)
    sizes = Sizes(
        batch=request.batch * (2 if doubled else 1),
        frames=frames,
        height=height,
        width=width,
        text=request.text,
        tokens=tokens,
        token_times=spec.token_times == "always" or bool(spec.token_times and request.images),
    )
    sizes = divided(sizes, request.ranks, class_of(card.parts[name].config))
    latents = m.new((request.batch, spec.latents, frames, height, width), FLOAT32)
    residuals: Residuals = []
    if spec.controls and name == spec.denoiser:
        yield from _control_stages(card, request, sizes, residuals)
        card.before(name)
    unpacked = _unpacked(card, name)
    first = forward(card, request, name, sizes, residuals)
    twice = request.guidance == "two-pass"
    second = forward(card, request, name, sizes, residuals) if twice else None
    del first, second, unpacked
    residuals.clear()
    stage = Stage(DENOISE, name, card.after(name))
    del latents
    yield stage


def _unpacked(card: PipelineCard, name: str) -> Tensor | None:
    """Return the largest layer, dequantized or cast for its product, which is counted as long as
    the step runs; None if no layer is."""
    place, part = card.placement, card.parts[name]
    dtype = place.dtypes[name]
    if name in place.casting:
        _, nbytes = formats.resting(part, dtype)
    elif card.unpacks and formats.unpacks(place.forms.get(name)):
        nbytes = formats.largest(part, dtype, linears=True)
    else:
        return None
    return card.m.new((nbytes // dtype.nbytes,), dtype)


def decode(card: PipelineCard, request: PictureRequest) -> Stage:
    """Return the stage of the autoencoder's decoder, whole or in slices and tiles."""
    spec, name = card.spec, card.spec.vae
    card.before(name)
    dtype = card.placement.dtypes[name]
    frames, height, width = request.latent(spec)
    batch = 1 if request.slicing else request.batch
    outputs: list[Tensor] = []
    if batch < request.batch:
        outputs += _outputs(card, request, dtype)
    cls = class_of(card.parts[name].config)
    tiles_itself = card.outputs_stay and tiles.known(cls)
    if cls == PICTURES and frames > 1:
        outputs.append(_picture(card, request, dtype))
        batch, frames = batch * min(frames, FRAMES_AT_ONCE), 1
    if request.tiling and spec.tile is not None and not tiles_itself:
        tall, wide = (side // spec.space for side in spec.tile)
        if height > tall or width > wide:  # tiles that are kept, and the assembled picture
            outputs += _outputs(card, request, dtype, 2)
            height, width = min(height, tall), min(width, wide)
    if spec.frames_tile and frames > spec.frames_tile and not tiles_itself:
        outputs += _outputs(card, request, dtype)
        frames = spec.frames_tile
    sizes = Sizes(
        batch=batch,
        frames=frames,
        height=height,
        width=width,
        side=DECODE,
        tiled=request.tiling and tiles_itself,
    )
    result = forward(card, request, name, sizes)
    del result, outputs
    return Stage(DECODE, name, card.after(name), request.tiling)


def _outputs(
    card: PipelineCard, request: PictureRequest, dtype: DType, count: int = 1
) -> list[Tensor]:
    """Return the pictures that stay on the card while parts of them are decoded."""
    stay = count if card.outputs_stay else 0
    return [_picture(card, request, dtype) for _ in range(stay)]


def _picture(card: PipelineCard, request: PictureRequest, dtype: DType) -> Tensor:
    shape = request.batch, COLOURS, request.frames, request.height, request.width
    return card.m.new(shape, dtype)

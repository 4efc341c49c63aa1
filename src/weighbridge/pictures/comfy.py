"""ComfyUI: one model at a time on the card, in part where there is no room for all of it.

    free      what the card has, less context and kernels of libraries
    whole     a model is loaded whole where `free` less what ComfyUI sets aside is enough for it
    in part   else layers stay in RAM but for as many as fit, and come when they run: slower

    since 0.16   on NVIDIA's cards weights come as they are read, until the card is full: what a
                 step really takes is set aside (dynamic VRAM; not with --disable-smart-memory,
                 --novram, --highvram, nor for GGUF, whose loader has no part in it)
    before       ComfyUI estimates what a step takes, by area and a factor of each class; 128 MiB of
                 weights are loaded at least

LoRAs are added to each weight as it is loaded, in float32 on the card; the weight before it stays
in RAM. Of GGUF they are added to what is unpacked, at each product. ControlNets are loaded with the
denoiser. A prompt's encoders are one model. Two predictions run as one batch where that has room,
else one after the other. Decoding that runs out of memory is tried again in tiles.
Source: ComfyUI 0.3.64 comfy/model_management.py (load_models_gpu, minimum_inference_memory,
EXTRA_RESERVED_VRAM), model_base.py (memory_required), supported_models.py (memory_usage_factor),
sd.py (VAE), model_patcher.py (patch_weight_to_device, LowVramPatch), samplers.py (calc_cond_batch),
sampler_helpers.py (prepare_sampling), ops.py (cast_bias_weight). Of 0.16: pull requests 12557,
12722, 12754; city96/ComfyUI-GGUF 427 and nodes.py (GGUFModelPatcher).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, MIB
from weighbridge.base.versions import release
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.memory.components import device
from weighbridge.memory.components.activations import LivePeak
from weighbridge.models.catalogue.pipelines import find
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures import adapting, formats, stages
from weighbridge.pictures.card import ComponentPlacement, PipelineCard, StagePeak
from weighbridge.pictures.components import followed
from weighbridge.pictures.config import class_of, config_of
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.stages import DECODE, DENOISE, PictureRequest, Stage
from weighbridge.workload.picture import Picture

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

NAME = "comfyui"
SPREAD = 0.20  # its modules are its own: assumed, 15 to 25 % until their forward is written
# Of those whose forward is written (nets/comfy_nets.py): the largest error of its published
# figures, all of Qwen-Image's autoencoder on a Radeon (decoding 8 %, encoding 18 %)
READ = 0.18
DYNAMIC_SINCE = (0, 16)
LEAST_WEIGHTS = 128 * MIB
INFERENCE = int(0.8 * GIB)  # minimum_inference_memory
RESERVED, RESERVED_ON_WINDOWS = 400 * MIB, 600 * MIB  # EXTRA_RESERVED_VRAM
MORE_ON_WINDOWS = 100 * MIB  # for cards of 15 GiB and more
ROOMY = 1.5  # two predictions are one batch if free bytes are this many times the estimate
TILE, TILE_OF_VIDEO, TILE_FRAMES = 512, 256, 64  # VAEDecodeTiled; the fallback of 3-D latents

# memory_usage_factor: MiB per 100 latent pixels, for each byte of the dtype
FACTORS: Mapping[str, float] = {
    "UNet2DConditionModel": 1.0,
    "SD3Transformer2DModel": 1.2,
    "FluxTransformer2DModel": 3.1,
    "MochiTransformer3DModel": 2.0,
    "LTXVideoTransformer3DModel": 5.5,
    "HunyuanVideoTransformer3DModel": 1.8,
    "CosmosTransformer3DModel": 1.6,
    "Lumina2Transformer2DModel": 1.2,
    "PixArtTransformer2DModel": 0.5,
    "ChromaTransformer2DModel": 3.2,
    "QwenImageTransformer2DModel": 1.8,
}
FACTOR = 2.0  # for other classes
OF_SDXL = 0.8
WAN, WAN_WIDTH = "WanTransformer3DModel", 2222
# memory_used_decode: (elements per decoded pixel, whether frames count)
DECODED: Mapping[str, tuple[int, bool]] = {
    "AutoencoderKLWan": (7000, False),
    "AutoencoderKLQwenImage": (7000, False),
    "AutoencoderKLMochi": (6000, True),
    "AutoencoderKLLTXVideo": (900, True),
    "AutoencoderKLHunyuanVideo": (1500, True),
    "AutoencoderKLCosmos": (50, True),
}
OF_PICTURES = (2178, False)


class ComfyRules(NamedTuple):
    """How a release of ComfyUI with the user's flags divides a card's memory."""

    mode: str  # --vram mode: normal, low, no or high
    dynamic: bool
    reserved: int  # bytes reserved for other programs
    newest: bool = True


def rules(w: Picture, part: "Part | None") -> ComfyRules:
    """Return the rules for the user's release and flags."""
    mode = w.vram_mode or "normal"
    newest = (release(w.engine_version or "") or DYNAMIC_SINCE) >= DYNAMIC_SINCE
    ours = part is None or part.vendor in ("NVIDIA", "")
    reserved = RESERVED
    if w.on_windows():
        large = part is not None and part.total.bytes.expected > 15 * GIB
        reserved = RESERVED_ON_WINDOWS + MORE_ON_WINDOWS * large
    if w.reserve_vram is not None:
        reserved = int(w.reserve_vram * GIB)
    dynamic = newest and ours and mode in ("normal", "low") and not w.disable_smart_memory
    return ComfyRules(mode, dynamic, reserved, newest)


def recipe(spec: PipelineSpec, w: Picture) -> PipelineSpec:
    """Return the pipeline as ComfyUI runs it: its own tiles, nothing excluded from offload, and
    (length - 1) // time + 1 latents."""
    size = w.vae_tile or TILE
    frames = max(2, TILE_FRAMES // spec.time) if w.vae_tiling and spec.time > 1 else 0
    dtype = "" if spec.upcast else spec.vae_dtype
    tile = (size, size)
    spec = spec._replace(tile=tile, frames_tile=frames, excluded=(), frames_nearest=False)
    return spec._replace(upcast=False, vae_dtype=dtype, latents_uncast=False, beside={})


def patched(
    place: ComponentPlacement, parts: Mapping[str, ModelPart]
) -> tuple[ComponentPlacement, int]:
    """Return (placement without LoRAs, bytes of LoRA files). ComfyUI merges LoRAs into weights
    during loading, one weight at a time in float32; the files stay in RAM."""
    files = (
        sum(adapting.files(parts[name], *loras, place.dtypes[name]))
        for name, loras in place.loras.items()
    )
    return replace(place, loras={}), sum(files)


def spread(one: Stage, config: Mapping[str, Any]) -> float:
    """Return the relative uncertainty of the activations in a stage."""
    return READ if one.name == DENOISE and followed(config, ComfyCard.code) else SPREAD


class ComfyCard(PipelineCard):
    """A card under ComfyUI: one model is loaded, and all others may leave."""

    code = "comfy_nets"
    outputs_stay = False  # pictures leave the card tile by tile

    def before(self, name: str) -> None:
        if self.placement.offload != "none":
            spec = self.spec
            groups = (spec.encoders, (spec.denoiser, *spec.controls))
            together = next((group for group in groups if name in group), (name,))
            for other in [one for one in self._there if one not in together]:
                self._send(other)
            self.heap.emptied()
            for one in together:
                if one in self.parts and one not in self._there:
                    self._bring(one)
        self._begin()


# ---- what ComfyUI expects of a step


def expected_step(part: ModelPart, request: PictureRequest, spec: PipelineSpec, rows: int) -> int:
    """Return the bytes that ComfyUI reserves for a step of `rows` predictions at once."""
    frames, height, width = request.latent(spec)
    area = rows * request.batch * frames * height * width
    return int(area * 2 * 0.01 * factor(class_of(part.config), part.config) * MIB)


def factor(cls: str, config: Mapping[str, Any]) -> float:
    """Return ComfyUI's memory_usage_factor for a denoiser class."""
    if cls == "UNet2DConditionModel" and config.get("addition_embed_type") == "text_time":
        return OF_SDXL
    if cls == WAN:
        c = config_of(config)
        return float(c.num_attention_heads * c.attention_head_dim / WAN_WIDTH)
    return FACTORS.get(cls, FACTOR)


def expected_decode(part: ModelPart, request: PictureRequest, spec: PipelineSpec) -> int:
    """Return the bytes that ComfyUI reserves for decoding one picture or video."""
    values, of_frames = DECODED.get(class_of(part.config), OF_PICTURES)
    frames, height, width = request.latent(spec)
    pixels = height * width * spec.space**2 * (frames * spec.time if of_frames else 1)
    return values * pixels * 2


def _with_guidance_mode(
    request: PictureRequest,
    spec: PipelineSpec,
    part: ModelPart,
    free: int | None,
    asked: str | None,
) -> PictureRequest:
    """Return the request with both guidance predictions in one batch if they fit, else in two
    passes, as the sampler decides."""
    if request.guidance == "none" or asked in ("batched", "two-pass"):
        return request
    roomy = free is None or expected_step(part, request, spec, 2) * ROOMY < free
    return replace(request, guidance="batched" if roomy else "two-pass")


# ---- what is loaded


class ComfyStages(NamedTuple):
    """Stages with the weights that are on the card, and the most bytes that stay in RAM."""

    stages: tuple[Stage, ...]
    request: PictureRequest
    in_ram: int = 0
    notes: tuple[str, ...] = ()


class ComfyRun(NamedTuple):
    """A pipeline on a card. `free`: bytes left by context and libraries, None without a card."""

    spec: PipelineSpec
    parts: Mapping[str, ModelPart]
    place: ComponentPlacement
    how: ComfyRules
    chip: Chip | None
    free: int | None


def run(one: ComfyRun, request: PictureRequest, guidance: str | None) -> ComfyStages:
    """Return the stages, each with as many weights on the card as fit."""
    denoiser = one.parts[one.spec.denoiser]
    request = _with_guidance_mode(request, one.spec, denoiser, one.free, guidance)
    vae = one.parts[one.spec.vae]
    if one.free is not None and request.batch * expected_decode(vae, request, one.spec) > one.free:
        request = replace(request, slicing=request.batch > 1)
    on_cpu = one.how.mode in ("low", "no") and not one.how.dynamic
    notes = (sentence("comfy.encoders"),) if on_cpu else ()
    card = ComfyCard(one.spec, one.parts, one.place, one.chip)
    card.turns_wide = not one.how.newest
    whole = tuple(stages.run(card, request, one.spec.encoders if on_cpu else ()))
    card.close()
    if one.free is None or one.how.mode == "high":
        return ComfyStages(whole, request, 0, notes)
    return _stages_that_fit(one, request, one.free, ComfyStages(whole, request, 0, notes))


def _stages_that_fit(
    one: ComfyRun, request: PictureRequest, free: int, whole: ComfyStages
) -> ComfyStages:
    """Return the stages as they fit into `free` bytes: decoding in tiles, weights partly in RAM."""
    *before, last = whole.stages
    notes = whole.notes
    if not request.tiling and working(last, one) + _cast(last, one) > free:
        last, notes = _tiled_decode_stage(one, request), (*notes, sentence("comfy.tiles"))
    waits, lessened = 0, []
    for stage in (*before, last):
        weights, budget = sum(stage.result.weights.values()), _budget(stage, one, request, free)
        waits = max(waits, weights - budget)
        fewer = weights > budget
        lessened.append(_with_share_of_weights(stage, one, budget / weights) if fewer else stage)
    return ComfyStages(tuple(lessened), request, waits, notes)


def _tiled_decode_stage(one: ComfyRun, request: PictureRequest) -> Stage:
    """Return the decode stage in tiles, which ComfyUI tries after running out of memory."""
    of_video = one.spec.time > 1 or class_of(one.parts[one.spec.vae].config) in DECODED
    side = TILE_OF_VIDEO if of_video else TILE
    spec = one.spec._replace(tile=(side, side), frames_tile=0)
    card = ComfyCard(spec, one.parts, one.place, one.chip)
    stage = stages.decode(card, replace(request, tiling=True))
    card.close()
    return stage


def _budget(stage: Stage, one: ComfyRun, request: PictureRequest, free: int) -> int:
    """Return the bytes available for the weights of a stage's model."""
    how = one.how
    if how.mode == "no":
        return 0
    form = one.place.forms.get(stage.component) or ""
    if how.dynamic and not formats.is_gguf(form):
        return max(0, free - how.reserved - working(stage, one) - _cast(stage, one))
    aside = INFERENCE + how.reserved
    part = one.parts[stage.component]
    if stage.name == DENOISE:
        aside += how.reserved + expected_step(part, request, one.spec, 1)
    elif stage.name == DECODE:
        aside = max(aside, how.reserved + expected_decode(part, request, one.spec))
    return max(LEAST_WEIGHTS, free - aside)


def working(stage: Stage, one: ComfyRun) -> int:
    """Return the upper bound of a stage's activations, in bytes."""
    peak = stage.result.peak
    live = sum(n for name, n in peak.live.items() if name != "weights")
    share = spread(stage, one.parts[stage.component].config)
    return int(live * (1 + share)) + peak.rounding + device.cached(peak.fragmentation).high


def _cast(stage: Stage, one: ComfyRun) -> int:
    """Return the bytes of the largest layer's copy on the card, which comes from RAM for its
    product; 0 if layers are dequantized."""
    if formats.unpacks(one.place.forms.get(stage.component)):
        return 0  # the dequantized layer is counted already
    dtype = one.place.dtypes[stage.component]
    return formats.largest(one.parts[stage.component], dtype, linears=True)


def _with_share_of_weights(stage: Stage, one: ComfyRun, share: float) -> Stage:
    peak, weights, *_ = stage.result
    cast = _cast(stage, one)
    fewer = {name: int(n * share) for name, n in weights.items()}
    more = cast - sum(weights.values()) + sum(fewer.values())
    live = {**peak.live, "weights": sum(fewer.values())}
    live["temporaries"] = live.get("temporaries", 0) + cast
    allocated, reserved = peak.allocated + more, peak.reserved + more
    smaller = LivePeak(live=live, allocated=allocated, reserved=reserved)
    return stage._replace(result=StagePeak(smaller, fewer))


# ---- the line that starts it


def script(row: PipelineSpec, settings: Mapping[str, object], forms: Mapping[str, str]) -> str:
    """Return the command that starts ComfyUI, with comments on what its nodes load."""
    return "\n".join(_lines(row, settings, forms))


def _lines(
    row: PipelineSpec, settings: Mapping[str, object], forms: Mapping[str, str]
) -> Iterator[str]:
    flags = []
    if settings["vram_mode"] != "normal":
        flags.append(f"--{settings['vram_mode']}vram")
    if settings.get("reserve_vram") is not None:
        flags.append(f"--reserve-vram {settings['reserve_vram']:g}")
    if settings.get("disable_smart_memory"):
        flags.append("--disable-smart-memory")
    yield " ".join(("python main.py", *flags))
    swaps = settings.get("blocks_to_swap")
    yield from _loaders(row, forms, swaps)
    if settings.get("vae_tiling"):
        tiled = "WanVideoDecode: enable_vae_tiling"
        yield f"# {tiled if swaps else 'VAEDecodeTiled in place of VAEDecode'}"
    size = f"{settings['width']} x {settings['height']}"
    frames = f", length {settings['frames']}" if row.kind == "video" else ""
    yield f"# {size}{frames}, batch_size {settings['batch_size']}"


def _loaders(row: PipelineSpec, forms: Mapping[str, str], swaps: object) -> Iterator[str]:
    """Yield a comment with the loader node of each component. ComfyUI-WanVideoWrapper swaps blocks;
    its nodes accept no other loaders' models."""
    if swaps:
        yield f"# WanVideoBlockSwap: blocks_to_swap {swaps}; to block_swap_args of each below"
        yield from (f"# {_wrapped(row, name, forms.get(name, ''))}" for name in row.denoisers)
    for name, form in forms.items():
        if not swaps or name not in row.denoisers:
            yield f"# {_loader(row, name, form)}"


def _wrapped(row: PipelineSpec, name: str, form: str) -> str:
    """Return the WanVideoWrapper's loader node, which reads GGUF as well."""
    if formats.is_gguf(form):
        return f"WanVideoModelLoader: {_file(row, name, form)}"
    packed = "fp8_e4m3fn" if form == formats.FP8 else "disabled"
    return f"WanVideoModelLoader: quantization {packed} ({name})"


def _file(row: PipelineSpec, name: str, form: str) -> str:
    """Return the file name of a component in format `form` if it is known, else a description with
    its repository."""
    known = find(row.name)
    file = "" if known is None else known.gguf_file(name, form)
    where = f", of {row.gguf}" if row.gguf else ""
    return f"{file or f'the file in {form}'}{where} ({name})"


def _loader(row: PipelineSpec, name: str, form: str) -> str:
    if formats.is_gguf(form) and name in row.denoisers:
        return f"UnetLoaderGGUF: {_file(row, name, form)}"
    if form == formats.FP8 and name in row.denoisers:
        return f"UNETLoader: weight_dtype fp8_e4m3fn ({name})"
    return f"{name}: the file in {form}"

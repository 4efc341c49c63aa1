"""What is asked of a training run, with the defaults of the pipeline and of the program."""

from collections.abc import Iterator, Mapping

from weighbridge.base.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType
from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.chips import ASSUMED, Chip
from weighbridge.machines.kernels.attention import order
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.tensors import torch_dtype
from weighbridge.pictures import base, formats
from weighbridge.pictures.adapting import CLASSES, EVERY, PictureAdapters
from weighbridge.pictures.config import class_of
from weighbridge.pictures.sharing import sharding
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.swapping import lists, most
from weighbridge.pictures.trainers import TRAINERS, PictureTrainer
from weighbridge.pictures.training import CLIP, PicturePlan
from weighbridge.pictures.values import Sizes
from weighbridge.training.adapters import ALL
from weighbridge.training.optimizers import optimizer
from weighbridge.workload.picture_training import PictureTraining

HALVES = {"bf16": BFLOAT16, "fp16": FLOAT16, "fp32": FLOAT32}
LARGEST_FACTOR = 1 << 12
MIXED = "-mixed"
WHOLE = 10_000  # LyCORIS's rank at which W2 is never split


def plan(
    spec: PipelineSpec, parts: Mapping[str, ModelPart], w: PictureTraining, chip: Chip | None
) -> PicturePlan:
    """Return the plan of a training run with all defaults. Raises UsageError for contradictory
    settings."""
    trainer = trainer_of(w)
    _consistent(spec, parts, w)
    precision = w.precision or trainer.precision
    compute, shares = HALVES[precision.removesuffix(MIXED)], sharding(w)
    mixed = precision.endswith(MIXED) and not shares.kind.startswith("zero")
    cls = class_of(parts[spec.denoiser].config)
    adapters = None if w.method == "full" else _adapters(w, trainer, compute, cls)
    stepped = optimizer(w.optimizer or trainer.optimizer)
    encodes, caches = _encoders(spec, parts, w)
    # a full training in mixed precision has float32 weights
    usual = FLOAT32 if w.method == "full" and mixed and trainer.master else compute
    forms, plain = formats.by_component(w.quantization, spec, base.canonical), _unpacked(w)
    return PicturePlan(
        spec=spec,
        parts=parts,
        sizes=sizes(spec, w),
        weights=torch_dtype(w.dtype, "--dtype") if w.dtype is not None else usual,
        autocast=compute if mixed else None,
        dtypes=_dtypes(spec, parts, w, compute),
        optimizer=replace(stepped, in_backward=True) if w.fused_backward else stepped,
        adapters=adapters,
        forms={name: form for name, form in forms.items() if name != spec.denoiser or not plain},
        accumulation=w.gradient_accumulation or 1,
        checkpointing="none" if w.compile else again(w, cls),
        attention=w.attention or "sdpa",
        attention_away=w.offload_attention,
        fuse_qkv=w.fuse_qkv,
        ema=w.ema,
        encodes=encodes,
        caches=caches,
        beside=trainer.beside and shares.kind != "fsdp2",  # is_fsdp: the denoiser is on no card yet
        trains_text=w.train_text_encoder,
        vae_tiling=w.vae_tiling,
        blocks_to_swap=w.blocks_to_swap or 0,
        streaming=w.streaming or "none",
        waiting=1.0 if w.offload_fraction is None else w.offload_fraction,
        depth=trainer.depth,
        bounced=trainer.packs,
        combined=trainer.combined,
        torch=trainer.torch,
        chip=chip or ASSUMED,
        sharding=shares,
        buckets=trainer.buckets,
        views=trainer.swaps_by_views and bool(w.blocks_to_swap),
    )


def trainer_of(w: PictureTraining) -> PictureTrainer:
    return TRAINERS[w.framework or "diffusers"]


def again(w: PictureTraining, cls: str, *, most: bool = False) -> str:
    """Return the checkpointing that the trainer uses, or with `most` may use, for a denoiser
    class."""
    return trainer_of(w).checkpoints(cls, w.checkpointing or "none", most=most)


def _unpacked(w: PictureTraining) -> bool:
    """Return whether streamed layers stay unquantized despite a format."""
    return w.streaming == "layers" and not trainer_of(w).packs


def sizes(spec: PipelineSpec, w: PictureTraining) -> Sizes:
    """Return the sizes of a step on the largest bucket. Raises UsageError for sizes that the
    pipeline does not have."""
    width, height, frames = spec.size
    if w.size is not None:
        height, width = w.size
    if w.frames is not None:
        frames = w.frames
    if spec.kind == "image" and frames > 1:
        raise UsageError(sentence("picture.frames", pipeline=spec.name, frames=frames))
    multiple = spec.sides
    if min(width, height) < multiple:
        raise UsageError(sentence("picture.small", width=width, height=height, least=multiple))
    return Sizes(
        batch=w.batch_size or 1,
        frames=(frames - 1) // spec.time + 1,
        height=height // multiple * multiple // spec.space,
        width=width // multiple * multiple // spec.space,
        text=w.prompt_tokens or spec.text,
    )


def _consistent(spec: PipelineSpec, parts: Mapping[str, ModelPart], w: PictureTraining) -> None:
    full = w.method == "full"
    forms = formats.by_component(w.quantization, spec, base.canonical)
    if full and spec.denoiser in forms:
        raise UsageError(sentence("train.stored", form=forms[spec.denoiser]))
    if full and (w.lora_r or w.lora_targets or w.lokr_factor or w.lora_conv_r):
        raise UsageError(sentence("picture_training.full"))
    if w.method != "lokr" and (w.lokr_factor or w.lokr_factors):
        raise UsageError(sentence("picture_training.factor", method=w.method or "lora"))
    params = parts[spec.denoiser].blueprint.counted
    blocks = sum(lists(params).values())
    if (w.blocks_to_swap or 0) > most(params, combined=trainer_of(w).combined):
        flag = f"--blocks-to-swap {w.blocks_to_swap}"
        raise UsageError(
            sentence("picture_training.blocks", pipeline=spec.name, most=blocks), where=flag
        )
    clips = [p for p in parts.values() if class_of(p.config).startswith(CLIP)]
    cls, title = class_of(parts[spec.denoiser].config), trainer_of(w).title
    if w.offload_attention and cls not in trainer_of(w).sending:
        raise UsageError(sentence("picture_training.attention", title=title, cls=cls))
    if w.train_text_encoder and not clips:
        raise UsageError(sentence("picture_training.no_clip", pipeline=spec.name))


def _adapters(
    w: PictureTraining, trainer: PictureTrainer, compute: DType, cls: str
) -> PictureAdapters:
    """Return the settings of adapters, with the trainer's defaults. In fp16, diffusers' scripts
    cast them to float32."""
    wide = trainer.wide or compute == FLOAT16
    lokr = w.method == "lokr"
    factors = _factors(w.lokr_factors or ())
    usual = trainer.adapts(cls)
    if lokr and not {ALL, EVERY} & {*usual}:
        usual = tuple(factors or CLASSES)
    rank = w.lora_r or (WHOLE if lokr else trainer.rank)
    return PictureAdapters(
        method=w.method or "lora",
        rank=rank,
        targets=w.lora_targets or (tuple(factors) if factors else usual),
        dtype=FLOAT32 if wide else compute,
        dropout=w.lora_dropout or 0.0,
        casts=trainer.casts,
        bypassed=trainer.bypassed,
        factor=w.lokr_factor or trainer.factor,
        factors=factors,
        conv_rank=w.lora_conv_r or (rank if trainer.kernels else 0),
    )


def with_less_of_factors(asked: PicturePlan, w: PictureTraining) -> PicturePlan | None:
    """Return the plan with the smallest LoKr factors of the trainer's examples, which give the
    largest adapters; None if the user sets factors, or the trainer has a default."""
    how = asked.adapters
    if how is None or w.method != "lokr" or w.lokr_factor or w.lokr_factors:
        return None
    examples = trainer_of(w).factors
    return replace(asked, adapters=replace(how, factors=examples)) if examples else None


def _factors(written: tuple[str, ...]) -> dict[str, int]:
    """Return module class -> factor from items such as Attention=16. Raises UsageError for
    others."""
    factors: dict[str, int] = {}
    for item in written:
        kind, _, text = (word.strip() for word in item.partition("="))
        if kind not in CLASSES or not text.isdigit() or not 1 <= int(text) <= LARGEST_FACTOR:
            line = sentence("picture_training.factors", known=", ".join(CLASSES))
            raise UsageError(line, where=f"--lokr-factors {item:.40}")
        factors[kind] = int(text)
    return factors


def _encoders(
    spec: PipelineSpec, parts: Mapping[str, ModelPart], w: PictureTraining
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (encoders that run in each step, encoders that run before). Dropped ones ran
    separately."""
    texts = tuple(name for name in spec.encoders if name in parts)
    live = w.uncached_text or w.train_text_encoder
    pictures = (spec.vae,)
    encodes = (*(texts if live else ()), *(pictures if w.uncached_latents else ()))
    elsewhere = formats.left_out(w.drop or (), spec, (*texts, *pictures))
    if both := elsewhere & {*encodes}:
        listed = ", ".join(sorted(both))
        raise ContradictionError(sentence("picture_training.dropped", components=listed))
    apart = {*encodes, *elsewhere}
    return encodes, tuple(name for name in (*texts, *pictures) if name not in apart)


def _dtypes(
    spec: PipelineSpec, parts: Mapping[str, ModelPart], w: PictureTraining, compute: DType
) -> dict[str, DType]:
    dtypes = dict.fromkeys(parts, compute)
    precise = trainer_of(w).precise
    cls = class_of(parts[spec.denoiser].config)
    if spec.vae_dtype or (precise and (spec.upcast or cls.startswith(precise))):
        dtypes[spec.vae] = torch_dtype(spec.vae_dtype or "float32", spec.vae)
    return dtypes


def _step_notes(w: PictureTraining, trainer: PictureTrainer, cls: str) -> Iterator[str]:
    """Yield notes on blocks that are recomputed, compiled, or partly offloaded."""
    how = w.checkpointing or "none"
    if again(w, cls) != how:
        yield sentence("picture_training.again", title=trainer.title, asked=how, used=again(w, cls))
    if w.compile and how != "none":
        yield sentence("picture_training.compiled")
    if w.offload_attention:
        yield sentence("picture_training.sent")


def notes(spec: PipelineSpec, w: PictureTraining, asked: PicturePlan) -> Iterator[str]:
    """Yield notes on settings that are not as requested, or not estimated."""
    s = asked.sizes
    if w.size is not None and w.size != (s.height * spec.space, s.width * spec.space):
        size = f"{s.width * spec.space} x {s.height * spec.space}"
        yield sentence("picture.rounded", pipeline=spec.name, multiple=spec.sides, size=size)
    if w.quantization is not None and _unpacked(w):
        yield sentence("picture_training.streamed", form=w.quantization)
    if w.drop:
        names = formats.left_out(w.drop, spec, asked.parts)
        yield sentence("picture_training.elsewhere", components=", ".join(sorted(names)))
    if asked.away_whole:
        yield sentence("picture_training.swap_full")
    if trainer_of(w).beside and spec.vae in asked.caches:
        yield sentence("picture_training.kept")
    if not base.known(asked.form):
        yield sentence("picture_training.unread", form=asked.form or "")
    half = (asked.autocast or asked.weights).nbytes == 2
    if half and asked.attention == "sdpa" and order(asked.chip, asked.torch)[0] == "cudnn":
        yield sentence("picture_training.cudnn")
    if with_less_of_factors(asked, w):
        yield sentence("picture_training.no_factors", title=trainer_of(w).title)
    trainer, cls = trainer_of(w), class_of(asked.denoiser.config)
    yield from _sharding_notes(asked, trainer)
    yield from _step_notes(w, trainer, cls)
    if trainer.forks(cls):
        percent = trainer.around.above
        yield sentence("picture_training.forked", title=trainer.title, percent=percent)


def _sharding_notes(asked: PicturePlan, trainer: PictureTrainer) -> Iterator[str]:
    """Yield notes on a sharding that the trainer is not known to support, or whose combination was
    not read."""
    kind = asked.sharding.kind
    if kind not in ("none", *trainer.shares):
        known = ", ".join(trainer.shares)
        yield sentence("picture_training.shares", title=trainer.title, kind=kind, known=known)
    if asked.sharding.parameters and asked.form is not None:
        yield sentence("picture_training.packed", form=asked.form)

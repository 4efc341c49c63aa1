"""Formats of a pipeline's weights, component by component.

    "fp8"                                 of the denoiser
    "transformer=Q6_K+text_encoder=nf4"   of each that is named; `text` is all encoders of texts

    fp8         a file in float8_e4m3fn: linears in one byte, all else as it is
    svdquant    nunchaku's int4: half a byte, a float16 for 64 inputs, and a low-rank part of 32
    Q4_K ...    ggml's blocks of linears; what its blocks do not divide is in float16
    the rest    loaders of language models, which replace the same modules (models/quantization)
    ...@blocks  linears of blocks alone

A linear of a format that is not multiplied as it is stored is unpacked whole for its product.
Source: city96/ComfyUI-GGUF ops.py, tools/convert.py; nunchaku models/linear.py (SVDQW4A4Linear);
transformers modeling_t5.py (_keep_in_fp32_modules: bitsandbytes leaves `wo` in float32).
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from math import prod

from weighbridge.base.dtypes import FLOAT16, FLOAT32, GGML_BY_NAME, DType
from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.memo import memo
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization import schemes
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.swapping import block_of

FP8, SVDQUANT = "fp8", "svdquant"
TEXT, DENOISER = "text", "denoiser"
MULTIPLIED = ("torchao", SVDQUANT, "bnb-int8")  # formats multiplied without dequantizing
WIDE = "DenseReluDense.wo.weight"
BITSANDBYTES = ("nf4", "fp4", "bnb")
BLOCKS = "@blocks"


def by_component(
    quantization: str | None, spec: PipelineSpec, spelled: Callable[[str], str] | None = None
) -> dict[str, str]:
    """Return component -> format. A component's own format takes precedence over a group's. Raises
    UsageError for an unknown component or format, and for two formats of one."""
    asked = by_name(quantization, spelled)
    chosen: dict[str, str] = {}
    for name in sorted(asked, key=(TEXT, DENOISER).__contains__, reverse=True):
        chosen |= dict.fromkeys(meant(name, spec), asked[name])
    return chosen


def by_name(
    quantization: str | None, spelled: Callable[[str], str] | None = None
) -> dict[str, str]:
    """Return the formats by the names that the user wrote: components, or groups of them."""
    asked: dict[str, str] = {}
    for item in filter(None, re.split("[,+]", quantization or "")):
        typed, sign, form = (word.strip() for word in item.rpartition("="))
        name, form = typed if sign else DENOISER, (spelled or canonical)(form)
        if asked.setdefault(name, form) != form:
            values = {"name": name, "first": asked[name], "second": form}
            raise ContradictionError(sentence("component_twice", **values))
    return asked


def meant(name: str, spec: PipelineSpec) -> tuple[str, ...]:
    """Return the components that a name or group stands for. Raises UsageError for unknown
    names."""
    groups = {TEXT: spec.encoders, DENOISER: spec.denoisers}
    if name in groups:
        return groups[name]
    names = dict.fromkeys((*spec.order, *spec.encoders))  # some are in no chain of model offload
    if name not in names:
        known = ", ".join((*groups, *names))
        raise UsageError(sentence("component", name=name, pipeline=spec.name, known=known))
    return (name,)


def left_out(dropped: Iterable[str], spec: PipelineSpec, there: Collection[str]) -> frozenset[str]:
    """Return the components that the user leaves out; `text` means all text encoders. Raises
    UsageError for an unknown one."""
    names: set[str] = set()
    for name in dropped:
        if name != TEXT and name not in there:
            listed = ", ".join((TEXT, *there))
            raise UsageError(sentence("component", name=name, pipeline=spec.name, known=listed))
        names |= {*spec.encoders} if name == TEXT else {name}
    return frozenset(names)


def canonical(form: str) -> str:
    """Return a format in weighbridge's spelling. Raises UsageError with the nearest names."""
    plain = form.strip().lower()
    if plain.endswith(BLOCKS):
        return canonical(plain.removesuffix(BLOCKS)) + BLOCKS
    if plain in (FP8, "fp8_e4m3fn", "fp8-e4m3fn", "float8_e4m3fn"):
        return FP8
    if plain in (SVDQUANT, "nunchaku", "svdquant-int4"):
        return SVDQUANT
    return plain if plain in FORMATS else schemes.scheme(form).name


def is_gguf(form: str) -> bool:
    """Return whether a format is one of ggml's types."""
    return form in schemes.GGUF


def unpacks(form: str | None) -> bool:
    """Return whether linears in this format are dequantized whole for their products."""
    return form is not None and not form.startswith(MULTIPLIED)


def sizes(part: ModelPart, form: str | None, dtype: DType) -> tuple[int, ...]:
    """Return the bytes of each tensor of a component on the card."""
    return memo(part, ("picture", form, dtype.name), lambda: tuple(_sizes(part, form, dtype)))


def tables(part: ModelPart, dtype: DType) -> tuple[int, ...]:
    """Return the bytes of each buffer that is cast together with the parameters."""
    return tuple(dtype.size(prod(one.shape)) for one in part.blueprint.buffers if not one.dtype)


def loaded(part: ModelPart, dtype: DType) -> tuple[int, ...]:
    """Return the bytes of each tensor as transformers loads them: in float16 T5's `wo` stay in
    float32. Stable Diffusion 3 was published so (18.77 GiB); CogVideoX by diffusers-torchao was
    loaded in bfloat16 and cast. Source: modeling_utils.py (_keep_in_fp32_modules)."""
    wide = {p.name for p in part.blueprint.params if p.name.endswith(WIDE) and dtype == FLOAT16}
    params = (p for p in part.blueprint.params if not p.tied)
    return tuple((FLOAT32 if p.name in wide else dtype).size(p.numel) for p in params)


def nbytes(part: ModelPart, form: str | None, dtype: DType) -> int:
    return sum((*sizes(part, form, dtype), *tables(part, dtype)))


def _sizes(part: ModelPart, form: str | None, dtype: DType) -> Iterator[int]:
    params = [p for p in part.blueprint.params if not p.tied]
    own = None if form is None else of_pictures(form)
    if form is None:
        return (dtype.size(p.numel) for p in params)
    if form.endswith(BLOCKS):
        packed = zip(params, sizes(part, form.removesuffix(BLOCKS), dtype), strict=True)
        return (n if block_of(p.name) else dtype.size(p.numel) for p, n in packed)
    if own is not None:
        return (own.size(p, dtype) for p in params)
    return _sizes_by_loader(part, form, dtype)


def _sizes_by_loader(part: ModelPart, form: str, dtype: DType) -> Iterator[int]:
    params = [p for p in part.blueprint.params if not p.tied]
    packed = schemes.weighed(params, schemes.scheme(form), plan=part.blueprint, dtype=dtype)
    wide = form.startswith(BITSANDBYTES)
    for p in params:
        yield FLOAT32.size(p.numel) if wide and p.name.endswith(WIDE) else packed[p.name]


class LinearFormat(NamedTuple):
    """Bytes of a quantized linear: per element, per row and per group of inputs."""

    value: float
    row: int = 0
    group: float = 0.0
    inputs: int = 1  # inputs per group; a linear that does not divide stays in float16
    rank: int = 0  # rank of an additional low-rank part in float16

    def size(self, param: Param, dtype: DType) -> int:
        """Return the bytes of a parameter in this format; all but linears are in `dtype`."""
        if param.kind != "linear" or len(param.shape) != 2:
            return dtype.size(param.numel)
        outputs, inputs = param.shape
        if inputs % self.inputs:
            return FLOAT16.size(param.numel)
        nbytes = param.numel * self.value + outputs * self.row
        nbytes += param.numel // self.inputs * self.group
        return int(nbytes) + FLOAT16.size(self.rank * (outputs + inputs))


FORMATS: Mapping[str, LinearFormat] = {
    FP8: LinearFormat(1),
    SVDQUANT: LinearFormat(0.5, group=2, inputs=64, rank=32),
    # torchao 0.5 to 0.18 quantization/quant_api.py, dtypes/floatx, sparsity: which leave no linear
    # language models have
    "torchao-int8": LinearFormat(1, row=2),
    "torchao-fp8": LinearFormat(1, row=4),
    "torchao-int4": LinearFormat(0.5, group=4, inputs=64),
    "torchao-int4-dynamic": LinearFormat(1, group=4, inputs=32),
    "torchao-fp6": LinearFormat(0.75, row=2),
    "torchao-fp5": LinearFormat(0.625, row=2),
    "torchao-fp4": LinearFormat(0.5, row=2),
    "torchao-int8-sparse": LinearFormat(0.625, row=4),
    # ai-toolkit @ 27a03a91 toolkit/util/uintx_quant.py: a scale and a zero for 64 inputs
    **{f"torchao-uint{bits}": LinearFormat(bits / 8, group=3, inputs=64) for bits in range(2, 8)},
}


def of_pictures(form: str) -> LinearFormat | None:
    """Return the byte counts of a format that only picture programs have; None for formats of
    language models."""
    if form in FORMATS:
        return FORMATS[form]
    names = (form[:end] for end in range(len(form), 0, -1))
    base = next((name for name in names if name in GGML_BY_NAME), "")
    if not base or not form[0].isupper():
        return None
    block = GGML_BY_NAME[base]
    return LinearFormat(0, group=block.nbytes, inputs=block.block)


# ---- layers that rest in fp8: diffusers 0.42 hooks/layerwise_casting.py, and of the classes
# _skip_layerwise_casting_patterns with _keep_in_fp32_modules

CAST = ("linear", "conv", "embedding", "bias")
UNCAST = "pos_embed|patch_embed|norm|^proj_in$|^proj_out$"
UNCAST_OF: Mapping[str, str] = {
    "CogView4": "proj_out",
    "Cosmos": "final_layer",
    "HunyuanVideo": "x_embedder|context_embedder",
    "Kandinsky5": "modulation|time_embeddings|visual_modulation|text_modulation",
    "Krea2": "time_embed",
    "Lumina2": "x_embedder",
    "OmniGen": "embed_tokens",
    "PixArt": "adaln_single",
    "SkyReels": "condition_embedder",
    "Wan": "condition_embedder",
    "ZImage": "t_embedder|cap_embedder",
}


def resting(part: ModelPart, dtype: DType) -> tuple[tuple[int, ...], int]:
    """Return (bytes of each tensor while its layer does not run, bytes of the largest layer in its
    compute dtype)."""
    return memo(part, ("resting", dtype.name), lambda: _resting(part, dtype))


def _resting(part: ModelPart, dtype: DType) -> tuple[tuple[int, ...], int]:
    more = (words for begins, words in UNCAST_OF.items() if part.blueprint.cls.startswith(begins))
    skipped = re.compile("|".join((UNCAST, *more)))
    sizes, runs = [], 0
    for p in part.blueprint.params:
        cast = p.kind in CAST and not skipped.search(p.name.rpartition(".")[0])
        runs = max(runs, dtype.size(p.numel) if cast else 0)
        sizes += [] if p.tied else [p.numel if cast else dtype.size(p.numel)]
    return tuple(sizes), runs


# ---- parts of a component


FUSED = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")


def fused(part: ModelPart, form: str | None, dtype: DType) -> tuple[int, ...]:
    """Return the bytes that fuse_qkv_projections adds: a second copy of query, key and value
    weights, as one. The first copy stays. Source: diffusers models/attention_processor.py
    (fuse_projections)."""
    paths = (p.name.split(".") for p in part.blueprint.params if not p.tied)
    packed = zip(paths, sizes(part, form, dtype), strict=True)
    return tuple(nbytes for path, nbytes in packed if path[-2:][0] in FUSED)


def largest(part: ModelPart, dtype: DType, *, linears: bool = False) -> int:
    """Return the bytes of the largest tensor, the unit of sequential offload; with `linears`, of
    the largest dequantized linear."""
    fitting = (p for p in part.blueprint.params if p.kind == "linear" or not linears)
    return max((dtype.size(prod(p.shape)) for p in fitting), default=0)


def blocks(part: ModelPart) -> tuple[float, float, int]:
    """Return (share of parameters outside blocks, share in the largest block, number of blocks).
    Blocks are children of module lists, as group offload splits them."""
    return memo(part, ("blocks",), lambda: _blocks(part))


def _blocks(part: ModelPart) -> tuple[float, float, int]:
    counts: dict[tuple[str, int], int] = {}
    outside = 0
    for p in part.blueprint.params:
        block = block_of(p.name)
        if block is None:
            outside += p.numel
        else:
            counts[block] = counts.get(block, 0) + p.numel
    total = max(1, outside + sum(counts.values()))
    return outside / total, max(counts.values(), default=0) / total, len(counts)

"""Formats of a pipeline's weights, component by component.

    "fp8"                                 of the denoiser
    "transformer=Q6_K,text_encoder=nf4"   of each that is named; `text` is all encoders of texts

    fp8         a file in float8_e4m3fn: linears in one byte, all else as it is
    svdquant    nunchaku's int4: half a byte, a float16 for 64 inputs, and a low-rank part of 32
    Q4_K ...    ggml's blocks of linears; what its blocks do not divide is in float16
    the rest    loaders of language models, which replace the same modules (models/quantization)

A linear of a format that is not multiplied as it is stored is unpacked whole for its product.
Source: city96/ComfyUI-GGUF ops.py, tools/convert.py; nunchaku models/linear.py (SVDQW4A4Linear);
transformers modeling_t5.py (_keep_in_fp32_modules: bitsandbytes leaves `wo` in float32).
"""

from collections.abc import Iterator
from math import prod

from weighbridge.base.dtypes import FLOAT16, FLOAT32, GGML_BY_NAME, TORCH, DType
from weighbridge.base.errors import UsageError
from weighbridge.base.memo import memo
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Param, held
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization import schemes
from weighbridge.pictures.spec import PipelineSpec

FP8, SVDQUANT = "fp8", "svdquant"
TEXT, DENOISER = "text", "denoiser"
MULTIPLIED = ("torchao", SVDQUANT, "bnb-int8")  # as they are stored
RANK, GROUP = 32, 64  # of SVDQuant
WIDE = "DenseReluDense.wo.weight"
BITSANDBYTES = ("nf4", "fp4", "bnb")


def by_component(quantization: str | None, spec: PipelineSpec) -> dict[str, str]:
    """Read what was asked. Raises UsageError for a component that there is not, or a format."""
    chosen: dict[str, str] = {}
    for item in filter(None, (quantization or "").split(",")):
        name, sign, form = (word.strip() for word in item.rpartition("="))
        for component in _meant(name if sign else DENOISER, spec):
            chosen[component] = canonical(form)
    return chosen


def _meant(name: str, spec: PipelineSpec) -> tuple[str, ...]:
    groups = {TEXT: spec.encoders, DENOISER: spec.denoisers}
    if name in groups:
        return groups[name]
    if name not in spec.order:
        known = ", ".join((*groups, *spec.order))
        raise UsageError(sentence("component", name=name, pipeline=spec.name, known=known))
    return (name,)


def canonical(form: str) -> str:
    """Return a format as it is spelled. Raises UsageError with the nearest ones."""
    plain = form.strip().lower()
    if plain in (FP8, "fp8_e4m3fn", "fp8-e4m3fn", "float8_e4m3fn"):
        return FP8
    if plain in (SVDQUANT, "nunchaku", "svdquant-int4"):
        return SVDQUANT
    return schemes.scheme(form).name


def unpacks(form: str | None) -> bool:
    """Tell whether a linear is unpacked whole for its product."""
    return form is not None and not form.startswith(MULTIPLIED)


def sizes(part: ModelPart, form: str | None, dtype: DType) -> tuple[int, ...]:
    """Return the bytes of each tensor that a component has on the card."""
    return memo(part, ("picture", form, dtype.name), lambda: tuple(_sizes(part, form, dtype)))


def nbytes(part: ModelPart, form: str | None, dtype: DType) -> int:
    return sum(sizes(part, form, dtype))


def _sizes(part: ModelPart, form: str | None, dtype: DType) -> Iterator[int]:
    params = [p for p in part.blueprint.params if not p.tied]
    if form is None:
        yield from (held(p, dtype).size(p.numel) for p in params)
        return
    own = _of_pictures(form, dtype)
    if own is not None:
        yield from map(own.size, params)
        return
    packed = schemes.weighed(params, schemes.scheme(form), plan=part.blueprint, dtype=dtype)
    wide = form.startswith(BITSANDBYTES)
    for p in params:
        yield FLOAT32.size(p.numel) if wide and p.name.endswith(WIDE) else packed[p.name]


class OwnFormat:
    """A format of the programs that make pictures: bytes of linears, all else in `dtype`."""

    def __init__(self, stored: DType | None, dtype: DType) -> None:
        self.stored, self.dtype = stored, dtype

    def size(self, param: Param) -> int:
        if param.kind != "linear" or len(param.shape) != 2:
            return self.dtype.size(param.numel)
        outputs, inputs = param.shape
        if self.stored is None:
            scales = FLOAT16.size(outputs * -(-inputs // GROUP))
            low_rank = FLOAT16.size(RANK * (outputs + inputs))
            return TORCH["int4"].size(param.numel) + scales + low_rank
        if inputs % self.stored.block:
            return FLOAT16.size(param.numel)
        return self.stored.size(param.numel)


def _of_pictures(form: str, dtype: DType) -> OwnFormat | None:
    if form == FP8:
        return OwnFormat(TORCH["float8_e4m3fn"], dtype)
    if form == SVDQUANT:
        return OwnFormat(None, dtype)
    names = (form[:end] for end in range(len(form), 0, -1))
    base = next((name for name in names if name in GGML_BY_NAME), "")
    return OwnFormat(GGML_BY_NAME[base], dtype) if base and form[0].isupper() else None


# ---- parts of a component


def largest(part: ModelPart, dtype: DType, *, linears: bool = False) -> int:
    """Return the bytes of the largest tensor: a leaf of sequential offload, or a linear that is
    unpacked."""
    fitting = (p for p in part.blueprint.params if p.kind == "linear" or not linears)
    return max((dtype.size(prod(p.shape)) for p in fitting), default=0)


def blocks(part: ModelPart) -> tuple[float, float, int]:
    """Return shares of a component's parameters: what is in no block, the largest block; and how
    many blocks there are. Blocks are children of lists of modules, as group offload cuts them."""
    counts: dict[str, int] = {}
    outside = 0
    for p in part.blueprint.params:
        words = p.name.split(".")
        place = next((i for i, word in enumerate(words) if word.isdigit()), None)
        if place is None or place > 2:
            outside += p.numel
        else:
            path = ".".join(words[: place + 1])
            counts[path] = counts.get(path, 0) + p.numel
    total = max(1, outside + sum(counts.values()))
    return outside / total, max(counts.values(), default=0) / total, len(counts)

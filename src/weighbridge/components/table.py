"""The load table: what the weights would take in each format, and the largest layer of each.

    division   every parameter alike, numel x bits / 8; labelled so, because no loader does it
    format     a real format, with scales and with what its loader leaves alone

Training with Adam is 16 bytes a parameter in float32 (weights, gradients, two moments) and in
mixed precision (the same in float32, whatever the compute dtype), and 8 in a pure 16-bit dtype.
"""

from collections.abc import Iterable, Iterator, Mapping

from weighbridge.components.layers import Layers
from weighbridge.components.weights import DIVISIONS, divided, persistent_bytes
from weighbridge.dtypes import DType
from weighbridge.model import Model, ModelPart
from weighbridge.quantization.schemes import describe, scheme, stored
from weighbridge.report import Row

FORMATS = (
    "bnb-int8",
    "nf4",
    "nf4-dq",
    "gptq-4bit-g128",
    "awq-4bit-g128",
    "fp8-tensor",
    "fp8-block",
    "mxfp4",
    "nvfp4",
    "hqq-4bit-g64",
    "torchao-int8",
    "torchao-int4-g128",
    "mlx-4bit-g64",
    "Q8_0",
    "Q6_K",
    "Q4_K_M",
)
MIXED = ("float32", "float16", "bfloat16")
PURE = ("float16", "bfloat16")


def rows(model: Model, dtypes: Mapping[str, DType], *, major: int) -> Iterator[Row]:
    """`dtypes` is the dtype of each part, which a format gives to what it leaves alone."""
    layers = {part.name: _layers(part) for part in model.parts}
    for name, dtype in DIVISIONS.items():
        yield _division(model, name, dtype, layers)
    for name in FORMATS:
        yield _format(model, name, dtypes, layers, major)


def _layers(part: ModelPart) -> Layers:
    plan = part.blueprint
    names = [*(p.name for p in plan.params), *(b.name for b in plan.buffers)]
    return Layers(names, plan.blocks)


def _largest(found: Iterable[tuple[str, int]]) -> tuple[str, int]:
    return max(found, key=lambda item: item[1])


def _division(model: Model, name: str, dtype: DType, layers: Mapping[str, Layers]) -> Row:
    layer, count = _largest(
        layers[part.name].largest((p.name, p.numel) for p in part.blueprint.params if not p.tied)
        for part in model.parts
    )
    return Row(
        dtype=name,
        largest_layer=layer,
        largest_layer_bytes=dtype.size(count),
        total_bytes=sum(divided(part, dtype) for part in model.parts),
        training_adam_bytes=16 * model.parameters if name in MIXED else None,
        training_adam_pure_bytes=8 * model.parameters if name in PURE else None,
        basis="division",
    )


def _format(
    model: Model, name: str, dtypes: Mapping[str, DType], layers: Mapping[str, Layers], major: int
) -> Row:
    form = scheme(name)
    size, largest = 0, []
    for part in model.parts:
        dtype = dtypes[part.name]
        found = list(stored(part.blueprint, form, dtype=dtype, transformers=major))
        size += sum(s.nbytes for s in found) + persistent_bytes(part, dtype)
        largest.append(layers[part.name].largest((s.source, s.nbytes) for s in found))
    layer, nbytes = _largest(largest)
    return Row(
        dtype=name,
        largest_layer=layer,
        largest_layer_bytes=nbytes,
        total_bytes=size,
        training_adam_bytes=None,
        training_adam_pure_bytes=None,
        basis="format",
        left_alone=describe(form),
    )

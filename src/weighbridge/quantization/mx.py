"""Floats in blocks that share a scale: MXFP4, MXFP8 and NVFP4.

    mxfp4  two values a byte and a uint8 exponent for 32 of them                    4.25
           stacked experts (gpt-oss): _blocks [E, out, in/32, 16], _scales [E, out, in/32]
           a Linear (compressed-tensors): weight_packed [out, in/2], weight_scale [out, in/32]
    mxfp8  weight float8_e4m3fn [out, in], weight_scale uint8 [out, in/32]         8.25
    nvfp4  weight_packed uint8 [out, in/2], weight_scale e4m3 [out, in/16],
           weight_global_scale and input_global_scale float32 [1]                   4.5

Where a model has routed experts, MXFP4 is for those alone, as in gpt-oss and Kimi. Engines pad:
vLLM rounds gpt-oss's 2,880 up, kernels tile NVFP4's scales by 128 x 4; that is not counted here.
Source: transformers 5.23 integrations/mxfp4.py; compressed-tensors 0.20
compressors/{nvfp4,mxfp4,mxfp8}.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Param, ParamKind
from weighbridge.dtypes import FLOAT8, FLOAT32, UINT8
from weighbridge.quantization.scheme import (
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Scheme,
    checkpoint_linears,
    packing,
    published,
    sibling,
)

MX, NV = 32, 16  # values that share a scale


def mxfp4(p: Param, m: Matrix) -> Iterator[PackedPiece]:
    groups = (*m.stack, m.outputs, m.inputs // MX)
    if m.stack:
        yield PackedPiece(f"{p.name}_blocks", UINT8, (*groups, MX // 2))
        yield PackedPiece(f"{p.name}_scales", UINT8, groups)
    else:
        yield PackedPiece(f"{p.name}_packed", UINT8, (m.outputs, m.inputs // 2))
        yield PackedPiece(f"{p.name}_scale", UINT8, groups)


def mxfp8(p: Param, m: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(p.name, FLOAT8, (*m.stack, m.outputs, m.inputs))
    yield PackedPiece(sibling(p, "weight_scale"), UINT8, (*m.stack, m.outputs, m.inputs // MX))


def nvfp4(p: Param, m: Matrix) -> Iterator[PackedPiece]:
    yield PackedPiece(f"{p.name}_packed", UINT8, (*m.stack, m.outputs, m.inputs // 2))
    yield PackedPiece(f"{p.name}_scale", FLOAT8, (*m.stack, m.outputs, m.inputs // NV))
    yield PackedPiece(f"{p.name}_global_scale", FLOAT32, m.stack or (1,))
    yield PackedPiece(sibling(p, "input_global_scale"), FLOAT32, m.stack or (1,))


def _mxfp4(s: LoaderFacts) -> Pack:
    sparse = any(p.kind in ("expert", "experts") for p in s.plan.counted)
    kinds: tuple[ParamKind, ...] = ("expert", "experts") if sparse else ("linear", "conv1d")
    return packing(checkpoint_linears(s, kinds=kinds), mxfp4, s, group=MX)


def _mxfp8(s: LoaderFacts) -> Pack:
    return packing(published(s), mxfp8, s, group=MX)


def _nvfp4(s: LoaderFacts) -> Pack:
    return packing(published(s), nvfp4, s, group=NV)


LEFT = (
    "embeddings, norms, biases, routers, the output layer and vision and audio parts stay in the "
    "model's dtype"
)
SCHEMES: dict[str, Scheme] = {
    "mxfp4": Scheme(
        name="mxfp4",
        loader=_mxfp4,
        left="where there are routed experts, all but those stays in the model's dtype; in other "
        "models embeddings, norms, biases and the output layer",
        source="transformers 5.23 integrations/mxfp4.py; compressed-tensors 0.20 compressors/mxfp4",
    ),
    "nvfp4": Scheme(
        name="nvfp4",
        loader=_nvfp4,
        left=LEFT,
        source="compressed-tensors 0.20 compressors/nvfp4",
    ),
    "mxfp8": Scheme(
        name="mxfp8",
        loader=_mxfp8,
        left=LEFT,
        source="compressed-tensors 0.20 compressors/mxfp8",
    ),
}

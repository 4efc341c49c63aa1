"""MLX: Linears, experts and embeddings alike, packed in uint32 words along the inputs.

    affine  weight uint32 [out, in b/32], scales and biases [out, in/g] in the model's dtype
                                                                              b + 32/g
    mxfp4   g 32, mxfp8 g 32, nvfp4 g 16: scales uint8, no biases             4.25, 8.25, 4.5

Only what has its last dimension divisible by g. mlx-lm reads no vision or audio part, mlx-vlm
leaves them alone. Routers get 8 bits and g 64 where a model's `quant_predicate` says so, else the
same as all; those of DeepSeek, GLM and dots are bare arrays, which stay.
Source: mlx nn/layers/quantized.py; mlx-lm 0.32.2 utils.py:quantize_model and the quant_predicate
of models/*.py.
"""

from collections.abc import Iterator
from re import Match

from weighbridge.base.dtypes import TORCH, UINT8
from weighbridge.models.arch.blueprint import Param, ParamKind
from weighbridge.models.quantization.scheme import (
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Scheme,
    Takes,
    in_tower,
    packing,
    sibling,
)

UINT32, WORD = TORCH["uint32"], 32
KINDS: tuple[ParamKind, ...] = ("linear", "conv1d", "expert", "experts", "embedding", "router")

# Starts of the names of classes whose router has bits of its own, and whose router is a bare array.
EIGHT_BIT_ROUTERS = (
    "Afmoe",
    "Bailing",
    "Gemma4",
    "GptOss",
    "Granite",
    "Jamba",
    "Kimi",
    "Klear",
    "Laguna",
    "Lfm2Moe",
    "LongcatFlash",
    "MiniMax",
    "Qwen3",
    "Step3p5",
)
BARE_ROUTERS = ("Deepseek", "Glm4Moe", "Dots1")
ROUTER_BITS, ROUTER_GROUP = 8, 64
MODES = {"mxfp4": (4, 32), "nvfp4": (4, 16), "mxfp8": (8, 32)}


def _takes(facts: LoaderFacts) -> Takes:
    bare = facts.plan.cls.startswith(BARE_ROUTERS)

    def takes(param: Param) -> bool:
        return (
            param.kind in KINDS
            and not in_tower(facts.plan, param)
            and not (param.kind == "router" and bare)
        )

    return takes


def _pieces(
    param: Param, weight: Matrix, facts: LoaderFacts, bits: int, group: int
) -> Iterator[PackedPiece]:
    words = (*weight.stack, weight.outputs, weight.inputs * bits // WORD)
    scales = (*weight.stack, weight.outputs, weight.inputs // group)
    yield PackedPiece(param.name, UINT32, words)
    yield PackedPiece(sibling(param, "scales"), facts.dtype, scales)
    yield PackedPiece(sibling(param, "biases"), facts.dtype, scales)


def affine(match: Match[str]) -> Scheme:
    bits, group = int(match["bits"]), int(match["group"])

    def loader(facts: LoaderFacts) -> Pack:
        eight = facts.plan.cls.startswith(EIGHT_BIT_ROUTERS)

        def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
            widths = (
                (ROUTER_BITS, ROUTER_GROUP) if param.kind == "router" and eight else (bits, group)
            )
            return _pieces(param, weight, facts, *widths)

        return packing(_takes(facts), pieces, facts, group=group)

    return Scheme(name=match[0], loader=loader, left=LEFT, source=SOURCE, engine="mlx-lm")


def mode(match: Match[str]) -> Scheme:
    bits, group = MODES[match["mode"]]

    def loader(facts: LoaderFacts) -> Pack:
        def pieces(param: Param, weight: Matrix) -> Iterator[PackedPiece]:
            words, scales, _ = _pieces(param, weight, facts, bits, group)
            return iter((words, scales._replace(dtype=UINT8)))

        return packing(_takes(facts), pieces, facts, group=group)

    return Scheme(name=match[0], loader=loader, left=LEFT, source=SOURCE, engine="mlx-lm")


LEFT = "norms, biases, convolutions, and matrices that the group does not divide stay in 16 bit"
SOURCE = "mlx-lm 0.32.2 utils.py:quantize_model"
PATTERNS = {
    r"mlx-(?P<bits>[234568])bit-g(?P<group>32|64|128)": affine,
    r"mlx-(?P<mode>mxfp4|nvfp4|mxfp8)": mode,
}

"""Layouts of weights in files, by format: which tensors belong together, and the true shape.

A layout is recognised by names and confirmed by shapes, so a file without its config can be read
too; where shapes leave two answers, the config's bits and group size decide.

    end      of the tensor that holds the values: "q_proj.qweight"
    to       what takes its place in the parameter's name: "q_proj.weight"
    needs    companions: "_x" and ".x" are joined to the parameter's name, "x" stands beside it,
             "/x" stands beside it whatever the parameter is called

Sources: the docstrings of this folder's other modules, whose formats these are; AQLM 1.1
aqlm/inference.py; DeepSeek-V4 and modelopt as their published indexes show them.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.models.tensors import CheckpointTensor

Shape = tuple[int, ...]
Raw = Mapping[str, Any]
WORD = 32
GROUPS = (64, 32, 128, 256, 16)  # likeliest first, if only bits x group is known
MLX_BITS = (4, 8, 6, 5, 3, 2)


def beside(name: str, other: str) -> str:
    """Return the name of the companion tensor `other` of the parameter `name`."""
    if other.startswith(("_", ".")):
        return name + other
    if other.startswith("/"):
        return f"{name.rpartition('.')[0]}.{other[1:]}"
    if name.endswith(".weight"):
        return name.removesuffix("weight") + other
    return f"{name}_{other}"


class Packed(NamedTuple):
    """A tensor with quantized values; its companions are keyed by the names in `needs` and
    `EXTRAS`."""

    name: str  # of the parameter
    main: CheckpointTensor
    others: Mapping[str, CheckpointTensor]
    raw: Raw

    def shape(self, other: str) -> Shape:
        tensor = self.others.get(other)
        return tensor.shape if tensor else ()

    def setting(self, key: str) -> int | None:
        """Return a number in the config, the module's own if it has one (MLX); None without one."""
        of_module = self.raw.get(self.name.removesuffix(".weight"))
        value = of_module.get(key) if isinstance(of_module, Mapping) else self.raw.get(key)
        return value if isinstance(value, int) and value > 0 else None


@frozen_record
class Layout:
    """One layout. `shape` returns a weight's true shape, or None if the tensors have another
    layout."""

    format: str
    end: str
    shape: Callable[[Packed], Shape | None]
    needs: tuple[str, ...]
    dtypes: frozenset[str]  # of the main tensor; empty: any
    unsure: bool  # bits and group size are ambiguous without the config
    to: str


def same(packed: Packed) -> Shape:
    return packed.main.shape


def turned(packed: Packed) -> Shape:
    return packed.main.shape[::-1]


def halves(packed: Packed) -> Shape:
    """Return the shape of weights with two elements per byte along the inputs."""
    *rows, last = packed.main.shape
    return (*rows, 2 * last)


def bnb_four_bit(packed: Packed) -> Shape:
    """Return a flat shape, since the true one is in a JSON blob. An odd count reads one too
    many."""
    return (2 * packed.main.nbytes,)


def gptq(packed: Packed) -> Shape | None:
    """Return the shape of GPTQ's, AWQ GEMM's or AWQ GEMV's weights; the side equal to the scales'
    shows which it is."""
    *stack, rows, columns = packed.main.shape
    groups, outputs = packed.shape("scales")[-2:]
    if columns == outputs:
        inputs = _gptq_inputs(packed, rows, outputs)
        return (*stack, outputs, inputs) if inputs else None
    bits = packed.setting("bits") or packed.setting("w_bit") or 4
    if outputs * bits == columns * WORD:
        return (*stack, outputs, rows)
    return (*stack, rows, columns * WORD // bits) if groups == rows else None


def _gptq_inputs(packed: Packed, rows: int, outputs: int) -> int | None:
    """Return the weight's inputs: the length of g_idx; else by the bits in the zeros' shape, else
    those in the config."""
    if "g_idx" in packed.others:
        return packed.shape("g_idx")[-1]
    zeros = packed.shape("qzeros")
    bits = zeros[-1] * WORD // outputs if zeros and outputs else packed.setting("bits")
    return rows * WORD // bits if bits else None


def mxfp4_blocks(packed: Packed) -> Shape:
    """Return the shape of [..., groups, 16 bytes], with 32 elements per group."""
    *rows, groups, size = packed.main.shape
    return (*rows, groups * size * 2)


def four_bit_float(packed: Packed) -> Shape | None:
    """Return the shape of modelopt's NVFP4 and DeepSeek-V4's experts, with a scale per 16 or 32
    elements; None if the scales do not fit."""
    scale = packed.shape("_scale") or packed.shape("scale")
    *rows, last = packed.main.shape
    fits = any(scale[-1] * group == 2 * last for group in (16, 32)) if scale else False
    return (*rows, 2 * last) if fits and scale[:-1] == tuple(rows) else None


def bitnet(packed: Packed) -> Shape | None:
    """Return the shape of four ternary elements per byte along the outputs."""
    outputs, inputs = packed.main.shape
    return (4 * outputs, inputs) if packed.raw.get("quant_method") == "bitnet" else None


def int32_rows(packed: Packed) -> Shape | None:
    """Return the shape of compressed-tensors' words. Their bits are those of the config group that
    fits the scale's shape."""
    *rows, words = packed.main.shape
    groups = packed.shape("_scale")[-1]
    fitting = [
        bits
        for bits, group in widths(packed.raw)
        if (groups == 1 if group == -1 else words * WORD // bits == groups * group)
    ]
    if not fitting and groups > 1:
        fitting = [bits for bits in (4, 8) if words * WORD // (bits * groups) in GROUPS]
    return (*rows, words * WORD // fitting[0]) if fitting else None


def widths(raw: Raw) -> list[tuple[int, int]]:
    """Return (bits, group size) per group of a compressed-tensors config; -1 is a whole row."""
    groups = raw.get("config_groups")
    sizes = []
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            bits, size = weights.get("num_bits"), weights.get("group_size") or -1
            if isinstance(bits, int) and isinstance(size, int) and bits > 0:
                sizes.append((bits, size))
    return sizes


def hqq(packed: Packed) -> Shape | None:
    """Return the shape of HQQ's W_q, with groups along rows or columns and one scale per group."""
    rows, columns = packed.main.shape
    groups = prod(packed.shape("scale"))
    if packed.shape("scale")[-1] == 1:  # axis 1, the default of transformers
        return (groups, columns)
    values = {"uint8": 8, "int32": 30}.get(packed.main.dtype.name)
    bits = _hqq_bits(packed.raw)
    return (rows * values // bits, columns) if values and bits else None


def _hqq_bits(raw: Raw) -> int | None:
    inner = raw.get("quant_config", raw)
    params = inner.get("weight_quant_params", inner) if isinstance(inner, Mapping) else {}
    bits = params.get("nbits") if isinstance(params, Mapping) else None
    return bits if isinstance(bits, int) and bits > 0 else None


def quanto_bits(packed: Packed) -> Shape:
    """Return the shape as rows of one group each, as many as the scale has."""
    return (packed.shape("._scale")[0], packed.main.shape[-1])


def torchao(packed: Packed) -> Shape | None:
    """Return the weight's shape. The dtype of qdata shows the packing: bytes, halves, or tiles
    [out/8, in/(16 i), 32, i/2] of int32."""
    if packed.main.dtype.name == "uint8":
        return halves(packed)
    if packed.main.dtype.name == "int32":
        if len(packed.main.shape) != 4:
            return None
        rows, columns, lanes, inner = packed.main.shape
        return (8 * rows, lanes * columns * inner)
    return packed.main.shape


def mlx(packed: Packed) -> Shape | None:
    """Return the shape of uint32 words: bits x inputs = 32 x words, and inputs = groups x group
    size."""
    *rows, words = packed.main.shape
    groups = packed.shape("scales")[-1]
    bits, group = packed.setting("bits"), packed.setting("group_size")
    if bits and words * WORD // bits == groups * (group or words * WORD // bits // groups):
        return (*rows, words * WORD // bits)
    sizes: Sequence[int] = GROUPS if "biases" in packed.others else (32, 16)
    allowed: Sequence[int] = MLX_BITS if "biases" in packed.others else (4, 8)
    fitting = [
        (width, size)
        for size in sizes
        for width in allowed
        if words * WORD == width * size * groups
    ]
    return (*rows, groups * fitting[0][1]) if fitting else None


def aqlm(packed: Packed) -> Shape:
    """Return the shape of codes [out/a, in/b, books], indexes into a codebook [books, 2^bits, a,
    b]."""
    books, codes = packed.shape("codebooks"), packed.main.shape
    return (codes[0] * books[2], codes[1] * books[3])


# Tensors of values: their end, what takes its place, their shape ("?": unsure), companions, dtypes
# ("float8": all of them) and format; "-" of none
_LAYOUTS = """
.qweight        .weight  gptq            scales            int32       gptq or awq
.qweight        .weight  turned          weight_scales     int8        eetq
_blocks         -        mxfp4_blocks    scales            uint8       mxfp4
_packed         -        halves          _scale            uint8       fp4
_packed         -        int32_rows?     _scale            int32       int packed
._data._data    -        quanto_bits     ._scale           -           quanto
._data          -        same            ._scale           -           quanto
._weight_qdata  .weight  torchao         -                 -           torchao
-               -        bnb_four_bit    .absmax           -           bnb 4 bit
.weight         .weight  same            SCB               int8        bnb int8
-               -        turned          _scales           int8        eetq
-               -        same            -                 float8      fp8
-               -        four_bit_float  _scale            int8,uint8  fp4
-               -        four_bit_float  scale             int8,uint8  fp4
-               -        bitnet          _scale            uint8       bitnet
-               -        same            _scale            int8        int8
.W_q            .weight  hqq             scale,zero        -           hqq
-               -        mlx?            scales            uint32      mlx
.codes          .weight  aqlm            codebooks,scales  -           aqlm
"""
FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
_SHAPES = {
    rule.__name__: rule
    for rule in (
        gptq,
        turned,
        mxfp4_blocks,
        halves,
        int32_rows,
        quanto_bits,
        same,
        torchao,
        bnb_four_bit,
        four_bit_float,
        bitnet,
        hqq,
        mlx,
        aqlm,
    )
}


def _layout(row: str) -> Layout:
    """Return the layout that a row of `_LAYOUTS` describes."""
    *words, lists = row.replace("float8", ",".join(FLOAT8)).split(None, 3)
    end, to, shape = (word.strip("-") for word in words)
    needs, dtypes, name = (tuple(part.strip("-").split(",")) for part in lists.split(None, 2))
    return Layout(
        format=name[0],
        end=end,
        shape=_SHAPES[shape.strip("?")],
        needs=tuple(filter(None, needs)),
        dtypes=frozenset(filter(None, dtypes)),
        unsure=shape.endswith("?"),
        to=to,
    )


LAYOUTS: tuple[Layout, ...] = tuple(map(_layout, _LAYOUTS.strip().splitlines()))

# Everything that may stand with a packed weight and is no parameter.
# In order: of GPTQ, AWQ, MLX and AQLM, of bitsandbytes, of several, of quanto, torchao and HQQ
_EXTRAS = """
qzeros scales g_idx biases codebooks SCB weight_format .absmax .quant_map .nested_absmax
.nested_quant_map .nested_offset .quant_state.bitsandbytes__nf4 .quant_state.bitsandbytes__fp4
_scale _scale_inv _scale_2 _scales _shape _zero_point _g_idx _global_scale scale zero
input_scale output_scale input_global_scale weight_scale weight_scale_2 weight_scales
activation_scale input_scale_ub qscale_weight qscale_act _bias_correction global_scale ._scale
._shift /_weight_scale /_weight_zero_point /_weight_scale_and_zero /_weight_per_tensor_scale
/_weight_act_pre_scale nbits group_size shape axis packing unpack_view_dtype view_as_float
quant_scale quant_zero compute_dtype offload_meta encoded_state_dict stores_quant_config
channel_wise optimize round_zero
"""
EXTRAS: tuple[str, ...] = tuple(_EXTRAS.split())
# Scales of the KV cache and of activations, which are no weight's companions
ALONE = (".k_scale", ".v_scale", ".q_scale", ".kv_scale", ".input_scale", ".output_scale")

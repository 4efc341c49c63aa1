"""The tensors that a part is loaded as, each with the parameter that it holds or helps to hold.

    plain dtype    one a parameter             real format    what its loader makes of it
    as stored      the checkpoint's tensors, whose names tell the parameter

Experts that differ by their number alone are one record with a count. Which sides of the matrix
a tensor has decides what a rank takes of it: a bias has outputs, a scale of the whole has none.

The tensors that engines hold as one, though checkpoints store them apart.

Source: packed_modules_mapping of vllm 0.33 model_executor/models/*.py, and
layers/fused_moe/unquantized_fused_moe_method.py (w13_weight, w2_weight); sglang has the same.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from weighbridge.arch.blueprint import Blueprint, Param, held
from weighbridge.arch.roles import module
from weighbridge.checkpoint.model import ModelPart
from weighbridge.components.weights import FormatChoice
from weighbridge.engines.parallel.cuts import way
from weighbridge.quantization.scheme import LoaderFacts
from weighbridge.tensors import CheckpointTensor

# Ends of stored names, after the module's or the parameter's own: vllm 0.33
# model_executor/layers/quantization/*.py (create_weights).
_NEITHER = """
    input_scale weight_global_scale input_global_scale weight_shape quant_map nested_quant_map
    nested_offset offset weight_scale_2 k_scale v_scale output_scale
"""
NEITHER = frozenset(_NEITHER.split())
OUTPUTS_ALONE = frozenset({"bias", "SCB", "weight_scales"})
INPUTS_ALONE = frozenset({"g_idx", "weight_g_idx"})
PACKED_ENDS = ("_blocks", "_scales")  # gpt-oss: no dot before them
TOGETHER: Mapping[str, str] = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "query": "qkv",
    "key": "qkv",
    "value": "qkv",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
    "w1": "w13",
    "w3": "w13",
    "v1": "w13",
    "q_a_proj": "fused_qkv_a_proj",
    "kv_a_proj_with_mqa": "fused_qkv_a_proj",
    "in_proj_qkv": "in_proj_qkvz",
    "in_proj_z": "in_proj_qkvz",
    "in_proj_a": "in_proj_ba",
    "in_proj_b": "in_proj_ba",
}
EXPERTS = ("expert", "experts")


class TensorPiece(NamedTuple):
    """`copies` tensors that are alike; `end` is the last part of the first one's name."""

    param: Param
    end: str
    shape: tuple[int, ...]
    nbytes: int
    copies: int


def pieces(part: ModelPart, choice: FormatChoice, major: int) -> Iterator[TensorPiece]:
    """Every untied parameter's tensors, in the blueprint's order or the checkpoint's."""
    if choice.as_stored:
        yield from _stored(part)
    elif choice.scheme is None:
        for p, count in part.blueprint.distinct():
            nbytes = held(p, choice.dtype).size(p.numel)
            yield TensorPiece(p, "weight", p.shape, nbytes, count)
    else:
        setting = LoaderFacts(plan=part.blueprint, dtype=choice.dtype, major=major)
        pack = choice.scheme.loader(setting)
        for p, count in part.blueprint.distinct():
            packed = pack(p)
            if packed is None:
                nbytes = held(p, choice.dtype).size(p.numel)
                yield TensorPiece(p, "weight", p.shape, nbytes, count)
                continue
            for name, dtype, shape in packed:
                yield TensorPiece(p, _end(name), shape, dtype.size(_numel(shape)), count)


def sides(piece: TensorPiece) -> tuple[bool, bool]:
    """Tell of a tensor whether it has its parameter's outputs, and whether its inputs."""
    numel = _numel(piece.shape)
    if piece.param.kind in ("bias", "norm", "other", "conv"):
        return True, len(piece.shape) > 1
    if numel <= 1 or piece.end in NEITHER or numel == piece.param.routed[1]:
        return False, False
    if piece.end in OUTPUTS_ALONE or (len(piece.shape) == 1 and "scale" in piece.end):
        return True, False
    if piece.end in INPUTS_ALONE:
        return False, True
    return True, not ("scale" in piece.end and 1 in piece.shape)


def unnumbered(name: str) -> str:
    """The name without the expert's number."""
    head, experts, tail = name.partition("experts.")
    return f"{head}experts.{tail.partition('.')[2]}" if experts and tail[:1].isdigit() else name


def _stored(part: ModelPart) -> Iterator[TensorPiece]:
    alike: dict[tuple[str, int], list[CheckpointTensor]] = {}
    for t in part.stored:
        alike.setdefault((unnumbered(t.name), t.nbytes), []).append(t)
    known = _by_name(part.blueprint)
    for (name, _), tensors in alike.items():
        first = tensors[0]
        param = _param(name, known) or Param(first.name, first.shape, "other")
        yield TensorPiece(param, _end(first.name), first.shape, first.nbytes, len(tensors))


def _by_name(plan: Blueprint) -> dict[str, Param]:
    return {unnumbered(p.name): p for p, _ in plan.distinct()}


def _param(name: str, known: dict[str, Param]) -> Param | None:
    """The parameter that a stored tensor belongs to, by its unnumbered name."""
    if name in known:
        return known[name]
    module = name.rpartition(".")[0]
    for end in PACKED_ENDS:
        if name.endswith(end):
            return known.get(name.removesuffix(end))
    return known.get(f"{module}.weight") or known.get(module)  # bitsandbytes: weight.absmax


def _end(name: str) -> str:
    end = name.rpartition(".")[2]
    for packed in PACKED_ENDS:
        if end.endswith(packed):
            return packed[1:]
    return end


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


# Tensors that engines hold as one


def merged(param: Param) -> str:
    """The module that holds the parameter on the device."""
    if param.kind in EXPERTS or param.routed[1] > 1:
        before, _, _ = unnumbered(param.name).partition("experts.")
        return f"{before}experts.{'w2' if way(param) == 'row' else 'w13'}"
    path, _, last = module(param.name).rpartition(".")
    last = TOGETHER.get(last, last)
    return f"{path}.{last}" if path else last

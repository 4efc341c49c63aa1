"""The tensors that a part is loaded as, each with the parameter it belongs to.

    plain dtype    one per parameter           real format    as its loader creates them
    as stored      the checkpoint's tensors, whose names give the parameter
    merged         those that engines fuse into one, though checkpoints store them apart
    tables         the cosines and sines that engines compute when a model is loaded

Experts that differ only by their number are one record with a count. The sides of the matrix that a
tensor spans decide what a rank takes of it: a bias has outputs, a scale of the whole has none.

Source: packed_modules_mapping of vllm 0.33 model_executor/models/*.py, and
layers/fused_moe/unquantized_fused_moe_method.py (w13_weight, w2_weight); sglang has the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.engines.parallel.cuts import way
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.models.arch.blueprint import Blueprint, Param, held
from weighbridge.models.arch.config import MAX_SIZE
from weighbridge.models.arch.roles import module, role_of
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization.scheme import LoaderFacts
from weighbridge.models.tensors import CheckpointTensor

# Suffixes of stored names, after the module or parameter name: vllm 0.33
# model_executor/layers/quantization/*.py (create_weights).
_NEITHER = """
    input_scale weight_global_scale input_global_scale weight_shape quant_map nested_quant_map
    nested_offset offset weight_scale_2 k_scale v_scale output_scale
"""
NEITHER = frozenset(_NEITHER.split())
OUTPUTS_ALONE = frozenset({"bias", "SCB", "weight_scales"})
INPUTS_ALONE = frozenset({"g_idx", "weight_g_idx"})
PACKED_ENDS = ("_blocks", "_scales")  # gpt-oss: without a dot before them
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
SEVERAL = ("qkv", "gate_up", "states_qkv")  # also stored as one


class TensorPiece(NamedTuple):
    """`copies` equal tensors; `end` is the last component of the first one's name."""

    param: Param
    end: str
    shape: tuple[int, ...]
    nbytes: int
    copies: int


def pieces(part: ModelPart, choice: FormatChoice, major: int) -> Iterator[TensorPiece]:
    """Yield every untied parameter's tensors, in the blueprint's order or the checkpoint's."""
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
    """Return (whether a tensor spans its parameter's outputs, whether its inputs)."""
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
    """Return a tensor's name without the expert's number."""
    head, experts, tail = name.partition("experts.")
    return f"{head}experts.{tail.partition('.')[2]}" if experts and tail[:1].isdigit() else name


def _stored(part: ModelPart) -> Iterator[TensorPiece]:
    alike: dict[tuple[str, int], list[CheckpointTensor]] = {}
    for t in part.stored:
        alike.setdefault((unnumbered(t.name), t.nbytes), []).append(t)
    known = {unnumbered(p.name): p for p, _ in part.blueprint.distinct()}
    for (name, _), tensors in alike.items():
        first = tensors[0]
        param = _param(name, known) or Param(first.name, first.shape, "other")
        yield TensorPiece(param, _end(first.name), first.shape, first.nbytes, len(tensors))


def _param(name: str, known: dict[str, Param]) -> Param | None:
    """Return the parameter that a stored tensor belongs to, by its unnumbered name."""
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


# Tensors that engines fuse into one


def merged(param: Param) -> str:
    """Return the name of the module that holds the parameter on the device."""
    if param.kind in EXPERTS or param.routed[1] > 1:
        before, _, _ = unnumbered(param.name).partition("experts.")
        return f"{before}experts.{'w2' if way(param) == 'row' else 'w13'}"
    path, _, last = module(param.name).rpartition(".")
    last = TOGETHER.get(last, last)
    return f"{path}.{last}" if path else last


def side_by_side(param: Param) -> bool:
    """Return whether the engine's Linear for `param` holds several matrices side by side."""
    return role_of(param) in SEVERAL or merged(param) != module(param.name)


# Tables of cosines and sines
#
#     rows x rotated values of a head, once for every kind of layer that rotates differently
#
#     rows    the model's positions P; linear scaling: P times the factor; YaRN: the original
#             positions times the factor; LongRoPE: P and the original positions; three-part
#             positions (Qwen-VL): four times as many
#
# vLLM keeps them in the model's dtype, in float32 if FlashInfer rotates (DeepSeek's YaRN without
# compilation); SGLang in float32.
#
# Source: vllm 0.33 and 0.19 model_executor/layers/rotary_embedding/; sglang 0.5.23
# srt/layers/rotary_embedding/ (factory.py, base.py).

SUFFIX = "inv_freq"
COPY = "original_"
MROPE = 4
MOST = 1 << 28  # positions; the longest model has 10,485,760
ROPE = "rope_scaling."


def tables(
    plan: Blueprint, config: Mapping[str, Any], dtype: DType, latent: DType
) -> Iterator[tuple[str, int]]:
    """Yield (module, bytes) of each rotary table. `dtype` is its dtype in the engine, `latent` that
    of YaRN's with MLA."""
    text = _text(config)
    for buffer in plan.buffers:
        path, _, last = buffer.name.rpartition(".")
        ours = plan.part(buffer.name) == "language model" and last.endswith(SUFFIX)
        if not ours or COPY in last or not buffer.shape or _repeated(path):
            continue
        kind = last.removesuffix(SUFFIX).rstrip("_")
        rope = settings(text, kind)
        stretched = "qk_rope_head_dim" in text and rope_type(rope) == "yarn"
        width = _width(text, kind, rope, 2 * buffer.shape[0])
        yield (
            f"{path}.{kind}" if kind else path,
            (latent if stretched else dtype).size(rows(text, rope) * width),
        )


def settings(text: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return the RoPE settings of a kind of layers. Newer configs have a record for each kind; in
    Gemma 3's older ones they scale full attention only."""
    record = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if not isinstance(record, Mapping):
        return {}
    if kind and isinstance(record.get(kind), Mapping):
        record_of_kind: Mapping[str, Any] = record[kind]
        return record_of_kind
    return {} if kind.startswith("sliding") else record


def rows(text: Mapping[str, Any], rope: Mapping[str, Any]) -> int:
    """Return the positions in the table. Raises BadFileError for values that are not positions, and
    for more than any engine could hold."""
    known = _whole(text, "max_position_embeddings") or 8192
    original = _whole(rope, "original_max_position_embeddings", ROPE) or known
    factor = _factor(rope)
    scale = MROPE if "mrope_section" in rope else 1
    match rope_type(rope):
        case "linear":
            count = known * factor
        case "yarn":
            count = int(original * factor) * scale
        case "longrope" | "su":
            count = known + (_whole(text, "original_max_position_embeddings") or original)
        case _:
            count = known * scale
    if count > MOST:
        raise BadFileError(sentence("rotary_table", count=count, most=MOST))
    return int(count)


def _whole(record: Mapping[str, Any], name: str, within: str = "") -> int:
    """Return a whole number of a config record, 0 if it is missing."""
    value = record.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise _wrong(within + name, sentence("value.whole"), value)
    if not 0 <= value <= MAX_SIZE:
        raise _wrong(within + name, sentence("value.to", most=MAX_SIZE), value)
    return int(value)


def _factor(rope: Mapping[str, Any]) -> float:
    value = rope.get("factor")
    if not value:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MOST:
        raise _wrong(f"{ROPE}factor", sentence("value.positive"), value)
    return float(value)


def _wrong(name: str, kind: str, value: object) -> BadFileError:
    return BadFileError(sentence("config_value", name=name, kind=kind, value=value))


def rope_type(rope: Mapping[str, Any]) -> str:
    named = str(rope.get("rope_type") or rope.get("type") or "default")
    return "yarn" if named == "deepseek_yarn" else named


def _width(text: Mapping[str, Any], kind: str, rope: Mapping[str, Any], rotated: int) -> int:
    """Return the columns; proportional rotation (Gemma 4) has one per element of the head."""
    if rope_type(rope) != "proportional":
        return rotated
    names = ("global_head_dim", "head_dim") if kind.startswith("full") else ("head_dim",)
    return next((int(text[n]) for n in names if text.get(n)), rotated)


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's config, also if it is nested in another model's."""
    for name in ("text_config", "llm_config", "language_config", "thinker_config"):
        inner = config.get(name)
        if isinstance(inner, Mapping):
            return _text(inner)
    return config


def _repeated(path: str) -> bool:
    """Return whether a buffer repeats one of layer 0: older classes do; engines share one."""
    return any(part.isdigit() and part != "0" for part in path.split("."))

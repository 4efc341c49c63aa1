"""The tables of cosines and sines that vLLM and SGLang make when a model is loaded.

    rows x rotated values of a head, once for every kind of layer that rotates differently

    rows    the model's positions P; linear scaling: P times the factor; YaRN: the original
            positions times the factor; LongRoPE: P and the original positions; three-part
            positions (Qwen-VL): four times as many

vLLM keeps them in the model's dtype, in float32 where FlashInfer rotates (DeepSeek's YaRN without
compilation); SGLang in float32.

Source: vllm 0.33 and 0.19 model_executor/layers/rotary_embedding/; sglang 0.5.23
srt/layers/rotary_embedding/ (factory.py, base.py).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.arch.blueprint import Blueprint
from weighbridge.arch.config import MAX_SIZE
from weighbridge.dtypes import DType
from weighbridge.errors import BadFileError

SUFFIX = "inv_freq"
COPY = "original_"
MROPE = 4
MOST = 1 << 28  # positions; the longest model has 10,485,760
ROPE = "rope_scaling."


def tables(
    plan: Blueprint, config: Mapping[str, Any], dtype: DType, latent: DType
) -> Iterator[tuple[str, int]]:
    """(module, bytes) of each. `dtype` is what the engine keeps them in, `latent` those of YaRN
    beside latent attention."""
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
    """Return the RoPE settings of one kind of layer. Newer configs have a record for each kind; in
    Gemma 3's older ones they scale full attention only."""
    record = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if not isinstance(record, Mapping):
        return {}
    if kind and isinstance(record.get(kind), Mapping):
        record_of_kind: Mapping[str, Any] = record[kind]
        return record_of_kind
    return {} if kind.startswith("sliding") else record


def rows(text: Mapping[str, Any], rope: Mapping[str, Any]) -> int:
    """Positions that the table holds. Raises BadFileError for values that are none, and for more
    than any engine could hold."""
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
        raise BadFileError(
            f"config.json: max_position_embeddings and rope_scaling ask for {count:,.0f} rotary "
            f"positions, and the engine makes a table of them all; the most we take is {MOST:,}"
        )
    return int(count)


def _whole(record: Mapping[str, Any], name: str, within: str = "") -> int:
    """0 where it is missing."""
    value = record.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise _wrong(within + name, "a whole number", value)
    if not 0 <= value <= MAX_SIZE:
        raise _wrong(within + name, f"0 to {MAX_SIZE:,}", value)
    return int(value)


def _factor(rope: Mapping[str, Any]) -> float:
    value = rope.get("factor")
    if not value:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MOST:
        raise _wrong(f"{ROPE}factor", "a positive number", value)
    return float(value)


def _wrong(name: str, kind: str, value: object) -> BadFileError:
    return BadFileError(f"config.json: {name} must be {kind}, not {value!r:.40}; correct it")


def rope_type(rope: Mapping[str, Any]) -> str:
    named = str(rope.get("rope_type") or rope.get("type") or "default")
    return "yarn" if named == "deepseek_yarn" else named


def _width(text: Mapping[str, Any], kind: str, rope: Mapping[str, Any], rotated: int) -> int:
    """Proportional rotation (Gemma 4) has a column for every value of the head."""
    if rope_type(rope) != "proportional":
        return rotated
    names = ("global_head_dim", "head_dim") if kind.startswith("full") else ("head_dim",)
    return next((int(text[n]) for n in names if text.get(n)), rotated)


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's config, where a model holds one."""
    for name in ("text_config", "llm_config", "language_config", "thinker_config"):
        inner = config.get(name)
        if isinstance(inner, Mapping):
            return _text(inner)
    return config


def _repeated(path: str) -> bool:
    """Older classes have a copy in every layer; engines share one."""
    return any(part.isdigit() and part != "0" for part in path.split("."))

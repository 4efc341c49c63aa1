"""How many tokens a model was made for: the positions of its config, rotary scaling included.

    positions x factor      where rotary positions are stretched (yarn: of the original positions)

Source: transformers 5.23 modeling_rope_utils.py; vllm 0.33 config/model.py
(_get_and_verify_max_len, whose list of names this follows).
"""

from collections.abc import Mapping
from typing import Any

NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "n_ctx",
    "max_seq_length",
    "seq_len",
)
PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder", "generator")
WHOLE = ("su", "longrope", "llama3", "mrope", "default", "proportional")  # positions are final


def longest(raw: Mapping[str, Any]) -> int | None:
    """Tokens; None where the config names no end (T5, Mamba)."""
    for part in PARTS:
        inner = raw.get(part)
        if isinstance(inner, Mapping) and (found := longest(inner)) is not None:
            return found
    known = [v for n in NAMES if type(v := raw.get(n)) is int and v > 0]
    if not known:
        return None
    if str(raw.get("model_type")).startswith("gemma3"):  # its positions are the stretched ones
        return known[0]
    return _stretched(known[0], raw.get("rope_scaling") or raw.get("rope_parameters"))


def _stretched(positions: int, scaling: Any) -> int:
    if not isinstance(scaling, Mapping):
        return positions
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    factor = scaling.get("factor")
    if kind in WHOLE or isinstance(factor, bool) or not isinstance(factor, int | float):
        return positions
    original = scaling.get("original_max_position_embeddings")
    if kind == "yarn" and type(original) is int:
        return max(positions, int(original * factor))
    return int(positions * max(1, factor))


def longest_of_gguf(metadata: Mapping[str, Any]) -> int | None:
    value = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    return value if type(value) is int and value > 0 else None

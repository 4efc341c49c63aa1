"""The longest text, in tokens, that a model was made for: its config's positions, rotary scaling
included; and whether a longer one is an error.

    positions            where the config says the final number: llama3, longrope, default, Gemma 3
    positions x factor   where rotary positions are stretched: linear, dynamic
    original x factor    yarn, if that is more: configs have either number as their positions
    positions - offset   where the first rows of a learned table are for padding: RoBERTa's kin

Recurrences have no end, nor has T5, whose buckets of distances reach any length: None. An engine's
own default may be less: vLLM takes the unstretched length of a longrope model.

Where positions are rows of a learned table, a longer text is an error of its index. The table is
told by its name in the part for language and by its rows: as many as the model was made for, or a
few more, which are for padding (RoBERTa has two, OPT and BART an offset of two).

Sources: transformers 5.23 modeling_rope_utils.py, models/{gpt2,bert,opt,bart,gpt_neo}/modeling_*.py
and the classes' defaults; vllm 0.33 transformers_utils/model_arch_config_convertor.py
(derive_max_model_len_and_key) and config/model.py (_get_and_verify_max_len); 0.29 and older for
yarn.
"""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.blueprint import Blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import ModelType, facts

NAMES = (
    "model_max_length",  # Command R: beside the positions of its first training
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "n_ctx",
    "max_seq_length",
    "seq_len",
    "max_encoder_position_embeddings",  # LED
)
PARTS = (
    "text_config",
    "llm_config",
    "language_config",
    "thinker_config",
    "vlm_config",
    "decoder",
    "generator",
    "decoder_config",
    "talker_config",
)
MOST_STRETCHED = 1 << 20  # largest scaling factor; published ones are up to some hundred
STRETCHED = frozenset(("linear", "dynamic", "ntk"))
YARN = frozenset(("yarn", "deepseek_yarn"))


def longest(raw: Mapping[str, Any]) -> int | None:
    """Return the longest text in tokens that the model was made for; None if it is unlimited or
    unknown."""
    return _longest(Config(raw))


def _longest(c: Config) -> int | None:
    for part in PARTS:
        if isinstance(c.raw.get(part), Mapping):
            length = _longest(c.sub(part))
            if length is not None:
                return length
    known = facts(c.model_type)
    positions = None if known.positions == "endless" else _positions(c, known)
    if positions is None:
        return None
    if known.positions == "stretched":  # Gemma 3
        return positions
    return _scaled_positions(positions, _scaling(c.raw))


def _positions(c: Config, of_type: ModelType) -> int | None:
    known = [v for n in NAMES if type(v := c.raw.get(n)) is int and v > 0]
    if not known:
        filled = Config({}, model_type=of_type.positions_of or c.model_type)
        known = [v for n in NAMES if type(v := filled.get(n)) is int]
    if not known:
        return None
    if of_type.positions != "after_padding":
        return known[0]
    # modeling_roberta.py (create_position_ids_from_input_ids), and the same in its relatives
    padding = c.raw.get("pad_token_id")
    return known[0] - 1 - (padding if type(padding) is int else 1)


def _scaling(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the RoPE scaling of the layers with full attention if each kind of layer has one, else
    the only scaling; {} without one."""
    scaling = raw.get("rope_scaling") or raw.get("rope_parameters")
    if not isinstance(scaling, Mapping):
        return {}
    inner = scaling.get("full_attention")
    return inner if isinstance(inner, Mapping) else scaling


def _scaled_positions(positions: int, scaling: Mapping[str, Any]) -> int:
    kind = scaling.get("rope_type", scaling.get("type"))
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        return positions
    if not 0 < factor <= MOST_STRETCHED:
        raise BadFileError(sentence("rope_factor", factor=shown(factor), most=MOST_STRETCHED))
    if kind in YARN:
        return max(positions, int(original * factor)) if type(original) is int else positions
    return int(positions * max(1, factor)) if kind in STRETCHED else positions


def longest_of_gguf(metadata: Mapping[str, Any]) -> int | None:
    value = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    return value if type(value) is int and value > 0 else None


POSITIONS_NAMES = frozenset(("wpe", "embed_positions", "position_embeddings", "positions_embed"))
SPARE = 8  # rows


def learned(plan: Blueprint, longest: int | None) -> bool:
    return longest is not None and any(
        longest <= p.shape[0] <= longest + SPARE
        for p in plan.counted
        if p.kind == "embedding"
        and (p.name.removesuffix(".weight").rpartition(".")[2] in POSITIONS_NAMES)
        and plan.part(p.name) == plan.part("")
    )

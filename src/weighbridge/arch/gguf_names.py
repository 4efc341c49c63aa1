"""GGUF's names of a checkpoint's tensors: what the converter calls each, and which it joins.

    layers.3.self_attn.q_proj.weight         blk.3.attn_q.weight
    layers.3.mlp.experts.17.up_proj.weight   a slice of blk.3.ffn_up_exps.weight
    experts.gate_up_proj                     ffn_gate_exps and ffn_up_exps, half each

Source: gguf 0.19 gguf/tensor_mapping.py; llama.cpp 0c1e57098 conversion/.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from weighbridge.arch.roles import below_layer, role
from weighbridge.parsed import lines_beside

SPLIT = {
    "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps"),
    "ffn_gate_up_shexp": ("ffn_gate_shexp", "ffn_up_shexp"),
}
# Of a layer: our role -> GGUF's name
BY_ROLE: Mapping[str, str] = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "qkv": "attn_qkv",
    "o": "attn_output",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "q_a": "attn_q_a",
    "q_b": "attn_q_b",
    "kv_a": "attn_kv_a_mqa",
    "kv_b": "attn_kv_b",
    "sinks": "attn_sinks",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "gate_up": "ffn_up",
    "down": "ffn_down",
    "router": "ffn_gate_inp",
    "shared_gate": "ffn_gate_inp_shexp",
}

# Of a model: the last part of the name -> GGUF's
WHOLE: Mapping[str, str] = {
    **dict.fromkeys(
        ("embed_tokens", "wte", "embeddings", "word_embeddings", "embed_in", "word_embedding",
         "tok_embeddings", "embedding", "shared"), "token_embd"),
    **dict.fromkeys(("lm_head", "embed_out", "output_layer", "output"), "output"),
    **dict.fromkeys(
        ("norm", "norm_f", "ln_f", "final_layer_norm", "final_layernorm",
         "encoder.final_layernorm", "final_norm"), "output_norm"),
    "embedding_norm": "token_embd_norm",
    "word_embeddings_layernorm": "token_embd_norm",
    **dict.fromkeys(("emb_ln", "embeddings.LayerNorm", "embeddings.norm"), "token_embd_norm"),
    **dict.fromkeys(("wpe", "position_embeddings", "embed_positions"), "position_embd"),
    "token_type_embeddings": "token_types",
    "embed_tokens_per_layer": "per_layer_token_embd",
    "per_layer_model_projection": "per_layer_model_proj",
    "per_layer_projection_norm": "per_layer_proj_norm",
}  # fmt: skip

# Of a layer, what has no role there: how the name ends -> GGUF's. The longest ending decides.
ENDS: Mapping[str, str] = dict(map(str.split, lines_beside(__file__, "gguf_ends.txt")))
EXPERTS: Mapping[str, str] = {
    "w1": "ffn_gate_exps",
    "w2": "ffn_down_exps",
    "w3": "ffn_up_exps",
    "gate_proj": "ffn_gate_exps",
    "up_proj": "ffn_up_exps",
    "down_proj": "ffn_down_exps",
    "gate_up_proj": "ffn_gate_up_exps",
    "input_linear": "ffn_gate_up_exps",
    "output_linear": "ffn_down_exps",
}
BARE = ("ssm_a", "ssm_d", "exp_probs_b.bias", "ssm_dt.bias")


@lru_cache(maxsize=1 << 15)
def gguf_name(name: str, siblings: frozenset[str] = frozenset()) -> str:
    """`siblings` are the endings of the layer's other tensors: a norm's name says what it is only
    beside them. A name that is not in our tables keeps its own."""
    path, ending = _ending(name)
    position = below_layer(path)
    if position is None:
        return _whole(path, ending)
    base = _of_layer(position.below, siblings)
    return f"blk.{position.number}.{base}{'' if base in BARE else ending}"


def _ending(name: str) -> tuple[str, str]:
    for ending in (".weight", ".bias"):
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    if name.endswith("_bias") and "proj" in name:
        return name.removesuffix("_bias"), ".bias"  # gpt-oss's experts
    return name, ".weight"


def _whole(path: str, ending: str) -> str:
    parts = path.split(".")
    for name in (".".join(parts[-2:]), parts[-1]):
        if name in WHOLE:
            return WHOLE[name] + ending
    return path + ending


def _of_layer(tail: str, siblings: frozenset[str]) -> str:
    if "experts." in tail and "shared_experts" not in tail:
        return EXPERTS.get(tail.rpartition(".")[2], tail)
    if tail == "post_attention_layernorm" and "post_feedforward_layernorm" in siblings:
        return "post_attention_norm"
    if "block_sparse_moe" in tail and tail.endswith("_linear"):
        return EXPERTS[tail.rpartition(".")[2]]
    return _by_role(tail)


def _by_role(tail: str) -> str:
    """Return the name of a matrix, which says where it is of a shared expert."""
    parts = tail.split(".")
    base = _by_ending(parts) or BY_ROLE.get(role(tail), tail)
    shared = any("shared_expert" in p or p == "shared_mlp" for p in parts[:-1])
    return f"{base}_shexp" if shared and base.startswith("ffn_") else base


def _by_ending(parts: Sequence[str]) -> str | None:
    """The longest ending decides."""
    endings = (".".join(parts[-count:]) for count in (3, 2, 1))
    return next((ENDS[ending] for ending in endings if ending in ENDS), None)


def siblings_of(names: list[str]) -> frozenset[str]:
    """Modules that stand in layers themselves."""
    positions = (below_layer(_ending(n)[0]) for n in names)
    return frozenset(
        position.below
        for position in positions
        if position is not None and "." not in position.below
    )

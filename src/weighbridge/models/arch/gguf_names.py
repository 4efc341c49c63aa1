"""GGUF's names for a checkpoint's tensors: the converter's name for each, and the tensors it joins.

    layers.3.self_attn.q_proj.weight         blk.3.attn_q.weight
    layers.3.mlp.experts.17.up_proj.weight   a slice of blk.3.ffn_up_exps.weight
    experts.gate_up_proj                     ffn_gate_exps and ffn_up_exps, half each

Source: gguf 0.19 gguf/tensor_mapping.py; llama.cpp 0c1e57098 conversion/.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from weighbridge.base.parsed import lines_beside
from weighbridge.models.arch.roles import below_layer, role

SPLIT = {
    "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps"),
    "ffn_gate_up_shexp": ("ffn_gate_shexp", "ffn_up_shexp"),
}


def _names(kind: str) -> Mapping[str, str]:
    """Return transformers' name -> GGUF's name, from the rows of one kind in gguf_names.txt."""
    rows = map(str.split, lines_beside(__file__, "gguf_names.txt"))
    return {name: theirs for of, name, theirs in rows if of == kind}


BY_ROLE, WHOLE, ENDS, EXPERTS = map(_names, ("role", "whole", "end", "expert"))
BARE = ("ssm_a", "ssm_d", "exp_probs_b.bias", "ssm_dt.bias")


@lru_cache(maxsize=1 << 15)
def gguf_name(name: str, siblings: frozenset[str] = frozenset()) -> str:
    """Return GGUF's name for a tensor; an unknown name is returned unchanged. `siblings`: endings
    of the layer's other tensors, which distinguish its norms."""
    path, ending = _split_ending(name)
    position = below_layer(path)
    if position is None:
        return _name_outside_layers(path, ending)
    base = _name_in_layer(position.below, siblings)
    return f"blk.{position.number}.{base}{'' if base in BARE else ending}"


def _split_ending(name: str) -> tuple[str, str]:
    for ending in (".weight", ".bias"):
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    if name.endswith("_bias") and "proj" in name:
        return name.removesuffix("_bias"), ".bias"  # gpt-oss's experts
    return name, ".weight"


def _name_outside_layers(path: str, ending: str) -> str:
    parts = path.split(".")
    for name in (".".join(parts[-2:]), parts[-1]):
        if name in WHOLE:
            return WHOLE[name] + ending
    return path + ending


def _name_in_layer(tail: str, siblings: frozenset[str]) -> str:
    if "experts." in tail and "shared_experts" not in tail:
        return EXPERTS.get(tail.rpartition(".")[2], tail)
    if tail == "post_attention_layernorm" and "post_feedforward_layernorm" in siblings:
        return "post_attention_norm"
    if "block_sparse_moe" in tail and tail.endswith("_linear"):
        return EXPERTS[tail.rpartition(".")[2]]
    return _name_by_role(tail)


def _name_by_role(tail: str) -> str:
    """Return GGUF's name for a matrix of a layer by its role; names of shared experts end in
    "_shexp"."""
    parts = tail.split(".")
    base = _name_by_ending(parts) or BY_ROLE.get(role(tail), tail)
    shared = any("shared_expert" in p or p == "shared_mlp" for p in parts[:-1])
    return f"{base}_shexp" if shared and base.startswith("ffn_") else base


def _name_by_ending(parts: Sequence[str]) -> str | None:
    """Return GGUF's name for the longest known ending of a path; None without one."""
    endings = (".".join(parts[-count:]) for count in (3, 2, 1))
    return next((ENDS[ending] for ending in endings if ending in ENDS), None)


def siblings_of(names: list[str]) -> frozenset[str]:
    """Return the names of the modules directly in layers, for `siblings` of `gguf_name`."""
    positions = (below_layer(_split_ending(n)[0]) for n in names)
    return frozenset(
        position.below
        for position in positions
        if position is not None and "." not in position.below
    )

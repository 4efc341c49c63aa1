"""Which role a tensor plays for llama.cpp's choice of types, by its checkpoint name.

llama.cpp knows roles by its own tensor names (attn_v, ffn_down, ...), gguf-py says which module
names become those. Roles that no rule of `ggml.py` mentions are "".
Source: gguf 0.19 gguf/tensor_mapping.py; llama.cpp src/llama-quant.cpp:tensor_get_category.
"""

import re

from weighbridge.arch.blueprint import Param
from weighbridge.quantization.scheme import module

LAYER = r"(?:^|\.)(\d{1,9})\."
ATTENTION = r"att(n|ention)?(\.|_|$)|mixer\."

# The module's own name -> role, wherever it is.
ANYWHERE = {
    **dict.fromkeys(("q_proj", "q_lin", "query", "wq"), "q"),
    **dict.fromkeys(("k_proj", "k_lin", "key", "wk"), "k"),
    **dict.fromkeys(("v_proj", "v_lin", "value", "wv"), "v"),
    **dict.fromkeys(
        ("qkv_proj", "query_key_value", "Wqkv", "c_attn", "W_pack", "att_proj"),
        "v",  # attn_qkv is chosen as attn_v is
    ),
    **dict.fromkeys(("in_proj_qkv", "in_proj_qkvz"), "v"),
    **dict.fromkeys(("o_proj", "out_lin", "Wo", "attn_out"), "out"),
    **dict.fromkeys(("down_proj", "fc2", "dense_4h_to_h", "fc_out", "ff_out", "lin2"), "down"),
    **dict.fromkeys(("up_proj", "w3", "fc1", "c_fc", "dense_h_to_4h", "fc_in", "lin1"), "up"),
    **dict.fromkeys(("gate_up_proj", "Wi"), "up"),
    **dict.fromkeys(("gate_proj", "w1", "ff_proj"), "gate"),
}
# The same name in an attention module, and elsewhere.
DEPENDS = {"c_proj": ("out", "down"), "out_proj": ("out", ""), "wo": ("out", "down")}


def role(p: Param) -> str:
    """v, k, q, out, down, up, gate, output, embedding; or "" for all other matrices."""
    if p.kind == "embedding":
        return "embedding"
    path = module(p)
    parent, _, name = path.rpartition(".")
    if name in ("lm_head", "embed_out"):
        return "output"
    if name == "dense":
        return _dense(parent)
    if name in ("w1", "w2"):
        return _numbered(parent, name)
    if name in DEPENDS:
        attention = re.search(ATTENTION, f"{parent}.") and "linear_attn" not in parent
        return DEPENDS[name][0 if attention else 1]
    return ANYWHERE.get(name, "")


def _dense(parent: str) -> str:
    """BERT and Falcon: attention.output.dense, self_attention.dense, intermediate.dense."""
    if re.search(ATTENTION, f"{parent}."):
        return "out"
    return "up" if parent.endswith("intermediate") else "down"


def _numbered(parent: str, name: str) -> str:
    """w1 is the gate and w2 the way down; Qwen-1's `mlp` has w1 up and w2 gate."""
    pair = ("up", "gate") if parent.endswith(".mlp") else ("gate", "down")
    return pair[int(name[1]) - 1]


def layer(p: Param) -> int | None:
    """The first number in a name: "model.layers.3.mlp.experts.7.w1" is in layer 3."""
    found = re.search(LAYER, p.name)
    return int(found[1]) if found else None

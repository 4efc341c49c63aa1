"""Which role a tensor plays for llama.cpp's choice of types.

llama.cpp knows roles by its own tensor names (attn_v, ffn_down, ...), gguf-py says which module
names become those. Roles that no rule of `ggml.py` mentions are "".
Source: gguf 0.19 gguf/tensor_mapping.py; llama.cpp src/llama-quant.cpp:tensor_get_category.
"""

from collections.abc import Mapping

from weighbridge.arch.blueprint import Param
from weighbridge.arch.roles import role_of

# llama.cpp's role -> ours; attn_qkv is chosen as attn_v is, and the indexer's attn_k as that of
# the attention. What stands behind the layers of an encoder is counted with the ways down.
OURS: Mapping[str, str] = {
    "output": "head",
    "q": "q",
    "k": "k index_k",
    "v": "v qkv states_qkv",
    "out": "o",
    "down": "down pooler dense",
    "up": "up gate_up",
    "gate": "gate",
}
THEIRS = {ours: theirs for theirs, roles in OURS.items() for ours in roles.split()}
# Words whose tensors get the type of all others: of classes that llama.cpp does not have, and of a
# few (T5, Granite's experts) whose files we have not held against ours
_UNREAD = """
    q k v o qkv wqkv proj output wi wi_0 wi_1 v1 fc0 fc11 fc12 ffn ffn_output mlp
    query_proj key_proj value_proj linear_q linear_k linear_v linear_out linear_fc1 linear_fc2
    intermediate_dense output_dense layer_1 layer_2 input_linear output_linear output_layer
    attn_q attn_k attn_v attn_qkv attn_output ffn_gate ffn_up ffn_down linear base_layer
"""
UNREAD = frozenset(_UNREAD.split())


def ggml_role(p: Param) -> str:
    """v, k, q, out, down, up, gate, output, embedding; or "" for all other tensors."""
    if p.kind == "embedding":
        return "embedding"
    word = p.name.removesuffix(".weight").rpartition(".")[2]
    unread = word in UNREAD or word.isdigit() or word.endswith("bias")
    return "" if unread else THEIRS.get(role_of(p), "")

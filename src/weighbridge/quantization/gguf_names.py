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


def ggml_role(p: Param) -> str:
    """v, k, q, out, down, up, gate, output, embedding; or "" for all other tensors."""
    if p.kind == "embedding":
        return "embedding"
    return "" if p.name.endswith("bias") else THEIRS.get(role_of(p), "")

"""The tensors that engines hold as one, though checkpoints store them apart.

Source: packed_modules_mapping of vllm 0.33 model_executor/models/*.py, and
layers/fused_moe/unquantized_fused_moe_method.py (w13_weight, w2_weight); sglang has the same.
"""

from collections.abc import Mapping

from weighbridge.arch.blueprint import Param
from weighbridge.arch.roles import module
from weighbridge.engines.parallel.names import way
from weighbridge.engines.parallel.pieces import unnumbered

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


def merged(param: Param) -> str:
    """The module that holds the parameter on the device."""
    if param.kind in EXPERTS or param.routed[1] > 1:
        before, _, _ = unnumbered(param.name).partition("experts.")
        return f"{before}experts.{'w2' if way(param) == 'row' else 'w13'}"
    path, _, last = module(param.name).rpartition(".")
    last = TOGETHER.get(last, last)
    return f"{path}.{last}" if path else last

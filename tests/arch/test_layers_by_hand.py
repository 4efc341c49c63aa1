"""The first layer of a class, matrix by matrix, as its own modules are named and shaped."""

import pytest

from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
}
# 2 heads of 8 for queries and keys each, 4 heads of 8 for values and the gate
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 3,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 40,
    "decoder_sparse_step": 1,
}
MIXED = {  # convolution over queries, keys and values
    "linear_attn.conv1d.weight": (2 * 16 + 32, 1, 3),
    "linear_attn.dt_bias": (4,),
    "linear_attn.A_log": (4,),
    "linear_attn.norm.weight": (8,),
    "linear_attn.out_proj.weight": (64, 32),
}
NORMS = {"input_layernorm.weight": (64,), "post_attention_layernorm.weight": (64,)}
GROUPED = {
    "self_attn.q_proj.weight": (64, 64),
    "self_attn.k_proj.weight": (32, 64),
    "self_attn.v_proj.weight": (32, 64),
    "self_attn.o_proj.weight": (64, 64),
}


def gated(path, width):
    return {
        f"{path}gate_proj.weight": (width, 64),
        f"{path}up_proj.weight": (width, 64),
        f"{path}down_proj.weight": (64, width),
    }


@pytest.mark.parametrize(
    ("model_type", "more", "layer"),
    [
        (
            "qwen3_5_text",
            DELTA,
            MIXED
            | NORMS
            | gated("mlp.", 96)
            | {
                "linear_attn.in_proj_qkv.weight": (2 * 16 + 32, 64),
                "linear_attn.in_proj_z.weight": (32, 64),
                "linear_attn.in_proj_b.weight": (4, 64),
                "linear_attn.in_proj_a.weight": (4, 64),
            },
        ),
        (
            "qwen3_next",
            DELTA | EXPERTS,
            MIXED
            | NORMS
            | gated("mlp.shared_expert.", 40)
            | {name: s for n in range(4) for name, s in gated(f"mlp.experts.{n}.", 24).items()}
            | {
                "linear_attn.in_proj_qkvz.weight": (2 * 16 + 2 * 32, 64),
                "linear_attn.in_proj_ba.weight": (2 * 4, 64),
                "mlp.gate.weight": (4, 64),
                "mlp.shared_expert_gate.weight": (1, 64),
            },
        ),
        ("hyperclovax", {"use_post_norm": False}, GROUPED | NORMS | gated("mlp.", 96)),
        (
            "hyperclovax",
            {},
            GROUPED
            | NORMS
            | gated("mlp.", 96)
            | {"post_norm1.weight": (64,), "post_norm2.weight": (64,)},
        ),
    ],
)
def test_matrices_of_the_first_layer(model_type, more, layer):
    plan = blueprint(Config({"model_type": model_type, **SIZES, **more}))
    first = "model.layers.0."
    found = {p.name.removeprefix(first): p.shape for p in plan.params if p.name.startswith(first)}
    assert found == layer

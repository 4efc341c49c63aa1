"""Mixtures of experts and latent attention: programs over shapes against the real classes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.torch.training_oracle import differences, ours, real

SMALL = 1024  # bytes below which tensors are scalars and tables

QWEN3_MOE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "vocab_size": 1000,
}
DEEPSEEK_V3 = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 64,
    "v_head_dim": 64,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "vocab_size": 1000,
}
CASES = [
    ("qwen3_moe", QWEN3_MOE, {"precision": "bf16"}),
    ("qwen3_moe", QWEN3_MOE, {"precision": "fp32", "checkpointing": True}),
    ("qwen3_moe", QWEN3_MOE, {"precision": "bf16-mixed"}),
    ("deepseek_v3", DEEPSEEK_V3, {"precision": "bf16"}),
    ("deepseek_v3", DEEPSEEK_V3, {"precision": "bf16", "checkpointing": True}),
    ("deepseek_v3", DEEPSEEK_V3, {"precision": "bf16-mixed"}),
    ("deepseek_v3", {**DEEPSEEK_V3, "q_lora_rank": None}, {"precision": "fp32"}),
]


@pytest.mark.parametrize(
    ("model_type", "config", "settings"),
    CASES,
    ids=[f"{name}-{'-'.join(map(str, s.values()))}-{i}" for i, (name, _, s) in enumerate(CASES)],
)
def test_saved_tensors_and_peaks_are_those_of_the_class(model_type, config, settings):
    seen = real(model_type, config, **settings)
    mine = ours(model_type, config, **settings)
    assert differences(seen, mine, small=SMALL) == []

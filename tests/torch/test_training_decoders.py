"""Decoders of other shapes than Llama's, and those whose layers mix tokens in several ways: programs
over shapes against the real classes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.cases import each
from tests.torch.cases_training import same
from tests.torch.training_oracle import differences, ours, real

CLOSE = 0.006
SMALL = 1023  # bytes below which tensors are scalars and tables
BF16 = {"precision": "bf16"}
MIXED = {"precision": "bf16-mixed"}
FLOAT = {"precision": "fp32"}
FULL = {"checkpointing": True}
EAGER = {"attention": "eager"}
SHORT = {"seq_len": 40}  # a scan is a loop over tokens there

FALCON = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": 520,
    "bias": False,
    "parallel_attn": True,
    "alibi": False,
}
FALCON_7B = {**FALCON, "multi_query": True}
FALCON_40B = {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}
FALCON_RW = {**FALCON, "multi_query": False, "parallel_attn": False, "alibi": True, "bias": True}
MAMBA = {
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "state_size": 10,
    "vocab_size": 520,
    "conv_kernel": 4,
    "expand": 2,
    "time_step_rank": 6,
}
JAMBA = {
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 520,
    "mamba_d_state": 10,
    "mamba_dt_rank": 6,
    "num_experts": 6,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "attn_layer_period": 4,
    "attn_layer_offset": 2,
    "pad_token_id": 0,
}
NEMOTRON_H = {
    "hidden_size": 96,
    "intermediate_size": 200,
    "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 520,
    "ssm_state_size": 10,
    "mamba_num_heads": 6,
    "mamba_head_dim": 28,
    "n_groups": 2,
    "chunk_size": 24,
    "n_routed_experts": 6,
    "moe_intermediate_size": 104,
    "moe_shared_expert_intermediate_size": 136,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
}
PERSIMMON = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": 520,
    "pad_token_id": 0,
}
GPT_NEO = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_layers": 2,
    "num_heads": 8,
    "vocab_size": 520,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 50,
    "max_position_embeddings": 300,
}
MPT = {"d_model": 128, "n_layers": 2, "n_heads": 8, "vocab_size": 520, "max_seq_len": 300}
GRANITE = {
    "hidden_size": 96,
    "intermediate_size": 104,
    "shared_intermediate_size": 136,
    "num_hidden_layers": 2,
    "layer_types": ["mamba", "attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 520,
    "mamba_d_state": 10,
    "mamba_n_heads": 6,
    "mamba_d_head": 32,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 24,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
}
BAMBA = {
    **{k: v for k, v in GRANITE.items() if k not in ("layer_types", "num_experts_per_tok")},
    "attn_layer_indices": [1],
    "intermediate_size": 200,
}
DENSE = {"num_local_experts": 0, "position_embedding_type": "rope"}
CASES = [
    ("falcon", FALCON_7B, BF16),
    ("falcon", FALCON_7B, MIXED | FULL),
    ("falcon", FALCON_40B, MIXED),
    ("falcon", FALCON_40B, FLOAT | FULL),
    ("falcon", FALCON_RW, FLOAT),
    ("falcon", FALCON_RW, BF16 | {"padded": True}),
    ("falcon", FALCON_7B, MIXED | EAGER),
    ("falcon", FALCON_40B, FLOAT | EAGER | FULL),
    ("falcon", FALCON_RW, BF16 | EAGER),
    ("persimmon", PERSIMMON, BF16),
    ("persimmon", PERSIMMON, MIXED | FULL),
    ("gpt_neo", GPT_NEO, MIXED),
    ("gpt_neo", GPT_NEO, BF16 | FULL | {"batch_size": 1}),
    ("mpt", MPT, BF16),
    ("mpt", MPT, FLOAT | FULL),
    ("mamba", MAMBA, BF16 | SHORT),
    ("mamba", MAMBA, MIXED | SHORT),
    ("mamba", MAMBA, FLOAT | FULL | SHORT),
    ("falcon_mamba", MAMBA, MIXED | FULL | SHORT),
    ("nemotron_h", NEMOTRON_H, BF16),
    ("nemotron_h", NEMOTRON_H, MIXED | FULL),
    ("nemotron_h", NEMOTRON_H, FLOAT),
    ("bamba", BAMBA, BF16),
    ("bamba", BAMBA, MIXED | FULL),
    ("granitemoehybrid", GRANITE, BF16 | FULL),
    ("granitemoehybrid", GRANITE, MIXED),
    ("granitemoehybrid", GRANITE | DENSE, FLOAT),
    ("jamba", JAMBA, BF16 | FULL | SHORT),
    ("jamba", JAMBA, MIXED | SHORT),
    ("falcon_mamba", MAMBA, BF16 | {"batch_size": 1, "seq_len": 30}),
]


@pytest.mark.parametrize(
    ("model_type", "config", "settings"),
    each(8, CASES),
    ids=[f"{name}-{'-'.join(map(str, s.values()))}-{i}" for i, (name, _, s) in enumerate(CASES)],
)
def test_saved_tensors_and_peaks_are_those_of_the_class(model_type, config, settings):
    settings = {"seq_len": 100, **settings}
    seen = real(model_type, config, **settings)
    mine = ours(model_type, config, **settings)
    assert differences(seen, mine, small=SMALL, close=CLOSE) == []


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ernie4_5", MIXED | FULL),
        ("exaone4", MIXED),
        ("helium", FLOAT | FULL),
        ("ministral3", FLOAT),
        ("nemotron", MIXED),
    ],
)
def test_classes_near_llama(kind, settings):
    same(kind, seq_len=100, **settings)

"""Whole models of 2026: parameters as transformers 5.23 counts them on the meta device, and what
their layers remember. Sizes are those of the published configs."""

from collections import Counter

import pytest

from tests.engines.answers import of_config
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config

MUSE = {
    "model_type": "muse_glimmer",
    "architectures": ["MuseGlimmerForConditionalGeneration"],
    "text_config": {"hidden_size": 6656, "vocab_size": 202_048},
    "vision_config": {"hidden_size": 1536},
}
M3_TEXT = {
    "hidden_size": 6144,
    "num_local_experts": 128,
    "moe_layer_freq": [0] * 3 + [1] * 57,
    "sparse_attention_config": {
        "sparse_attention_freq": [0] * 3 + [1] * 57,
        "sparse_index_dim": 128,
        "sparse_num_index_heads": 4,
    },
}
M3 = {
    "model_type": "minimax_m3_vl",
    "architectures": ["MiniMaxM3SparseForConditionalGeneration"],
    "text_config": M3_TEXT,
    # its own type is not the one that is built
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1280},
}
STEP_TEXT = {
    "hidden_size": 4096,
    "vocab_size": 128_896,
    "layer_types": ["full_attention", *["sliding_attention"] * 3] * 11 + ["full_attention"],
    "sliding_window": 512,
}
STEP = {
    "model_type": "step3p7",
    "architectures": ["Step3p7ForConditionalGeneration"],
    "text_config": STEP_TEXT,
    "vision_config": {"width": 1536},
}
ALONE = {"model_type": "step3p7", "architectures": ["Step3p7FlashForCausalLM"], **STEP_TEXT}
OLD = {"model_type": "step3p5", "architectures": ["Step3p5ForCausalLM"], **STEP_TEXT}
OLD |= {"moe_num_experts": 288, "num_attention_groups": 8}
TOWER = 1_955_848_960 + 25_165_824  # of Step, and the Linear behind it
K3_TEXT = {
    "model_type": "kimi_linear",
    "num_hidden_layers": 93,
    "hidden_size": 7168,
    "intermediate_size": 33_792,
    "vocab_size": 163_840,
    "num_attention_heads": 96,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "mla_use_output_gate": True,
    "num_experts": 896,
    "num_experts_per_token": 16,
    "num_shared_experts": 2,
    "moe_intermediate_size": 3072,
    "routed_expert_hidden_size": 3584,
    "latent_moe_use_norm": True,
    "first_k_dense_replace": 1,
    "attn_res_block_size": 12,
    "linear_attn_config": {
        "num_heads": 96,
        "head_dim": 128,
        "short_conv_kernel_size": 4,
        "full_attn_layers": [*range(4, 93, 4), 93],
        "kda_layers": [i for i in range(1, 93) if i % 4],
    },
}
K3 = {
    "model_type": "kimi_k3",
    "architectures": ["KimiK3ForConditionalGeneration"],
    "text_config": K3_TEXT,
    "vision_config": {
        "vt_hidden_size": 1024,
        "vt_intermediate_size": 4096,
        "vt_num_attention_heads": 12,
        "vt_num_hidden_layers": 27,
        "qkv_hidden_size": 1536,
        "init_pos_emb_height": 64,
        "init_pos_emb_width": 64,
        "patch_size": 14,
        "merge_kernel_size": [2, 2],
    },
}


def parameters(raw):
    return sum(p.numel * p.copies for p in of_config(raw).parts[0].blueprint.counted if not p.tied)


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (MUSE, 29_776_626_688),
        (M3, 427_040_132_864),
        (STEP, 197_825_511_424),
        (ALONE, 197_825_511_424 - TOWER),
        (OLD, 197_825_511_424 - TOWER),
    ],
    ids=("muse glimmer", "minimax m3", "step 3.7", "its text", "step 3.5"),
)
def test_parameters(raw, count):
    assert parameters(raw) == count


def test_kimi_k3_by_hand():
    """No class of transformers; vllm 0.33 models/kimi_k3/nvidia. 69 layers of delta nets, 24 of
    latent attention with a gate, 92 with experts of a latent width, a dense one before."""
    d, inner, narrow = 7168, 96 * 128, 3584
    delta = 3 * (inner * d + inner * 4) + 96 * d + inner + 128 + 96  # q, k, v, b, dt, norm, A
    delta += 128 * d + inner * 128 + inner * d + d * inner  # f twice, g, o
    latent = 1536 * d + 1536 + 96 * 192 * 1536 + (512 + 64) * d + 512 + 96 * 256 * 512
    latent += 2 * d * inner  # o and the gate
    sparse = 896 * d + 2 * narrow * d + narrow + 896 * 3 * narrow * 3072 + 3 * d * 2 * 3072
    layers = 69 * delta + 24 * latent + 92 * sparse + 3 * d * 33_792 + 93 * (2 * d + 4 * d)
    text = layers + 2 * 163_840 * d + d + 2 * d
    tower = 1024 * 588 + 64 * 64 * 1024 + 1024
    tower += 27 * (2 * 1024 + 4 * 1536 * 1024 + 2 * 4096 * 1024)
    assert parameters(K3) == text + tower + 4096 * 4096 + d * 4096 + d
    kept = Counter(type(m).__name__ for x in layers_of(K3) for m in x.mixers)
    assert kept == {"KimiDelta": 69, "Latent": 24}


def layers_of(raw):
    return layers(Config(raw))


def test_layers_that_see_a_window_and_those_with_an_indexer():
    reach = Counter(m.reach for x in layers_of(MUSE) for m in x.mixers)
    assert reach == {2048: 39, None: 13}
    picks = Counter(m.indexer is not None for x in layers_of(M3) for m in x.mixers)
    assert picks == {True: 57, False: 3}
    for raw in (ALONE, OLD):
        assert Counter(m.reach for x in layers_of(raw) for m in x.mixers) == {512: 33, None: 12}

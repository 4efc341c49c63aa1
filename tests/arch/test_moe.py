"""Mixtures of experts, hybrids and state spaces without torch: published counts, active parameters,
edges worked by hand, laws, and the weight maps of published files.

The counts are `safetensors.total` of the models' pages on the Hugging Face Hub where every stored
element is a parameter, or an index's total size over the size of an element. The configs hold the
decisive keys of the published ones.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import corpus
from weighbridge.arch.config import Config
from weighbridge.arch.families import blueprint
from weighbridge.errors import BadFileError, UnsupportedError
from weighbridge.model import active


def weigh(raw):
    return blueprint(Config(raw))


def decoder(model_type, sizes, **more):
    """Hidden size, layers, heads, key-value heads, vocabulary."""
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
    )
    return {"model_type": model_type, **dict(zip(names, sizes, strict=True)), **more}


def latent(q, kv, rope, nope, value):
    return {
        "q_lora_rank": q,
        "kv_lora_rank": kv,
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": nope,
        "v_head_dim": value,
    }


def deepseek(routed, shared, inner, k, dense):
    return {
        "n_routed_experts": routed,
        "n_shared_experts": shared,
        "moe_intermediate_size": inner,
        "num_experts_per_tok": k,
        "first_k_dense_replace": dense,
    }


def experts(count, k, inner, *, name="num_experts"):
    return {name: count, "num_experts_per_tok": k, "moe_intermediate_size": inner}


MIXTRAL = decoder(
    "mixtral",
    (4096, 32, 32, 8, 32000),
    intermediate_size=14336,
    num_local_experts=8,
    num_experts_per_tok=2,
)
QWEN3_30B = decoder(
    "qwen3_moe", (2048, 48, 32, 4, 151936), head_dim=128, intermediate_size=6144
) | experts(128, 8, 768)
V3 = decoder("deepseek_v3", (7168, 61, 128, 128, 129280), intermediate_size=18432) | (
    latent(1536, 512, 64, 128, 128) | deepseek(256, 1, 2048, 8, 3)
)
V2_LITE = decoder("deepseek_v2", (2048, 27, 16, 16, 102400), intermediate_size=10944) | (
    latent(None, 512, 64, 128, 128) | deepseek(64, 2, 1408, 6, 1)
)
GPT_OSS = decoder(
    "gpt_oss",
    (2880, 24, 64, 8, 201088),
    head_dim=64,
    intermediate_size=2880,
    num_local_experts=32,
    num_experts_per_tok=4,
)
NEMOTRON_3_NANO = decoder("nemotron_h", (2688, 52, 32, 2, 131072), head_dim=128) | {
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "intermediate_size": 1856,
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "n_groups": 8,
    "ssm_state_size": 128,
    "n_routed_experts": 128,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
}
NEMOTRON_STORED_BIAS = 23 * 128  # e_score_correction_bias, a buffer, counted on the page

# model -> config, published number of parameters
PUBLISHED = {
    "Mixtral-8x7B": (MIXTRAL, 46_702_792_704),  # index: 93,405,585,408 bytes of bfloat16
    "Phi-tiny-MoE": (
        decoder(
            "phimoe",
            (4096, 32, 16, 4, 32064),
            head_dim=128,
            intermediate_size=448,
            num_local_experts=16,
            num_experts_per_tok=2,
            attention_bias=True,
            lm_head_bias=True,
        ),
        3_755_220_288,
    ),
    "Qwen1.5-MoE-A2.7B": (
        decoder("qwen2_moe", (2048, 24, 16, 16, 151936), intermediate_size=5632)
        | {"shared_expert_intermediate_size": 5632}
        | experts(60, 4, 1408),
        14_315_784_192,
    ),
    "Qwen3-30B-A3B": (QWEN3_30B, 30_532_122_624),
    "deepseek-moe-16b": (
        decoder("deepseek", (2048, 28, 16, 16, 102400), intermediate_size=10944)
        | deepseek(64, 2, 1408, 6, 1),
        16_375_728_128,
    ),
    "DeepSeek-V2-Lite": (V2_LITE, 15_706_484_224),
    "gpt-oss-120b, dequantized": (
        {**GPT_OSS, "num_hidden_layers": 36, "num_local_experts": 128},
        116_829_156_672,
    ),
    "Ling-lite": (
        decoder("bailing_moe", (2048, 28, 16, 4, 126464), num_shared_experts=2)
        | experts(64, 6, 1408),
        16_801_974_272,
    ),
    "Nemotron-3-Nano-30B-A3B": (NEMOTRON_3_NANO, 31_577_937_344 + 0 * NEMOTRON_STORED_BIAS),
    "LFM2-1.2B": (
        decoder("lfm2", (2048, 16, 32, 8, 65536), block_ff_dim=12288)
        | {"full_attn_idxs": [2, 5, 8, 10, 12, 14], "block_multiple_of": 256},
        1_170_340_608,
    ),
    "granite-4.0-h-tiny": (
        decoder("granitemoehybrid", (1536, 40, 12, 4, 100352), intermediate_size=512)
        | {"shared_intermediate_size": 1024, "num_local_experts": 64, "num_experts_per_tok": 6}
        | {"mamba_n_heads": 48, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_n_groups": 1}
        | {"mamba_expand": 2, "mamba_d_conv": 4, "tie_word_embeddings": True}
        | {"layer_types": ["attention" if i % 10 == 5 else "mamba" for i in range(40)]},
        6_939_037_248,
    ),
    "Bamba-9B-v1": (
        decoder("bamba", (4096, 32, 32, 8, 128256), intermediate_size=14336)
        | {"attn_layer_indices": [9, 18, 27], "mamba_n_heads": 128, "mamba_d_head": 64}
        | {"mamba_d_state": 128, "mamba_n_groups": 1, "mamba_expand": 2, "mamba_d_conv": 4},
        9_780_235_392,
    ),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_counts(model):
    raw, count = PUBLISHED[model]
    assert weigh(raw).parameters == count

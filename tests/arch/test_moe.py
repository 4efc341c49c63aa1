"""Mixtures of experts, hybrids and state spaces without torch: published counts, active parameters
and edges worked by hand.

The counts are `safetensors.total` of the models' pages on the Hugging Face Hub where every stored
element is a parameter, or an index's total size over the size of an element. The configs hold the
decisive keys of the published ones.
"""

import pytest

from tests.cases import all_of
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.models.arch import builder
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.checkpoint.model import active


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
    "Nemotron-3-Nano-30B-A3B": (NEMOTRON_3_NANO, 31_577_937_344),
    "Jamba-Mini-1.5": (decoder("jamba", (4096, 32, 32, 8, 65536)), 51_570_323_328),
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


@all_of("model", PUBLISHED)
def test_published_counts(model):
    raw, count = PUBLISHED[model]
    assert weigh(raw).parameters == count


def test_deepseek_v3_counts_its_correction_bias_as_a_buffer():
    """671,026,419,200 in the paper's code, where the 58 biases of 256 are parameters."""
    plan = weigh(V3)
    stored = sum(b.shape[0] for b in plan.buffers if b.persistent)
    assert (plan.parameters, stored) == (671_026_404_352, 58 * 256)
    assert plan.parameters + stored == 671_026_419_200


ACTIVE = {  # parameters that work on a token; announced as 12.9, 3.3, 37, 2.4 and 3.6 B
    "Mixtral-8x7B": (MIXTRAL, 12_879_925_248),
    "Qwen3-30B-A3B": (QWEN3_30B, 3_353_032_704),
    "DeepSeek-V3": (V3, 37_552_282_624),
    "DeepSeek-V2-Lite": (V2_LITE, 2_661_150_208),
    "gpt-oss-20b": (GPT_OSS, 4_187_440_704),  # 3.6 B without its embedding of 0.58 B
}


@pytest.mark.parametrize("model", ACTIVE)
def test_active_parameters(model):
    raw, count = ACTIVE[model]
    assert active(weigh(raw).params) == count


def test_mixtral_by_hand():
    """In each of 32 layers 6 of 8 experts rest: three matrices of 4096 x 14336 each."""
    plan = weigh(MIXTRAL)
    assert plan.parameters - active(plan.params) == 32 * 6 * 3 * 4096 * 14336


@pytest.mark.slow
def test_shared_experts_are_never_at_rest():
    """V3's 58 sparse layers rest 248 of 256 experts, 3 x 7168 x 2048 each, and nothing else."""
    plan = weigh(V3)
    assert plan.parameters - active(plan.params) == 58 * 248 * 3 * 7168 * 2048


def test_the_published_file_of_minimax_m1():
    """912,210,767,872 bytes: bfloat16, but for routers of 32 x 6144 in 80 layers in float32."""
    attends = [int(i % 8 == 7) for i in range(80)]
    raw = decoder("minimax_m1", (6144, 80, 64, 8, 200064), attn_type_list=attends)
    raw |= {"head_dim": 128, "intermediate_size": 9216, "num_local_experts": 32}
    plan = weigh(raw | {"num_experts_per_tok": 2})
    routers = sum(p.numel for p in plan.params if p.kind == "router")
    assert 2 * plan.parameters + 2 * routers == 912_210_767_872
    assert len(plan.params) == 8243


# Edges worked by hand

TINY = {
    "vocab_size": 10,
    "hidden_size": 4,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
ATTENTION = 4 * 4 + 2 * 4 + 2 * 4 + 4 * 4
ENDS = 2 * 10 * 4 + 4
SPARSE = {"num_local_experts": 3, "num_experts_per_tok": 2}


def test_tiny_mixtral():
    a_layer = ATTENTION + 2 * 4 + 3 * 4 + 3 * 3 * 4 * 6
    plan = weigh({**TINY, **SPARSE, "model_type": "mixtral"})
    assert plan.parameters == ENDS + 2 * a_layer
    assert active(plan.params) == plan.parameters - 2 * 3 * 4 * 6


def test_an_explicit_null_rank_is_not_the_class_default():
    """DeepSeek-V2-Lite has "q_lora_rank": null, where the class default is 1536."""
    names = {p.name for p in weigh(V2_LITE).params}
    assert "model.layers.0.self_attn.q_proj.weight" in names
    absent = {k: v for k, v in V2_LITE.items() if k != "q_lora_rank"}
    ranks = {p.shape[0] for p in weigh(absent).params if p.name.endswith("q_a_proj.weight")}
    assert ranks == {1536}


@all_of(
    ("change", "sparse"),
    [
        ({}, {0, 1, 2, 3}),
        ({"decoder_sparse_step": 2}, {1, 3}),
        ({"mlp_only_layers": [0, 2]}, {1, 3}),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [3]}, {1}),
        ({"num_experts": 0}, set()),
    ],
)
def test_which_layers_of_qwen_are_sparse(change, sparse):
    raw = {**TINY, "num_hidden_layers": 4, "model_type": "qwen3_moe"} | experts(3, 2, 5) | change
    found = {int(p.name.split(".")[2]) for p in weigh(raw).params if p.kind == "router"}
    assert found == sparse


def test_multi_token_prediction_is_not_loaded():
    assert weigh({**V3, "num_nextn_predict_layers": 1}).parameters == weigh(V3).parameters


def test_more_experts_a_token_than_there_are():
    """torch.topk refuses it."""
    raw = {**TINY, "model_type": "mixtral", "num_local_experts": 3}
    assert active(weigh(raw | {"num_experts_per_tok": 3}).params)
    for used in (0, 4):
        with pytest.raises(BadFileError, match=f"cannot use {used} of 3 experts"):
            weigh(raw | {"num_experts_per_tok": used})


def test_zamba_owns_its_shared_block_once():
    """Layers 3 and 5 of six share one block; a tied parameter names its owner."""
    raw = {**TINY, "model_type": "zamba", "num_hidden_layers": 6, "mamba_d_state": 2}
    kinds = ["mamba", "mamba", "hybrid", "mamba", "hybrid", "mamba"]
    raw |= {"layers_block_type": kinds, "n_mamba_heads": 1}
    tied = {p.name: p.tied for p in weigh(raw).params if ".shared_transf." in p.name}
    owners = {name for name, owner in tied.items() if not owner}
    assert {name.replace("layers.4.", "layers.2.") for name in tied} == owners
    assert all(owner in owners for owner in tied.values() if owner)


def test_nemotron_pattern_decides_the_number_of_layers():
    plan = weigh({**NEMOTRON_3_NANO, "num_hidden_layers": 7})
    assert plan.parameters == weigh(NEMOTRON_3_NANO).parameters


# Nonsense

BAD = {
    "short layer_types": (
        {**TINY, "model_type": "qwen3_5_text", "layer_types": ["full_attention"]},
        "layer_types has 1 entries for 2 layers",
    ),
    "letters": ({**NEMOTRON_3_NANO, "hybrid_override_pattern": "MX"}, "must be letters of M"),
    "pattern": ({**NEMOTRON_3_NANO, "hybrid_override_pattern": "M" * 5000}, "5,000 layers"),
    "ratios": (
        {**TINY, "model_type": "deepseek_v4", "compress_ratios": [0, 5]},
        "compress_ratios may hold 0, 4 and 128",
    ),
    "index letters": (
        {**TINY, **latent(4, 4, 2, 2, 2), "model_type": "glm_moe_dsa", "index_topk_pattern": "FX"},
        "index_topk_pattern must be",
    ),
    "attention kinds": (
        {**TINY, **SPARSE, "model_type": "minimax_m1", "attn_type_list": [1]},
        "attn_type_list has 1 entries",
    ),
}


@all_of("case", BAD)
def test_nonsense_is_one_clear_line(case):
    raw, words = BAD[case]
    with pytest.raises(BadFileError, match=words) as error:
        weigh(raw)
    assert "\n" not in str(error.value)


def test_kimi_k3_is_not_taken_for_kimi_linear():
    with pytest.raises(UnsupportedError, match="routed_expert_hidden_size"):
        weigh({**TINY, "model_type": "kimi_linear", "routed_expert_hidden_size": 3584})


def test_a_hostile_number_of_experts_is_refused_before_they_are_built(monkeypatch):
    """10^6 experts in 1024 layers: bodies are lazy, so the bound is what it costs."""
    monkeypatch.setattr(builder, "MAX_TENSORS", 1000)
    with pytest.raises(BadFileError, match="more than 1,000 tensors"):
        weigh({**MIXTRAL, "num_hidden_layers": 1024, "num_local_experts": 1_000_000})

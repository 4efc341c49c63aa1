"""Further mixtures of experts: programs over shapes against the real classes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.cases import each
from tests.torch.training_oracle import differences, ours, real

SMALL = 1024  # bytes below which tensors are scalars and tables
CLOSE = 0.006
SHARED = {
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": 1000,
}
EXPERTS = {"moe_intermediate_size": 192, "intermediate_size": 448, "num_experts_per_tok": 4}
NARROW = {"intermediate_size": 192, "num_experts_per_tok": 4}
GROUPED = {"num_key_value_heads": 2, "head_dim": 48}
PADS = {"pad_token_id": 0}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}
GPT_OSS = {
    **SHARED,
    **NARROW,
    **GROUPED,
    "num_local_experts": 16,
    "sliding_window": 100,
}
SOME = {"n_routed_experts": 16, "first_k_dense_replace": 1, "n_shared_experts": 1}
LATENT = {
    **SHARED,
    **EXPERTS,
    **SOME,
    "num_key_value_heads": 8,
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 48,
    "v_head_dim": 40,
}
GROUPS = {"n_group": 4, "topk_group": 2, "topk_method": "group_limited_greedy"}
INDEXED = {"index_n_heads": 3, "index_head_dim": 44, "index_topk": 64}
HANDED_ON = {"num_hidden_layers": 3, "indexer_types": ["full", "shared", "full"]}
NOISY = {"input_jitter_noise": 0.01, "attention_bias": True, "lm_head_bias": True}
LITE = {"q_lora_rank": None}
CONFIGS = {
    "gpt_oss": GPT_OSS,
    "mixtral": {**GPT_OSS, "num_local_experts": 8, "num_experts_per_tok": 2},
    "deepseek_v2": LATENT,
    "deepseek_v3": {**LATENT, "n_group": 4, "topk_group": 2},
    "deepseek_v32": {**LATENT, **INDEXED, "n_group": 4, "topk_group": 2},
    "glm_moe_dsa": {**LATENT, **INDEXED},
    "glm4_moe_lite": LATENT,
    "glm4_moe": {**SHARED, **EXPERTS, **SOME, **GROUPED},
    "dots1": {**SHARED, **EXPERTS, **SOME, **GROUPED, "n_group": 1, "topk_group": 1},
    "qwen2_moe": {
        **SHARED,
        **EXPERTS,
        "num_key_value_heads": 2,
        "num_experts": 16,
        "shared_expert_intermediate_size": 320,
    },
    "olmoe": {**SHARED, **NARROW, "num_key_value_heads": 2, "num_experts": 16},
    "granitemoe": {**SHARED, **NARROW, "num_key_value_heads": 2, "num_local_experts": 8},
    "phimoe": {**SHARED, **NARROW, "num_key_value_heads": 2, "num_experts_per_tok": 2},
    "minimax_m2": {**SHARED, **NARROW, **GROUPED, **NO_TOKENS, "num_local_experts": 16},
    "llama4_text": {
        **SHARED,
        **NARROW,
        **GROUPED,
        "num_hidden_layers": 4,
        "intermediate_size_mlp": 320,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2,
        "pad_token_id": 0,
    },
    "qwen3_vl_moe": {
        "text_config": {
            **SHARED,
            **EXPERTS,
            **GROUPED,
            "num_experts": 16,
            "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "mrope_section": [8, 8, 8]},
        },
        "vision_config": {
            "depth": 1,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 256,
            "deepstack_visual_indexes": [0],
        },
    },
    "flex_olmo": {**SHARED, **NARROW, "num_key_value_heads": 2, "num_experts": 16, **PADS},
    "granitemoeshared": {
        **SHARED,
        **NARROW,
        "num_key_value_heads": 2,
        "num_local_experts": 8,
        "shared_intermediate_size": 320,
    },
    "hunyuan_v1_moe": {
        **SHARED,
        **NARROW,
        **GROUPED,
        **PADS,
        "num_experts": 16,
        "moe_topk": 4,
    },
    "ernie4_5_moe": {
        **SHARED,
        **EXPERTS,
        "num_key_value_heads": 2,
        "moe_num_experts": 16,
        "moe_k": 4,
        "moe_num_shared_experts": 2,
    },
}
OTHERS = (
    "qwen2_moe",
    "olmoe",
    "granitemoe",
    "minimax_m2",
    "ernie4_5_moe",
    "flex_olmo",
    "granitemoeshared",
    "hunyuan_v1_moe",
)
BF16 = {"precision": "bf16", "seq_len": 200}
FP32 = {"precision": "fp32", "checkpointing": True}
HEAD = {"head_reads": "model"}  # its class is its own base model
SEES = {"cls": "Qwen3VLMoeForConditionalGeneration"}  # and is given text alone
FULL = {"precision": "fp32", "seq_len": 200}
MIXED = {"precision": "bf16-mixed", "seq_len": 200}
AGAIN = {**MIXED, "checkpointing": True}
CASES = [
    *[("gpt_oss", {}, s) for s in (BF16, FP32, MIXED, AGAIN, {**BF16, "padded": True})],
    *[("mixtral", {}, s) for s in (BF16, AGAIN)],
    *[("deepseek_v2", GROUPS, s) for s in (BF16, FP32, MIXED, AGAIN)],
    *[("deepseek_v2", LITE, s) for s in (BF16, {**BF16, "attention": "eager"})],
    ("deepseek_v3", {}, {**BF16, "checkpointing": True}),
    *[("glm4_moe_lite", {}, s) for s in (BF16, AGAIN)],
    *[("glm4_moe", {"use_qk_norm": True}, s) for s in (BF16, FP32, MIXED)],
    ("glm4_moe", {}, AGAIN),
    *[("deepseek_v32", {}, s) for s in (BF16, FP32, MIXED, AGAIN, {**BF16, "padded": True})],
    *[("deepseek_v32", {}, BF16 | s) for s in ({"attention": "eager"}, {"batch_size": 1})],
    *[("glm_moe_dsa", HANDED_ON, s) for s in (BF16, FULL, AGAIN)],
    *[("phimoe", NOISY, s) for s in (BF16, FP32, MIXED, AGAIN)],
    *[("qwen3_vl_moe", {}, s | SEES) for s in (BF16, FULL, AGAIN)],
    *[("llama4_text", {}, s | HEAD) for s in (BF16, FP32, MIXED, AGAIN)],
    *[(name, {}, s) for name in OTHERS for s in (BF16, FULL, AGAIN)],
    *[("dots1", {}, s) for s in (BF16, FP32, AGAIN)],
]


@pytest.mark.parametrize(
    ("model_type", "more", "settings"),
    each(8, CASES),
    ids=[f"{name}-{'-'.join(map(str, s.values()))}-{i}" for i, (name, _, s) in enumerate(CASES)],
)
def test_saved_tensors_and_peaks_are_those_of_the_class(model_type, more, settings):
    config = CONFIGS[model_type] | more
    seen = real(model_type, config, **settings)
    mine = ours(model_type, config, **settings)
    assert differences(seen, mine, small=SMALL, close=CLOSE) == []


def test_adapters_beside_frozen_experts():
    peft = pytest.importorskip("peft")
    import torch

    names = ["q_proj", "v_proj"]

    def prepare(model):
        made = peft.LoraConfig(r=8, target_modules=names)
        return peft.get_peft_model(model.to(torch.bfloat16), made)

    seen = real("gpt_oss", GPT_OSS, prepare=prepare, **MIXED)
    mine = ours("gpt_oss", GPT_OSS, method="lora", lora_r=8, lora_targets=tuple(names), **MIXED)
    assert differences(seen, mine, small=SMALL, close=CLOSE) == []

"""Small configs of mixtures of experts, hybrids and state spaces, and what their variants change."""

BASE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LATENT = {
    **BASE,
    "num_key_value_heads": 6,
    "q_lora_rank": 20,
    "kv_lora_rank": 12,
    "qk_rope_head_dim": 6,
    "qk_nope_head_dim": 10,
    "v_head_dim": 14,
    "moe_intermediate_size": 20,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
INDEX = {**LATENT, "index_n_heads": 3, "index_head_dim": 10}
QWEN = {**BASE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 20}
SHARED = {**QWEN, "shared_expert_intermediate_size": 28}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
    "linear_conv_kernel_dim": 3,
    "head_dim": 16,
}
MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": "auto",
    "mamba_expand": 2,
    "mamba_d_state": 10,
    "mamba_n_groups": 2,
    "mamba_d_conv": 3,
}
SSM = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "state_size": 10,
    "conv_kernel": 3,
    "expand": 2,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NEMOTRON = {
    **BASE,
    "hybrid_override_pattern": "M-*E",
    "head_dim": 8,
    "n_routed_experts": 4,
    "moe_intermediate_size": 20,
    "moe_shared_expert_intermediate_size": 28,
    "mamba_num_heads": 8,
    "mamba_head_dim": 12,
    "ssm_state_size": 10,
    "n_groups": 2,
}
ZAMBA2 = {
    **BASE,
    "num_hidden_layers": 7,
    "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "mamba", "hybrid", "hybrid"],
    "num_mem_blocks": 2,
    "adapter_rank": 5,
    "n_mamba_heads": 8,
    "mamba_d_state": 10,
    "mamba_ngroups": 2,
}
V4 = {
    **{k: v for k, v in BASE.items() if k != "intermediate_size"},
    "head_dim": 16,
    "num_key_value_heads": 1,
    "q_lora_rank": 12,
    "o_lora_rank": 8,
    "o_groups": 2,
    "moe_intermediate_size": 20,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "index_n_heads": 2,
    "index_head_dim": 10,
    "num_hash_layers": 1,
    "compress_ratios": [0, 4, 128, 4],
}
KIMI = {
    **{k: v for k, v in LATENT.items() if k not in ("n_routed_experts", "n_shared_experts")},
    "num_experts": 4,
    "num_shared_experts": 1,
    "linear_attn_config": {
        "head_dim": 8,
        "num_heads": 3,
        "short_conv_kernel_size": 3,
        "full_attn_layers": [2, 4],
        "kda_layers": [1, 3],
    },
}
LFM2 = {**BASE, "layer_types": ["conv", "full_attention", "conv", "conv"], "conv_L_cache": 3}
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
BIAS, ODD = {"attention_bias": True}, {"hidden_size": 60, "vocab_size": 89}
NO_Q_RANK = {"q_lora_rank": None}
NONE, TWO = {"n_shared_experts": 0}, {"n_shared_experts": 2}
DENSE, SPARSE = {"first_k_dense_replace": 4}, {"first_k_dense_replace": 0}
MIXED = {"mlp_layer_types": ["sparse", "dense", "sparse", "dense"]}
WIDE = {"head_dim": 14}
USUAL = (TIED, UNTIED, ODD)
LATENTS = (*USUAL, BIAS, NONE, TWO)
FIRST = (DENSE, SPARSE)
STEPS = ({"decoder_sparse_step": 2}, {"mlp_only_layers": [0, 3]}, {"num_experts": 0})
MIXERS = (
    {"layer_types": [FULL, LINEAR, LINEAR, FULL]},
    {"layer_types": [LINEAR] * 4},
    {"full_attention_interval": 2},
)
NORMED = {"rms_norm_eps": 1e-6}
ROPES = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in (FULL, SLIDING)}
SOME_SLIDE = {"layer_types": [FULL, SLIDING, SLIDING, FULL]}
EXPERTS = {"num_local_experts": 3, "num_experts_per_tok": 2}

# model type: (stem of its classes, small config, what the variants change)
TYPES = {
    "mixtral": (
        "Mixtral",
        BASE | EXPERTS,
        (*USUAL, WIDE, {"num_local_experts": 1, "num_experts_per_tok": 1}),
    ),
    "phimoe": ("Phimoe", BASE | EXPERTS, (*USUAL, BIAS, {"lm_head_bias": True})),
    "minimax": (
        "MiniMax",
        BASE | EXPERTS | {"block_size": 8},
        (*USUAL, WIDE, MIXERS[0], MIXERS[1]),
    ),
    "minimax_m2": ("MiniMaxM2", BASE | EXPERTS | WIDE, (*USUAL, {"rotary_dim": 6})),
    "qwen2_moe": ("Qwen2Moe", SHARED, (*USUAL, *STEPS, {"qkv_bias": False})),
    "qwen3_moe": ("Qwen3Moe", QWEN | WIDE, (*USUAL, *STEPS, BIAS)),
    "qwen3_next": ("Qwen3Next", SHARED | DELTA, (*USUAL, *STEPS, *MIXERS, BIAS)),
    "qwen3_5_text": ("Qwen3_5", BASE | DELTA, (*USUAL, *MIXERS, BIAS)),
    "qwen3_5_moe_text": ("Qwen3_5Moe", SHARED | DELTA, (*USUAL, *MIXERS, BIAS)),
    "olmoe": ("Olmoe", QWEN, (*USUAL, BIAS)),
    "flex_olmo": ("FlexOlmo", QWEN, (*USUAL, BIAS)),
    "mellum": ("Mellum", QWEN | WIDE, (*USUAL, MIXED, {**SOME_SLIDE, "rope_parameters": ROPES})),
    "deepseek_v2": ("DeepseekV2", LATENT, (*LATENTS, *FIRST, NO_Q_RANK, {"mlp_bias": True})),
    "deepseek_v3": ("DeepseekV3", LATENT, (*LATENTS, *FIRST, NO_Q_RANK)),
    "deepseek_v32": ("DeepseekV32", INDEX, (*LATENTS, *FIRST, MIXED, {"num_experts": 3})),
    "glm4_moe_lite": ("Glm4MoeLite", LATENT, (*LATENTS, NO_Q_RANK, MIXED)),
    "glm_moe_dsa": (
        "GlmMoeDsa",
        INDEX,
        (
            *LATENTS,
            *FIRST,
            MIXED,
            {"index_topk_pattern": "FSSF"},
            {"index_topk_freq": 2},
            {"index_topk_freq": 2, "index_skip_topk_offset": 1},
            {"indexer_types": ["full", "shared", "shared", "full"]},
        ),
    ),
    "mistral4": ("Mistral4", LATENT, (*LATENTS, *FIRST, NO_Q_RANK)),
    "longcat_flash": (
        "LongcatFlash",
        {
            **{
                k: v
                for k, v in LATENT.items()
                if k not in ("num_hidden_layers", "intermediate_size")
            },
            "num_layers": 2,
            "ffn_hidden_size": 56,
            "expert_ffn_hidden_size": 20,
            "moe_topk": 2,
            "zero_expert_num": 0,
        },
        (*USUAL, BIAS, {"router_bias": True}, WIDE),
    ),
    "glm4_moe": ("Glm4Moe", LATENT | WIDE, (*LATENTS, *FIRST, {"use_qk_norm": True})),
    "dots1": ("Dots1", LATENT | WIDE, (*LATENTS, *FIRST)),
    "solar_open": ("SolarOpen", LATENT | WIDE, (*LATENTS,)),
    "exaone_moe": (
        "ExaoneMoe",
        QWEN | WIDE | {"num_shared_experts": 1},
        (*USUAL, *FIRST, MIXED, {"num_shared_experts": 2}),
    ),
    "kolibri1": ("Kolibri1", SHARED | WIDE, (*USUAL,)),
    "hy_v3": (
        "HYV3",
        QWEN | WIDE | {"num_shared_experts": 1},
        (*USUAL, BIAS, MIXED, {"num_shared_experts": 2}, {"mlp_bias": True}),
    ),
    "afmoe": (
        "Afmoe",
        QWEN | WIDE | {"num_shared_experts": 1},
        (*USUAL, BIAS, {"num_dense_layers": 2}, {"num_shared_experts": 0}),
    ),
    "cohere2_moe": (
        "Cohere2Moe",
        QWEN | WIDE,
        (
            *USUAL,
            BIAS,
            NORMED,
            MIXED,
            {"num_shared_experts": 2},
            {"first_k_dense_replace": 2, "prefix_dense_intermediate_size": 28},
        ),
    ),
    "ernie4_5_moe": (
        "Ernie4_5_Moe",
        {**BASE, "moe_num_experts": 4, "moe_intermediate_size": 20, "moe_k": 2},
        (
            *USUAL,
            {"use_bias": True},
            {"moe_num_shared_experts": 0},
            {"moe_layer_interval": 2},
            {"moe_layer_start_index": 0, "moe_layer_end_index": 2},
        ),
    ),
    "hunyuan_v1_moe": (
        "HunYuanMoEV1",
        {**BASE, "num_experts": 4, "moe_topk": 2} | WIDE,
        (*USUAL, BIAS, {"moe_topk": [1, 2, 3, 1]}),
    ),
    "mimo_v2_flash": (
        "MiMoV2Flash",
        {**BASE, "head_dim": 12, "v_head_dim": 8, "moe_intermediate_size": 20}
        | {"n_routed_experts": 4, "num_experts_per_tok": 2},
        (*USUAL, BIAS, MIXED, SOME_SLIDE),
    ),
    "laguna": (
        "Laguna",
        SHARED | WIDE,
        (
            *USUAL,
            BIAS,
            MIXED,
            SOME_SLIDE,
            {"gating": "per-element"},
            {"num_attention_heads_per_layer": [6, 4, 8, 6]},
        ),
    ),
    "gpt_oss": ("GptOss", BASE | EXPERTS | WIDE, (*USUAL, {"attention_bias": False})),
    "llama4_text": (
        "Llama4",
        BASE | EXPERTS | {"intermediate_size_mlp": 64},
        (*USUAL, WIDE, BIAS, {"interleave_moe_layer_step": 2}, {"moe_layers": [0, 3]}),
    ),
    "dbrx": (
        "Dbrx",
        {
            **{k: v for k, v in BASE.items() if k.endswith(("_id", "vocab_size"))},
            "d_model": 48,
            "n_heads": 6,
            "n_layers": 3,
            "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 4, "moe_top_k": 2},
        },
        (UNTIED, {"ffn_config": {"ffn_hidden_size": 28}}),
    ),
    "jetmoe": ("JetMoe", BASE | EXPERTS | {"kv_channels": 8}, USUAL),
    "mamba": ("Mamba", SSM, (*USUAL, {"use_bias": True}, {"time_step_rank": 5}, {"expand": 3})),
    "falcon_mamba": ("FalconMamba", SSM, (*USUAL, {"use_conv_bias": False})),
    "mamba2": (
        "Mamba2",
        SSM | {"num_heads": 8, "head_dim": 12, "n_groups": 2},
        (TIED, UNTIED, {"use_bias": True}, {"n_groups": 1}, {"use_conv_bias": False}),
    ),
    "jamba": (
        "Jamba",
        {**BASE, "num_experts": 4, "mamba_d_state": 10, "mamba_expand": 2}
        | {"attn_layer_period": 3, "attn_layer_offset": 1},
        (
            *USUAL,
            {"num_experts": 1},
            {"mamba_dt_rank": 5},
            {"mamba_proj_bias": True},
            {"expert_layer_period": 3, "expert_layer_offset": 0},
        ),
    ),
    "bamba": (
        "Bamba",
        BASE | MAMBA | {"attn_layer_indices": [1, 3]},
        (TIED, UNTIED, BIAS, {"mlp_bias": True, "mamba_proj_bias": True}),
    ),
    "falcon_h1": (
        "FalconH1",
        BASE | MAMBA | WIDE,
        (
            TIED,
            UNTIED,
            BIAS,
            {"mamba_d_ssm": 64},
            {"mamba_d_ssm": None},
            {"mamba_rms_norm": True, "projectors_bias": True, "mlp_bias": True},
        ),
    ),
    "granitemoe": ("GraniteMoe", BASE | EXPERTS, (*USUAL, BIAS)),
    "granitemoeshared": (
        "GraniteMoeShared",
        BASE | EXPERTS | {"shared_intermediate_size": 28},
        (*USUAL, BIAS, {"shared_intermediate_size": 0}),
    ),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        BASE | MAMBA | EXPERTS | {"shared_intermediate_size": 28},
        (
            TIED,
            UNTIED,
            BIAS,
            {"num_local_experts": 0},
            {"position_embedding_type": "rope"},
            {"layer_types": ["mamba", "attention", "mamba", "attention"]},
        ),
    ),
    "nemotron_h": (
        "NemotronH",
        NEMOTRON,
        (
            *USUAL,
            {"moe_latent_size": 16},
            {"moe_latent_size": None},
            {"mlp_bias": True, "use_bias": True},
            {"use_conv_bias": False},
            {"hybrid_override_pattern": "MEMEM*EMEMEM*"},
            {"hybrid_override_pattern": None, "layers_block_type": ["mamba", "moe", "attention"]},
        ),
    ),
    "zamba": (
        "Zamba",
        {**BASE, "num_hidden_layers": 7, "attn_layer_period": 2, "attn_layer_offset": 1}
        | {"n_mamba_heads": 2, "mamba_d_state": 10},
        (TIED, UNTIED, {"attention_hidden_size": 72}, {"mamba_proj_bias": True}),
    ),
    "zamba2": (
        "Zamba2",
        ZAMBA2,
        (
            TIED,
            UNTIED,
            {"use_shared_attention_adapter": True},
            {"num_mem_blocks": 1},
            {"add_bias_linear": True},
            {"use_mem_rope": True},
        ),
    ),
    "rwkv": (
        "Rwkv",
        {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3, "bos_token_id": 0},
        (TIED, UNTIED, {"attention_hidden_size": 40, "intermediate_size": 100}),
    ),
    "recurrent_gemma": (
        "RecurrentGemma",
        {**BASE, "num_hidden_layers": 5},
        (TIED, UNTIED, {"lru_width": 60}, BIAS, {"block_types": ["recurrent", "attention"]}),
    ),
    "lfm2": (
        "Lfm2",
        LFM2,
        (
            *USUAL,
            {"block_auto_adjust_ff_dim": False},
            {"block_multiple_of": 8, "block_ffn_dim_multiplier": 1.5},
            {"layer_types": None, "full_attn_idxs": [0, 2]},
            {"conv_bias": True},
        ),
    ),
    "lfm2_moe": (
        "Lfm2Moe",
        LFM2 | {"num_experts": 4, "moe_intermediate_size": 20},
        (TIED, UNTIED, {"num_dense_layers": 0}, {"use_expert_bias": False}, {"conv_bias": True}),
    ),
    "kimi_linear": (
        "KimiLinear",
        KIMI,
        (
            *USUAL,
            NO_Q_RANK,
            BIAS,
            {"first_k_dense_replace": 2},
            {"num_shared_experts": 2},
            {"linear_attn_config": {"head_dim": 6}},
            MIXED,
        ),
    ),
    "bailing_hybrid": (
        "BailingHybrid",
        {**KIMI, "head_dim": 8, "linear_attn_config": None},
        (*USUAL, BIAS, MIXED, {"layer_group_size": 2}),
    ),
}

V4_CHANGES = (
    {},
    {"hidden_size": 60, "vocab_size": 89},
    {"num_hash_layers": 0},
    {"compress_ratios": None},
    {"compress_rate_csa": 8, "compress_rate_hca": 64},
    {"hc_mult": 2},
)

# Language models that transformers has only inside a larger class: text config, keys of the whole,
# (prefix of the class's own text tensors under checkpoint names, ours).
INSIDE = {
    "minimax_m3_vl": (
        "MiniMaxM3SparseForConditionalGeneration",
        "minimax_m3_vl_text",
        BASE
        | EXPERTS
        | {"head_dim": 14, "dense_intermediate_size": 64, "shared_intermediate_size": 28},
        (
            {},
            BIAS,
            {"moe_layer_freq": [0, 1, 1, 0]},
            {
                "sparse_attention_config": {
                    "sparse_attention_freq": [0, 0, 1, 1],
                    "sparse_index_dim": 10,
                }
            },
            {"layer_types": ["minimax_m3_sparse"] * 4, "index_n_heads": 3},
        ),
        "language_model.model.",
    ),
    "step3p7": (
        "Step3p7ForConditionalGeneration",
        "step3p7_text",
        {**BASE, "pad_token_id": 0, "head_dim": 14, "moe_intermediate_size": 20}
        | {"share_expert_dim": 28}
        | {"n_routed_experts": 4, "num_experts_per_tok": 2},
        (
            {},
            BIAS,
            {"moe_layers_enum": "1,3"},
            {"mlp_bias": True},
            SOME_SLIDE | {"num_sliding_attention_heads": 8},
            SOME_SLIDE | {"attention_other_setting": {"num_attention_heads": 4}},
        ),
        "model.",
    ),
}

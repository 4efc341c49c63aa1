"""Small made-up configs of models that see and write, by what their language model is."""

from tests.torch.cases_towers import VISION_TOWER, VIT, Case

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "head_dim": 8,
}
QWEN2 = {**LLAMA, "model_type": "qwen2"}
CLIP_IN = {**VISION_TOWER, "model_type": "clip_vision_model"}
SIGLIP_IN = {**VIT, "model_type": "siglip_vision_model", "vision_use_head": False}
PIXTRAL = {**VIT, "model_type": "pixtral", "num_attention_heads": 2}
LLAVA = {"text_config": LLAMA, "vision_config": CLIP_IN}
PALI = {
    "text_config": {**LLAMA, "model_type": "gemma"},
    "vision_config": SIGLIP_IN,
    "projection_dim": 32,
}
GEMMA3 = {
    "text_config": {**LLAMA, "model_type": "gemma3_text"},
    "vision_config": {**SIGLIP_IN, "image_size": 128},
    "mm_tokens_per_image": 16,
}
INTERNVL_TOWER = {**VIT, "image_size": [32, 32], "patch_size": [8, 8]}
INTERNVL = {"text_config": QWEN2, "vision_config": INTERNVL_TOWER}
QWEN_TOWER = {
    "depth": 2,
    "num_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 40,
    "out_hidden_size": 32,
    "patch_size": 4,
}
QWEN2_TOWER = {**QWEN_TOWER, "embed_dim": 24, "mlp_ratio": 3}
QWEN3_TOWER = {
    **QWEN_TOWER,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}
SMALL = {k: v for k, v in LLAMA.items() if k != "model_type"}
MROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}}
QWEN_TEXT = {**SMALL, **MROPE}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
HYBRID = {
    **SMALL,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_hidden_layers": 4,
}
SHARED = {"shared_expert_intermediate_size": 20}

LLAVAS: list[Case] = [
    ("llava", "LlavaForConditionalGeneration", LLAVA),
    ("llava", "LlavaModel", LLAVA),
    (
        "llava",
        "LlavaForConditionalGeneration",
        {
            "text_config": {**LLAMA, "tie_word_embeddings": True},
            "vision_config": PIXTRAL,
            "vision_feature_layer": [-2, -1],
            "multimodal_projector_bias": False,
        },
    ),
    ("llava_next", "LlavaNextForConditionalGeneration", LLAVA),
    ("llava_next_video", "LlavaNextVideoForConditionalGeneration", LLAVA),
    (
        "llava_next_video",
        "LlavaNextVideoForConditionalGeneration",
        {**LLAVA, "spatial_pool_mode": "conv", "spatial_pool_stride": 2},
    ),
    (
        "llava_onevision",
        "LlavaOnevisionForConditionalGeneration",
        {"text_config": {**QWEN2, "tie_word_embeddings": True}, "vision_config": SIGLIP_IN},
    ),
    ("vipllava", "VipLlavaForConditionalGeneration", LLAVA),
    ("paligemma", "PaliGemmaForConditionalGeneration", PALI),
    ("paligemma", "PaliGemmaModel", PALI),
    ("gemma3", "Gemma3ForConditionalGeneration", GEMMA3),
    ("gemma3", "Gemma3ForSequenceClassification", GEMMA3),
    ("gemma3", "Gemma3Model", GEMMA3),
    (
        "mistral3",
        "Mistral3ForConditionalGeneration",
        {"text_config": {**LLAMA, "model_type": "mistral"}, "vision_config": PIXTRAL},
    ),
    ("pixtral", "PixtralVisionModel", PIXTRAL),
    (
        "aya_vision",
        "AyaVisionForConditionalGeneration",
        {
            "text_config": {**LLAMA, "model_type": "cohere2"},
            "vision_config": SIGLIP_IN,
            "alignment_intermediate_size": 28,
        },
    ),
    (
        "cohere2_vision",
        "Cohere2VisionForConditionalGeneration",
        {
            "text_config": {**LLAMA, "model_type": "cohere2"},
            "vision_config": SIGLIP_IN,
            "alignment_intermediate_size": 28,
        },
    ),
    ("internvl", "InternVLForConditionalGeneration", INTERNVL),
    (
        "internvl",
        "InternVLForConditionalGeneration",
        {
            "text_config": QWEN2,
            "vision_config": {
                **INTERNVL_TOWER,
                "use_qk_norm": True,
                "attention_bias": True,
                "norm_type": "rms_norm",
                "use_mean_pooling": False,
                "use_mask_token": True,
            },
            "downsample_ratio": 0.25,
            "tie_word_embeddings": False,
        },
    ),
    ("internvl_vision", "InternVLVisionModel", INTERNVL_TOWER),
]
QWENS: list[Case] = [
    (
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        {"text_config": QWEN_TEXT, "vision_config": QWEN2_TOWER},
    ),
    (
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        {**QWEN_TEXT, "vision_config": QWEN2_TOWER, "tie_word_embeddings": True},
    ),
    (
        "qwen2_5_vl",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": {**QWEN_TEXT, "tie_word_embeddings": True},
            "vision_config": {**QWEN_TOWER, "model_type": "qwen2_5_vl"},
        },
    ),
    (
        "qwen2_5_vl",
        "Qwen2_5_VLModel",
        {"text_config": QWEN_TEXT, "vision_config": QWEN_TOWER},
    ),
    (
        "qwen3_vl",
        "Qwen3VLForConditionalGeneration",
        {"text_config": QWEN_TEXT, "vision_config": QWEN3_TOWER},
    ),
    (
        "qwen3_vl",
        "Qwen3VLModel",
        {"text_config": QWEN_TEXT, "vision_config": QWEN3_TOWER},
    ),
    (
        "qwen3_vl",
        "Qwen3VLForConditionalGeneration",
        {"text_config": QWEN_TEXT, "vision_config": QWEN3_TOWER, "tie_word_embeddings": True},
    ),
    (
        "qwen3_vl_moe",
        "Qwen3VLMoeForConditionalGeneration",
        {"text_config": {**QWEN_TEXT, **EXPERTS}, "vision_config": QWEN3_TOWER},
    ),
    (
        "qwen3_5",
        "Qwen3_5ForConditionalGeneration",
        {"text_config": HYBRID, "vision_config": QWEN3_TOWER},
    ),
    (
        "qwen3_5_moe",
        "Qwen3_5MoeForConditionalGeneration",
        {"text_config": {**HYBRID, **EXPERTS, **SHARED}, "vision_config": QWEN3_TOWER},
    ),
]

IDEFICS2 = {
    "text_config": {**LLAMA, "model_type": "mistral"},
    "vision_config": VIT,
    "perceiver_config": {
        "resampler_n_latents": 3,
        "resampler_depth": 2,
        "resampler_n_heads": 4,
        "resampler_head_dim": 8,
        "num_key_value_heads": 2,
    },
}
IDEFICS3 = {"text_config": LLAMA, "vision_config": VIT}
MLLAMA_TEXT = {**SMALL, "pad_token_id": 0, "num_hidden_layers": 4, "cross_attention_layers": [1, 3]}
MLLAMA_VISION = {**VIT, "num_global_layers": 2, "vision_output_dim": 48, "attention_heads": 3}
MLLAMA = {"text_config": MLLAMA_TEXT, "vision_config": MLLAMA_VISION}
GEMMA4_TEXT = {
    **SMALL,
    "num_hidden_layers": 6,
    "hidden_size_per_layer_input": 4,
    "vocab_size_per_layer_input": 90,
    "global_head_dim": 16,
}
GEMMA4_UNIFIED_TEXT = {**SMALL, "num_hidden_layers": 6, "global_head_dim": 16}
GEMMA4_VISION = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "position_embedding_size": 50,
}
GEMMA4_AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "output_proj_dims": 20,
    "subsampling_conv_channels": [8, 4],
}
LLAMA4_TEXT = {
    **SMALL,
    "intermediate_size_mlp": 60,
    "num_local_experts": 4,
    "interleave_moe_layer_step": 2,
}
LLAMA4_VISION = {
    **VIT,
    "num_attention_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 128,
    "projector_input_dim": 32,
    "projector_output_dim": 32,
    "vision_output_dim": 32,
}

OTHERS: list[Case] = [
    ("idefics2", "Idefics2ForConditionalGeneration", IDEFICS2),
    ("idefics2", "Idefics2Model", IDEFICS2),
    ("idefics3", "Idefics3ForConditionalGeneration", IDEFICS3),
    ("idefics3", "Idefics3ForConditionalGeneration", {**IDEFICS3, "tie_word_embeddings": True}),
    ("smolvlm", "SmolVLMForConditionalGeneration", {**IDEFICS3, "scale_factor": 3}),
    ("mllama", "MllamaForConditionalGeneration", MLLAMA),
    (
        "mllama",
        "MllamaForConditionalGeneration",
        {**MLLAMA, "vision_config": {**MLLAMA_VISION, "supported_aspect_ratios": [[1, 1], [1, 2]]}},
    ),
    ("mllama_text_model", "MllamaForCausalLM", MLLAMA_TEXT),
    (
        "gemma4",
        "Gemma4ForConditionalGeneration",
        {
            "text_config": GEMMA4_TEXT,
            "vision_config": GEMMA4_VISION,
            "audio_config": GEMMA4_AUDIO,
        },
    ),
    (
        "gemma4",
        "Gemma4ForConditionalGeneration",
        {
            "text_config": {**GEMMA4_TEXT, "hidden_size_per_layer_input": 0},
            "vision_config": {**GEMMA4_VISION, "standardize": True, "use_clipped_linears": True},
        },
    ),
    ("gemma4", "Gemma4ForConditionalGeneration", {"text_config": GEMMA4_TEXT}),
    (
        "gemma4_unified",
        "Gemma4UnifiedForConditionalGeneration",
        {
            "text_config": GEMMA4_UNIFIED_TEXT,
            "vision_config": {
                "patch_size": 2,
                "pooling_kernel_size": 3,
                "mm_embed_dim": 24,
                "mm_posemb_size": 10,
                "output_proj_dims": 24,
            },
            "audio_config": {"audio_embed_dim": 20},
        },
    ),
    (
        "gemma4_unified",
        "Gemma4UnifiedForConditionalGeneration",
        {"text_config": GEMMA4_UNIFIED_TEXT},
    ),
    (
        "llama4",
        "Llama4ForConditionalGeneration",
        {"text_config": LLAMA4_TEXT, "vision_config": LLAMA4_VISION},
    ),
    (
        "llama4",
        "Llama4ForConditionalGeneration",
        {
            "text_config": {**LLAMA4_TEXT, "tie_word_embeddings": True},
            "vision_config": LLAMA4_VISION,
        },
    ),
]

GLM_TOWER = {
    "depth": 2,
    "num_heads": 2,
    "hidden_size": 24,
    "intermediate_size": 40,
    "out_hidden_size": 32,
    "patch_size": 4,
    "image_size": 16,
}
GLM_TEXT = {k: v for k, v in SMALL.items() if k != "head_dim"}
GLM_EXPERTS = {
    **GLM_TEXT,
    "moe_intermediate_size": 20,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
}
DEEPSEEK = {
    **GLM_TEXT,
    "num_hidden_layers": 3,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 20,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 12,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
}
MOON = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pos_emb_height": 5,
    "pos_emb_width": 6,
    "patch_size": 4,
}
MUSE_TEXT = {**SMALL, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
MUSE_TOWER = {"hidden_size": 24, "intermediate_size": 28, "num_hidden_layers": 2}
MUSE_TOWER |= {"num_attention_heads": 2, "patch_size": 4, "pos_emb_height": 6, "pos_emb_width": 5}
M3_TEXT = {**SMALL, "dense_intermediate_size": 44, "shared_intermediate_size": 28}
M3_TEXT |= {"num_local_experts": 4, "num_experts_per_tok": 2}
M3_TOWER = {"hidden_size": 24, "intermediate_size": 28, "num_hidden_layers": 2}
M3_TOWER |= {"num_attention_heads": 2, "patch_size": 4, "image_size": 16}
STEP_TEXT = {**SMALL, "n_routed_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0}
STEP_TEXT |= {"moe_intermediate_size": 20, "share_expert_dim": 28, "num_hidden_layers": 4}
STEP_TOWER = {"hidden_size": 24, "intermediate_size": 28, "num_hidden_layers": 2, "mlp_ratio": 2.5}
STEP_TOWER |= {"num_attention_heads": 2, "patch_size": 4, "image_size": 16}
NEWER: list[Case] = [
    (
        "glm4v",
        "Glm4vForConditionalGeneration",
        {"text_config": GLM_TEXT, "vision_config": GLM_TOWER},
    ),
    (
        "glm4v",
        "Glm4vModel",
        {"text_config": GLM_TEXT, "vision_config": {**GLM_TOWER, "attention_bias": True}},
    ),
    (
        "glm4v_moe",
        "Glm4vMoeForConditionalGeneration",
        {"text_config": GLM_EXPERTS, "vision_config": GLM_TOWER},
    ),
    (
        "glm46v",
        "Glm46VForConditionalGeneration",
        {
            "text_config": {**GLM_TEXT, "model_type": "glm4v_text"},
            "vision_config": {**GLM_TOWER, "model_type": "glm4v_vision"},
            "tie_word_embeddings": True,
        },
    ),
    (
        "kimi_k25",
        "Kimi_K25ForConditionalGeneration",
        {
            "text_config": {**DEEPSEEK, "model_type": "kimi_k2"},
            "vision_config": MOON,
            "projection_hidden_size": 32,
            "tie_word_embeddings": False,
        },
    ),
    (
        "muse_glimmer",
        "MuseGlimmerForConditionalGeneration",
        {
            "text_config": {**MUSE_TEXT, "model_type": "muse_glimmer_text"},
            "vision_config": {**MUSE_TOWER, "model_type": "muse_glimmer_vision"},
            "out_hidden_size": 96,
            "projector_hidden_size": 20,
        },
    ),
    (
        "minimax_m3_vl",
        "MiniMaxM3SparseForConditionalGeneration",
        {
            "text_config": {**M3_TEXT, "model_type": "minimax_m3_vl_text"},
            "vision_config": {**M3_TOWER, "model_type": "minimax_m3_vl_vision"},
            "projector_hidden_size": 20,
        },
    ),
    (
        "step3p7",
        "Step3p7ForConditionalGeneration",
        {
            "text_config": {**STEP_TEXT, "model_type": "step3p5"},
            "vision_config": {**STEP_TOWER, "model_type": "step3p5_vision"},
            "projector_bias": True,
        },
    ),
]

"""Small made-up configs, one or more of every model type and class with images or sound."""

from typing import Any

Case = tuple[str, str, dict[str, Any]]  # model type, class, config

VIT = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
}
TEXT_TOWER = {
    "hidden_size": 20,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 17,
    "projection_dim": 12,
}
VISION_TOWER = {**VIT, "projection_dim": 12}
PAIR = {"text_config": TEXT_TOWER, "vision_config": VISION_TOWER, "projection_dim": 12}
SIGLIP = {"text_config": {**TEXT_TOWER, "projection_size": 20}, "vision_config": VIT}
PIXELS = {k: v for k, v in VIT.items() if k != "image_size"} | {"num_patches": 25}
CHINESE = {**TEXT_TOWER, "type_vocab_size": 2}
SWIN = {
    "embed_dim": 12,
    "depths": [1, 2],
    "num_heads": [2, 3],
    "window_size": 4,
    "image_size": 32,
    "patch_size": 4,
}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 2]}
SEGFORMER = {
    "num_encoder_blocks": 2,
    "depths": [1, 2],
    "sr_ratios": [2, 1],
    "hidden_sizes": [8, 16],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [4, 3],
    "decoder_hidden_size": 32,
}
SAM = {
    "vision_config": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "global_attn_indexes": [1],
        "image_size": 64,
        "window_size": 2,
        "output_channels": 32,
    },
    "mask_decoder_config": {"num_hidden_layers": 1, "hidden_size": 32, "mlp_dim": 16},
    "prompt_encoder_config": {"hidden_size": 32, "image_embedding_size": 4, "image_size": 64},
}

LABELS = {"id2label": {"0": "a", "1": "b", "2": "c"}}

TOWERS: list[Case] = [
    ("vit", "ViTModel", VIT),
    ("vit", "ViTModel", {**VIT, "qkv_bias": False, "pooler_output_size": 7, "num_channels": 1}),
    ("vit", "ViTForImageClassification", {**VIT, **LABELS}),
    ("vit", "ViTForMaskedImageModeling", {**VIT, "encoder_stride": 8}),
    ("deit", "DeiTModel", VIT),
    ("deit", "DeiTForImageClassification", VIT),
    ("deit", "DeiTForImageClassificationWithTeacher", VIT),
    ("deit", "DeiTForMaskedImageModeling", VIT),
    ("beit", "BeitModel", VIT),
    ("beit", "BeitModel", {**VIT, "use_mean_pooling": False, "layer_scale_init_value": 0.0}),
    (
        "beit",
        "BeitForImageClassification",
        {
            **VIT,
            "use_mask_token": True,
            "use_absolute_position_embeddings": True,
            "use_relative_position_bias": True,
            "use_shared_relative_position_bias": True,
        },
    ),
    ("beit", "BeitForMaskedImageModeling", {**VIT, "vocab_size": 50}),
    ("dinov2", "Dinov2Model", {**VIT, "mlp_ratio": 3}),
    ("dinov2", "Dinov2Model", {**VIT, "use_swiglu_ffn": True, "use_mask_token": False}),
    ("dinov2", "Dinov2ForImageClassification", VIT),
    ("dinov2", "Dinov2Backbone", VIT),
    ("dinov2_with_registers", "Dinov2WithRegistersModel", {**VIT, "num_register_tokens": 2}),
    ("dinov2_with_registers", "Dinov2WithRegistersForImageClassification", VIT),
    ("dinov3_vit", "DINOv3ViTModel", {**VIT, "num_register_tokens": 4}),
    ("dinov3_vit", "DINOv3ViTModel", {**VIT, "use_gated_mlp": True, "key_bias": True}),
    ("dinov3_vit", "DINOv3ViTModel", {**VIT, "mlp_bias": False, "num_attention_heads": 4}),
    ("swin", "SwinModel", SWIN),
    ("swin", "SwinForImageClassification", {**SWIN, "use_absolute_embeddings": True}),
    ("swin", "SwinForMaskedImageModeling", {**SWIN, "qkv_bias": False, "mlp_ratio": 2.5}),
    ("donut-swin", "DonutSwinModel", SWIN),
    ("convnext", "ConvNextModel", {}),
    ("convnext", "ConvNextForImageClassification", {**STAGES, "num_stages": 2}),
    ("convnext", "ConvNextModel", {**STAGES, "num_stages": 2, "layer_scale_init_value": 0.0}),
    ("convnextv2", "ConvNextV2ForImageClassification", {**STAGES, "num_stages": 2}),
    ("resnet", "ResNetModel", {**STAGES, "embedding_size": 8}),
    ("resnet", "ResNetForImageClassification", {**STAGES, "layer_type": "basic"}),
    ("resnet", "ResNetBackbone", {**STAGES, "downsample_in_first_stage": True}),
    ("segformer", "SegformerModel", SEGFORMER),
    ("segformer", "SegformerForImageClassification", SEGFORMER),
    ("segformer", "SegformerForSemanticSegmentation", {**SEGFORMER, **LABELS}),
    ("sam", "SamModel", SAM),
    ("sam_vision_model", "SamVisionModel", SAM["vision_config"]),
    ("clip_text_model", "CLIPTextModel", TEXT_TOWER),
    ("clip_text_model", "CLIPTextModelWithProjection", TEXT_TOWER),
    ("clip_vision_model", "CLIPVisionModel", VISION_TOWER),
    ("clip_vision_model", "CLIPVisionModelWithProjection", VISION_TOWER),
    ("clip", "CLIPModel", PAIR),
    ("clip", "CLIPModel", {}),
    ("clip", "CLIPForImageClassification", {**PAIR, **LABELS}),
    ("chinese_clip_text_model", "ChineseCLIPTextModel", CHINESE),
    ("chinese_clip_vision_model", "ChineseCLIPVisionModel", VISION_TOWER),
    ("chinese_clip", "ChineseCLIPModel", {**PAIR, "text_config": CHINESE}),
    ("siglip_text_model", "SiglipTextModel", {**TEXT_TOWER, "projection_size": 9}),
    ("siglip_vision_model", "SiglipVisionModel", VIT),
    ("siglip_vision_model", "SiglipVisionModel", {**VIT, "vision_use_head": False}),
    ("siglip", "SiglipModel", SIGLIP),
    ("siglip", "SiglipForImageClassification", SIGLIP),
    ("siglip2_vision_model", "Siglip2VisionModel", PIXELS),
    ("siglip2", "Siglip2Model", {**SIGLIP, "vision_config": PIXELS}),
    ("siglip2", "Siglip2ForImageClassification", {**SIGLIP, "vision_config": PIXELS}),
]

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
]

EAR = {
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "num_mel_bins": 10,
    "max_source_positions": 12,
}
VOXTRAL_EAR = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "num_mel_bins": 10,
    "max_source_positions": 12,
}
CONFORMER = {
    "input_dim": 12,
    "num_layers": 2,
    "hidden_dim": 24,
    "num_heads": 3,
    "output_dim": 7,
    "context_size": 10,
    "max_pos_emb": 16,
}
QFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 28,
    "vocab_size": 50,
    "max_position_embeddings": 20,
}
BLIP_TEXT = {**TEXT_TOWER, "encoder_hidden_size": 24}
BLIP = {
    "text_config": BLIP_TEXT,
    "vision_config": VIT,
    "projection_dim": 12,
    "image_text_hidden_size": 14,
}
OPT = {
    "model_type": "opt",
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 101,
    "max_position_embeddings": 30,
    "word_embed_proj_dim": 32,
}
T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_ff": 48,
    "d_kv": 8,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 101,
}
BLIP2 = {
    "text_config": OPT,
    "vision_config": VIT,
    "qformer_config": QFORMER,
    "num_query_tokens": 3,
    "image_text_hidden_size": 14,
}

SOUND: list[Case] = [
    (
        "qwen2_audio",
        "Qwen2AudioForConditionalGeneration",
        {
            "text_config": QWEN2,
            "audio_config": {**EAR, "model_type": "qwen2_audio_encoder"},
        },
    ),
    ("qwen2_audio_encoder", "Qwen2AudioEncoder", EAR),
    (
        "voxtral",
        "VoxtralForConditionalGeneration",
        {
            "text_config": LLAMA,
            "audio_config": {**VOXTRAL_EAR, "model_type": "voxtral_encoder"},
        },
    ),
    (
        "granite_speech",
        "GraniteSpeechForConditionalGeneration",
        {
            "text_config": {**LLAMA, "model_type": "granite"},
            "encoder_config": CONFORMER,
            "projector_config": {
                **QFORMER,
                "model_type": "blip_2_qformer",
                "encoder_hidden_size": 24,
            },
        },
    ),
]
BLIPS: list[Case] = [
    ("blip", "BlipModel", BLIP),
    ("blip", "BlipForConditionalGeneration", BLIP),
    ("blip", "BlipForQuestionAnswering", BLIP),
    ("blip", "BlipForImageTextRetrieval", BLIP),
    (
        "blip",
        "BlipForConditionalGeneration",
        {**BLIP, "text_config": {**BLIP_TEXT, "tie_word_embeddings": False}},
    ),
    ("blip-2", "Blip2ForConditionalGeneration", BLIP2),
    ("blip-2", "Blip2Model", BLIP2),
    (
        "blip-2",
        "Blip2ForConditionalGeneration",
        {**BLIP2, "text_config": T5, "vision_config": {**VIT, "qkv_bias": False}},
    ),
    ("blip-2", "Blip2VisionModelWithProjection", BLIP2),
    (
        "blip-2",
        "Blip2TextModelWithProjection",
        {**BLIP2, "qformer_config": {**QFORMER, "use_qformer_text_input": True}},
    ),
    ("blip-2", "Blip2ForImageTextRetrieval", BLIP2),
    ("instructblip", "InstructBlipForConditionalGeneration", {**BLIP2, "text_config": LLAMA}),
    ("instructblip", "InstructBlipForConditionalGeneration", {**BLIP2, "text_config": T5}),
    ("instructblip", "InstructBlipModel", {**BLIP2, "text_config": LLAMA}),
]

KOSMOS = {
    "text_config": {
        "vocab_size": 50,
        "embed_dim": 32,
        "layers": 2,
        "ffn_dim": 48,
        "attention_heads": 4,
        "max_position_embeddings": 20,
    },
    "vision_config": VIT,
    "latent_query_num": 5,
}
BART = {
    "model_type": "bart",
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}
DAVIT = {
    "depths": [1, 2],
    "patch_size": [7, 3],
    "patch_stride": [4, 2],
    "patch_padding": [3, 1],
    "patch_prenorm": [False, True],
    "embed_dim": [8, 16],
    "num_heads": [2, 4],
    "num_groups": [2, 4],
    "projection_dim": 32,
}
ARIA_TEXT = {
    **SMALL,
    "moe_num_experts": 4,
    "moe_topk": 2,
    "moe_num_shared_experts": 2,
    "pad_token_id": 0,
}
AIM = {**VIT, "vocab_size": 40, "hidden_stride": 2}
PADDLE_TEXT = {**SMALL, **MROPE}

SMALLER: list[Case] = [
    ("git", "GitForCausalLM", {**TEXT_TOWER, "vision_config": VIT}),
    ("git", "GitModel", {**TEXT_TOWER, "vision_config": VIT}),
    (
        "git",
        "GitForCausalLM",
        {
            **TEXT_TOWER,
            "vision_config": VIT,
            "num_image_with_embedding": 2,
            "tie_word_embeddings": True,
        },
    ),
    ("kosmos-2", "Kosmos2ForConditionalGeneration", KOSMOS),
    ("kosmos-2", "Kosmos2Model", KOSMOS),
    (
        "fuyu",
        "FuyuForCausalLM",
        {
            "text_config": {
                **SMALL,
                "model_type": "persimmon",
                "qk_layernorm": True,
            },
            "patch_size": 4,
        },
    ),
    (
        "florence2",
        "Florence2ForConditionalGeneration",
        {"text_config": BART, "vision_config": DAVIT},
    ),
    (
        "aria",
        "AriaForConditionalGeneration",
        {
            "text_config": ARIA_TEXT,
            "vision_config": {**VIT, "model_type": "idefics3_vision"},
            "projector_patch_to_query_dict": {"16": 4, "64": 6},
        },
    ),
    (
        "ovis2",
        "Ovis2ForConditionalGeneration",
        {"text_config": QWEN2, "vision_config": AIM, "hidden_size": 32, "vocab_size": 101},
    ),
    (
        "paddleocr_vl",
        "PaddleOCRVLForConditionalGeneration",
        {"text_config": PADDLE_TEXT, "vision_config": {**VIT, "num_attention_heads": 2}},
    ),
    (
        "lfm2_vl",
        "Lfm2VlForConditionalGeneration",
        {
            "text_config": {
                **SMALL,
                "model_type": "lfm2",
                "layer_types": ["conv", "full_attention"],
                "block_auto_adjust_ff_dim": False,
            },
            "vision_config": {
                **PIXELS,
                "model_type": "siglip2_vision_model",
                "vision_use_head": False,
            },
            "projector_hidden_size": 28,
        },
    ),
    ("colpali", "ColPaliForRetrieval", {"vlm_config": {**PALI, "model_type": "paligemma"}}),
    (
        "colqwen2",
        "ColQwen2ForRetrieval",
        {
            "vlm_config": {
                "model_type": "qwen2_vl",
                "text_config": QWEN_TEXT,
                "vision_config": QWEN2_TOWER,
            },
            "embedding_dim": 16,
        },
    ),
]

PHI4 = {
    **SMALL,
    "pad_token_id": 0,
    "vision_config": {**VIT, "crop_size": 32},
    "audio_config": {
        "hidden_size": 24,
        "intermediate_size": 20,
        "num_blocks": 2,
        "num_attention_heads": 3,
        "input_size": 20,
        "ext_pw_out_channel": 24,
        "depthwise_separable_out_channel": 24,
        "bias_max_distance": 9,
        "nemo_conv_channels": 6,
    },
}
PHIS: list[Case] = [
    ("phi4_multimodal", "Phi4MultimodalForCausalLM", PHI4),
    ("phi4_multimodal", "Phi4MultimodalModel", PHI4),
    ("phi4_multimodal", "Phi4MultimodalForCausalLM", {**PHI4, "tie_word_embeddings": True}),
]

OMNI_EAR = {**EAR, "output_dim": 32}
OMNI_THINKER = {
    "text_config": QWEN_TEXT,
    "vision_config": QWEN_TOWER,
    "audio_config": OMNI_EAR,
}
TALKER = {**QWEN_TEXT, "embedding_size": 32, "hidden_size": 24, "vocab_size": 60}
VOICE = {
    "dit_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
        "emb_dim": 12,
        "num_embeds": 20,
        "mel_dim": 10,
        "enc_emb_dim": 6,
        "enc_dim": 7,
        "enc_channels": [16, 16, 24],
        "enc_kernel_sizes": [5, 3, 1],
        "enc_dilations": [1, 2, 1],
    },
    "bigvgan_config": {
        "mel_dim": 10,
        "upsample_initial_channel": 16,
        "upsample_rates": [5, 2],
        "upsample_kernel_sizes": [11, 4],
    },
}
OMNI = {"thinker_config": OMNI_THINKER, "talker_config": TALKER, "token2wav_config": VOICE}
OMNI3_THINKER = {
    "text_config": {**QWEN_TEXT, **EXPERTS},
    "vision_config": QWEN3_TOWER,
    "audio_config": {**OMNI_EAR, "downsample_hidden_size": 6},
}
OMNI3 = {
    "thinker_config": OMNI3_THINKER,
    "talker_config": {
        "thinker_hidden_size": 32,
        "spatial_merge_size": 2,
        "text_config": {**QWEN_TEXT, **EXPERTS, **SHARED},
        "code_predictor_config": {**SMALL, "num_code_groups": 3},
    },
    "code2wav_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 40,
        "codebook_size": 10,
        "num_quantizers": 3,
        "upsample_rates": [4, 2],
        "upsampling_ratios": [2],
        "decoder_dim": 16,
    },
}
OMNIS: list[Case] = [
    ("qwen2_5_omni_thinker", "Qwen2_5OmniThinkerForConditionalGeneration", OMNI_THINKER),
    ("qwen2_5_omni", "Qwen2_5OmniForConditionalGeneration", OMNI),
    ("qwen2_5_omni", "Qwen2_5OmniForConditionalGeneration", {**OMNI, "enable_audio_output": False}),
    ("qwen3_omni_moe_thinker", "Qwen3OmniMoeThinkerForConditionalGeneration", OMNI3_THINKER),
    ("qwen3_omni_moe", "Qwen3OmniMoeForConditionalGeneration", OMNI3),
]

ERNIE = {
    "text_config": {
        **GLM_TEXT,
        **MROPE,
        "num_hidden_layers": 3,
        "moe_intermediate_size": [20, 12],
        "moe_num_experts": 4,
        "moe_k": 2,
    },
    "vision_config": {
        "depth": 2,
        "hidden_size": 24,
        "num_heads": 2,
        "intermediate_size": 40,
        "patch_size": 4,
    },
}
IDEFICS = {
    **GLM_TEXT,
    "vision_config": {k: v for k, v in VIT.items() if k != "hidden_size"} | {"embed_dim": 24},
    "additional_vocab_size": 3,
    "cross_layer_interval": 1,
}
LAST: list[Case] = [
    ("ernie4_5_vl_moe", "Ernie4_5_VLMoeForConditionalGeneration", ERNIE),
    (
        "ernie4_5_vl_moe",
        "Ernie4_5_VLMoeForConditionalGeneration",
        {**ERNIE, "tie_word_embeddings": False},
    ),
    ("idefics", "IdeficsForVisionText2Text", IDEFICS),
    (
        "idefics",
        "IdeficsForVisionText2Text",
        {
            **IDEFICS,
            "tie_word_embeddings": True,
            "use_resampler": True,
            "qk_layer_norms": True,
            "alpha_type": "vector",
            "cross_layer_interval": 2,
            "perceiver_config": {
                "resampler_n_latents": 4,
                "resampler_depth": 2,
                "resampler_n_heads": 2,
                "resampler_head_dim": 6,
                "qk_layer_norms_perceiver": True,
            },
        },
    ),
]

CODES = {
    "base_channels": 32,
    "channel_multiplier": [1, 2, 2],
    "num_res_blocks": 2,
    "embed_dim": 16,
    "latent_channels": 16,
    "num_embeddings": 20,
}
IMAGE_WORD = {"vocabulary_map": {"<image>": 1}}
CHAMELEON = {**GLM_TEXT, **IMAGE_WORD, "vq_config": CODES}
JANUS = {
    "text_config": LLAMA,
    "vision_config": {**VIT, "projection_dim": 32, "num_attention_heads": 2},
    "vq_config": {**CODES, "projection_dim": 32, "image_token_embed_dim": 32},
}
EMU3 = {
    **IMAGE_WORD,
    "text_config": {**GLM_TEXT, "pad_token_id": 0},
    "vq_config": {
        "base_channels": 32,
        "channel_multiplier": [1, 2],
        "num_res_blocks": 2,
        "attn_resolutions": [1],
        "hidden_size": 64,
        "codebook_size": 20,
    },
}
DRAWING: list[Case] = [
    ("chameleon", "ChameleonForConditionalGeneration", CHAMELEON),
    ("chameleon", "ChameleonModel", CHAMELEON),
    (
        "chameleon",
        "ChameleonForConditionalGeneration",
        {
            **CHAMELEON,
            "swin_norm": True,
            "attention_bias": True,
            "vq_config": {**CODES, "attn_resolutions": [256], "double_latent": True},
        },
    ),
    ("janus", "JanusForConditionalGeneration", JANUS),
    ("janus", "JanusModel", JANUS),
    ("emu3", "Emu3ForConditionalGeneration", EMU3),
]

CASES = [
    *TOWERS,
    *LLAVAS,
    *QWENS,
    *OTHERS,
    *NEWER,
    *SOUND,
    *BLIPS,
    *SMALLER,
    *PHIS,
    *OMNIS,
    *LAST,
    *DRAWING,
]

"""Published parameter counts of models that see or hear, with the decisive keys of their configs.

The counts are `safetensors.total` of the models' pages on the Hugging Face Hub, or the total size
of their index over the size of an element, where every stored element is a parameter.
"""

KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)


def text(model_type, *sizes, **more):
    return {"model_type": model_type, **dict(zip(KEYS, sizes, strict=True)), **more}


def tower(model_type, *sizes, **more):
    names = (*KEYS[:4], "image_size", "patch_size")
    return {"model_type": model_type, **dict(zip(names, sizes, strict=True)), **more}


CLIP_L = tower("clip_vision_model", 1024, 4096, 24, 16, 336, 14)
SO400M = tower("siglip_vision_model", 1152, 4304, 27, 16, 384, 14, vision_use_head=False)
INTERN_300M = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
    "norm_type": "layer_norm",
    "qkv_bias": True,
    "qk_normalization": False,
}
PIXTRAL = tower("pixtral", 1024, 4096, 24, 16, 1540, 14)
QWEN2_TOWER = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}
QWEN2_5_TOWER = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420}
QWEN3_TOWER = {"depth": 27, "hidden_size": 1152, "num_heads": 16, "intermediate_size": 4304}
SMALL_QWEN3_TOWER = {"depth": 24, "hidden_size": 1024, "num_heads": 16, "intermediate_size": 4096}
VICUNA_7B = text("llama", 4096, 11008, 32, 32, 32, 32064)
VICUNA_13B = text("llama", 5120, 13824, 40, 40, 40, 32064)
MISTRAL = text("mistral", 4096, 14336, 32, 32, 8, 32064)
LLAMA3 = text("llama", 4096, 14336, 32, 32, 8, 128256)
QWEN2_0_5B = text("qwen2", 896, 4864, 24, 14, 2, 152000, tie_word_embeddings=True)
QWEN2_7B = text("qwen2", 3584, 18944, 28, 28, 4, 152064)
GEMMA_2B = text("gemma", 2048, 16384, 18, 8, 1, 257216, head_dim=256)
LLAVA = "LlavaForConditionalGeneration"
NEXT = "LlavaNextForConditionalGeneration"


def qwen_vl(model_type, out, vision, language, **more):
    width = "hidden_size" if model_type == "qwen2_vl" else "out_hidden_size"
    return {"text_config": language, "vision_config": {**vision, width: out}, **more}


DEEPSEEK_OCR = {
    "hidden_size": 1280,
    "intermediate_size": 6848,
    "moe_intermediate_size": 896,
    "num_hidden_layers": 12,
    "num_attention_heads": 10,
    "num_key_value_heads": 10,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "kv_lora_rank": None,
    "q_lora_rank": None,
    "qk_nope_head_dim": 0,
    "qk_rope_head_dim": 0,
    "v_head_dim": 0,
    "use_mla": False,
    "vocab_size": 129280,
}

# model: (model type, class, config, parameters)
PUBLISHED = {
    "openai/clip-vit-large-patch14": (
        "clip",
        "CLIPModel",
        {
            "projection_dim": 768,
            "text_config": text(
                "clip_text_model", 768, 3072, 12, 12, 12, 49408, max_position_embeddings=77
            ),
            "vision_config": tower("clip_vision_model", 1024, 4096, 24, 16, 224, 14),
        },
        427_616_513,
    ),
    "google/vit-base-patch16-224": (
        "vit",
        "ViTForImageClassification",
        {"num_labels": 1000},
        86_567_656,
    ),
    "microsoft/resnet-50": (
        "resnet",
        "ResNetForImageClassification",
        {"num_labels": 1000},
        25_557_032,
    ),
    "facebook/sam-vit-huge": (
        "sam",
        "SamModel",
        {
            "vision_config": {
                "hidden_size": 1280,
                "num_hidden_layers": 32,
                "num_attention_heads": 16,
                "mlp_dim": 5120,
                "global_attn_indexes": [7, 15, 23, 31],
                "num_pos_feats": 128,
            }
        },
        641_090_608 + 256,  # the authors keep the random matrix of positions as a buffer
    ),
    "llava-hf/llava-1.5-13b-hf": (
        "llava",
        LLAVA,
        {"text_config": VICUNA_13B, "vision_config": CLIP_L},
        13_351_494_656,
    ),
    "llava-hf/bakLlava-v1-hf": (
        "llava",
        LLAVA,
        {"text_config": MISTRAL, "vision_config": CLIP_L},
        7_566_743_552,
    ),
    "llava-hf/llava-v1.6-vicuna-7b-hf": (
        "llava_next",
        NEXT,
        {"text_config": VICUNA_7B, "vision_config": CLIP_L},
        7_063_431_168,
    ),
    "llava-hf/llava-v1.6-mistral-7b-hf": (
        "llava_next",
        NEXT,
        {"text_config": MISTRAL, "vision_config": CLIP_L},
        7_566_747_648,
    ),
    "llava-hf/llama3-llava-next-8b-hf": (
        "llava_next",
        NEXT,
        {"text_config": {**LLAMA3, "vocab_size": 128320}, "vision_config": CLIP_L},
        8_355_276_800,
    ),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": (
        "llava_onevision",
        "LlavaOnevisionForConditionalGeneration",
        {
            "text_config": {**QWEN2_7B, "vocab_size": 152128},
            "vision_config": {**SO400M, "num_hidden_layers": 26},
        },
        8_030_807_584,
    ),
    "liuhaotian/llava-v1.5-7b": (
        "llava",
        "LlavaLlamaForCausalLM",
        {**text("llava", 4096, 11008, 32, 32, 32, 32000), "mm_hidden_size": 1024}
        | {"mm_projector_type": "mlp2x_gelu"},
        6_759_395_328,
    ),
    "google/paligemma-3b-mix-224": (
        "paligemma",
        "PaliGemmaForConditionalGeneration",
        {"text_config": GEMMA_2B, "vision_config": {**SO400M, "image_size": 224}},
        2_923_466_480,
    ),
    "google/gemma-3-12b-it": (
        "gemma3",
        "Gemma3ForConditionalGeneration",
        {
            "text_config": text("gemma3_text", 3840, 15360, 48, 16, 8, 262208, head_dim=256),
            "vision_config": {**SO400M, "image_size": 896},
        },
        12_187_325_040,
    ),
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": (
        "mistral3",
        "Mistral3ForConditionalGeneration",
        {
            "text_config": text("mistral", 5120, 32768, 40, 32, 8, 131072, head_dim=128),
            "vision_config": PIXTRAL,
            "tie_word_embeddings": False,
        },
        24_011_361_280,
    ),
    "mistral-community/pixtral-12b": (
        "llava",
        LLAVA,
        {
            "text_config": text("mistral", 5120, 14336, 40, 32, 8, 131072, head_dim=128),
            "vision_config": {**PIXTRAL, "image_size": 1024, "patch_size": 16},
        },
        12_682_739_712,
    ),
    "CohereLabs/aya-vision-8b": (
        "aya_vision",
        "AyaVisionForConditionalGeneration",
        {
            "text_config": text("cohere2", 4096, 14336, 32, 32, 8, 256000),
            "vision_config": {**SO400M, "image_size": 364},
            "alignment_intermediate_size": 28672,
        },
        8_631_842_032,
    ),
    "HuggingFaceTB/SmolVLM-256M-Instruct": (
        "idefics3",
        "Idefics3ForConditionalGeneration",
        {
            "text_config": text("llama", 576, 1536, 30, 9, 3, 49280),
            "vision_config": tower("idefics3", 768, 3072, 12, 12, 512, 16),
            "scale_factor": 4,
        },
        256_484_928,
    ),
    "HuggingFaceM4/idefics2-8b": (
        "idefics2",
        "Idefics2ForConditionalGeneration",
        {
            "text_config": {**MISTRAL, "vocab_size": 32003},
            "vision_config": tower("idefics2", 1152, 4304, 27, 16, 980, 14),
            "perceiver_config": {"resampler_n_latents": 64},
        },
        8_402_768_112,
    ),
    "meta-llama/Llama-3.2-11B-Vision": (
        "mllama",
        "MllamaForConditionalGeneration",
        {
            "text_config": text("mllama_text_model", 4096, 14336, 40, 32, 8, 128256),
            "vision_config": {"image_size": 448},
        },
        10_642_941_475,
    ),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": (
        "llama4",
        "Llama4ForConditionalGeneration",
        {
            "text_config": {"num_local_experts": 16, "vocab_size": 202048},
            "vision_config": {
                "hidden_size": 1408,
                "image_size": 336,
                "vision_output_dim": 4096,
            },
        },
        108_641_793_536,
    ),
    "Qwen/Qwen2-VL-2B-Instruct": (
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        {
            **text("qwen2_vl", 1536, 8960, 28, 12, 2, 151936),
            "vision_config": {**QWEN2_TOWER, "hidden_size": 1536},
            "tie_word_embeddings": True,
        },
        2_208_985_600,
    ),
    "Qwen/Qwen2-VL-72B-Instruct": (
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        {
            **text("qwen2_vl", 8192, 29568, 80, 64, 8, 152064),
            "vision_config": {**QWEN2_TOWER, "hidden_size": 8192},
        },
        73_405_560_320,
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": (
        "qwen2_5_vl",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": text("qwen2_5_vl_text", 2048, 11008, 36, 16, 2, 151936),
            "vision_config": {**QWEN2_5_TOWER, "out_hidden_size": 2048},
            "tie_word_embeddings": True,
        },
        3_754_622_976,
    ),
    "Qwen/Qwen3-VL-2B-Instruct": (
        "qwen3_vl",
        "Qwen3VLForConditionalGeneration",
        {
            "text_config": text("qwen3_vl_text", 2048, 6144, 28, 16, 8, 151936, head_dim=128),
            "vision_config": {
                **SMALL_QWEN3_TOWER,
                "out_hidden_size": 2048,
                "deepstack_visual_indexes": [5, 11, 17],
            },
            "tie_word_embeddings": True,
        },
        2_127_532_032,
    ),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": (
        "qwen3_vl_moe",
        "Qwen3VLMoeForConditionalGeneration",
        {
            "text_config": text(
                "qwen3_vl_moe_text",
                2048,
                6144,
                48,
                32,
                4,
                151936,
                head_dim=128,
                num_experts=128,
                num_experts_per_tok=8,
                moe_intermediate_size=768,
            ),
            "vision_config": {**QWEN3_TOWER, "out_hidden_size": 2048},
        },
        31_070_754_032,
    ),
    "OpenGVLab/InternVL2_5-1B": (
        "internvl_chat",
        "InternVLChatModel",
        {
            "llm_config": text("qwen2", 896, 4864, 24, 14, 2, 151674),
            "vision_config": INTERN_300M,
            "downsample_ratio": 0.5,
        },
        938_193_024,
    ),
    "OpenGVLab/InternVL3-8B-hf": (
        "internvl",
        "InternVLForConditionalGeneration",
        {
            "text_config": {**QWEN2_7B, "vocab_size": 151674},
            "vision_config": {"attention_bias": True},
            "tie_word_embeddings": False,
        },
        7_944_373_760,
    ),
    "zai-org/GLM-4.1V-9B-Thinking": ("glm4v", "Glm4vForConditionalGeneration", {}, 10_292_777_472),
    "microsoft/Phi-4-multimodal-instruct": (
        "phi4mm",
        "Phi4MMForCausalLM",
        {
            **text("phi4mm", 3072, 8192, 32, 24, 8, 200064),
            "tie_word_embeddings": True,
            "vision_lora": {"r": 256},
            "speech_lora": {"r": 320},
            "audio_processor": {
                "config": {"relative_attention_bias_args": {"t5_bias_max_distance": 500}}
            },
        },
        5_574_460_384 - 2 * 80,  # stored: mean and spread of 80 mel bins
    ),
    "mistralai/Voxtral-Mini-3B-2507": (
        "voxtral",
        "VoxtralForConditionalGeneration",
        {
            "text_config": text("llama", 3072, 8192, 30, 32, 8, 131072, head_dim=128),
            "audio_config": {"model_type": "voxtral_encoder"},
        },
        4_676_271_104,
    ),
    "Salesforce/blip2-opt-2.7b": (
        "blip-2",
        "Blip2ForConditionalGeneration",
        {
            "text_config": {
                "model_type": "opt",
                "hidden_size": 2560,
                "ffn_dim": 10240,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "word_embed_proj_dim": 2560,
                "vocab_size": 50304,
            },
            "qformer_config": {"vocab_size": 30522},
        },
        3_744_761_856,
    ),
    "adept/fuyu-8b": (
        "fuyu",
        "FuyuForCausalLM",
        {
            "text_config": text("persimmon", 4096, 16384, 36, 64, 64, 262144, qk_layernorm=True),
        },
        9_408_238_592,
    ),
    "rhymes-ai/Aria": (
        "aria",
        "AriaForConditionalGeneration",
        {
            "text_config": text(
                "aria_text",
                2560,
                1664,
                28,
                20,
                20,
                100352,
                moe_num_experts=64,
                moe_topk=6,
                moe_num_shared_experts=2,
            ),
            "vision_config": tower("idefics3_vision", 1152, 4304, 27, 16, 980, 14),
        },
        25_307_311_216,
    ),
    "facebook/chameleon-7b": ("chameleon", "ChameleonForConditionalGeneration", {}, 7_043_090_432),
    "allenai/Molmo-7B-D-0924": (
        "molmo",
        "MolmoForCausalLM",
        {
            **text("molmo", 3584, 37888, 28, 28, 4, 152064),
            "embedding_size": 152064,
            "qkv_bias": True,
        },
        8_021_025_280,
    ),
    "openbmb/MiniCPM-V-2_6": (
        "minicpmv",
        "MiniCPMV",
        {
            **text("minicpmv", 3584, 18944, 28, 28, 4, 151666),
            "version": 2.6,
            "query_num": 64,
            "drop_vision_last_layer": False,
            "vision_config": tower("siglip", 1152, 4304, 27, 16, 980, 14),
        },
        8_099_175_152,
    ),
    "deepseek-ai/deepseek-vl2-tiny": (
        "deepseek_vl_v2",
        "DeepseekVLV2ForCausalLM",
        {
            "language_config": DEEPSEEK_OCR,
            "vision_config": {"width": 1152, "layers": 27, "mlp_ratio": 3.7362},
            "projector_config": {"input_dim": 1152, "n_embed": 1280},
        },
        3_370_501_440,
    ),
    "deepseek-ai/DeepSeek-OCR": (
        "deepseek_vl_v2",
        "DeepseekOCRForCausalLM",
        {
            "language_config": DEEPSEEK_OCR,
            "projector_config": {"input_dim": 2048, "n_embed": 1280},
        },
        3_336_106_240,
    ),
    "deepseek-ai/DeepSeek-OCR-2": (
        "deepseek_vl_v2",
        "DeepseekOCR2ForCausalLM",
        {
            "language_config": DEEPSEEK_OCR,
            "projector_config": {"input_dim": 896, "n_embed": 1280},
        },
        3_389_119_360,
    ),
    "florence-community/Florence-2-base": (
        "florence2",
        "Florence2ForConditionalGeneration",
        {
            "text_config": {
                "model_type": "bart",
                "d_model": 768,
                "encoder_layers": 6,
                "decoder_layers": 6,
                "encoder_ffn_dim": 3072,
                "decoder_ffn_dim": 3072,
                "encoder_attention_heads": 12,
                "decoder_attention_heads": 12,
                "vocab_size": 51328,
                "max_position_embeddings": 1024,
            },
            "vision_config": {"projection_dim": 768},
        },
        231_546_368 - 100 * 1024,  # stored: the cosines of 100 frames
    ),
    "google/gemma-3n-E4B-it": (
        "gemma3n",
        "Gemma3nForConditionalGeneration",
        {},
        # stored: k_proj, v_proj and k_norm of the 15 layers that use those of others
        7_849_978_192 - 15 * (2 * 512 * 2048 + 256),
    ),
    "PaddlePaddle/PaddleOCR-VL": (
        "paddleocr_vl",
        "PaddleOCRVLForConditionalGeneration",
        {"text_config": {"tie_word_embeddings": False}, "tie_word_embeddings": False},
        # stored: the pooling head of SigLIP and the positions of packed patches
        958_588_736 - 15_238_352 - 32_768 * 1152,
    ),
}

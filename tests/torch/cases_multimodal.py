"""Small made-up configs of everything else that sees or hears, and all cases together."""

from tests.torch.cases_towers import PIXELS, TEXT_TOWER, TOWERS, VIT, Case
from tests.torch.cases_vision import (
    EXPERTS,
    GLM_TEXT,
    LLAMA,
    LLAVAS,
    MROPE,
    NEWER,
    OTHERS,
    PALI,
    QWEN2,
    QWEN2_TOWER,
    QWEN3_TOWER,
    QWEN_TEXT,
    QWEN_TOWER,
    QWENS,
    SHARED,
    SMALL,
)

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
TALKER3_TEXT = {**QWEN_TEXT, **EXPERTS, **SHARED}
OMNI3 = {
    "thinker_config": OMNI3_THINKER,
    "talker_config": {
        "thinker_hidden_size": 32,
        "spatial_merge_size": 2,
        "text_config": TALKER3_TEXT,
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
OMNI3_RENAMED = {  # as transformers 5 writes it
    **OMNI3,
    "talker_config": {
        **OMNI3["talker_config"],
        "text_config": {
            "num_local_experts" if k == "num_experts" else k: v for k, v in TALKER3_TEXT.items()
        },
    },
}
OMNIS: list[Case] = [
    ("qwen2_5_omni_thinker", "Qwen2_5OmniThinkerForConditionalGeneration", OMNI_THINKER),
    ("qwen2_5_omni", "Qwen2_5OmniForConditionalGeneration", OMNI),
    ("qwen2_5_omni", "Qwen2_5OmniForConditionalGeneration", {**OMNI, "enable_audio_output": False}),
    ("qwen3_omni_moe_thinker", "Qwen3OmniMoeThinkerForConditionalGeneration", OMNI3_THINKER),
    ("qwen3_omni_moe", "Qwen3OmniMoeForConditionalGeneration", OMNI3),
    ("qwen3_omni_moe", "Qwen3OmniMoeForConditionalGeneration", OMNI3_RENAMED),
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

TIMM: list[Case] = [  # the class takes its tower from timm
    (
        "gemma3n",
        "Gemma3nForConditionalGeneration",
        {
            "text_config": {
                **SMALL,
                "num_hidden_layers": 5,
                "intermediate_size": [48] * 5,
                "layer_types": ["sliding_attention", "full_attention"] * 2 + ["full_attention"],
                "activation_sparsity_pattern": [0.0] * 5,
                "vocab_size_per_layer_input": 90,
                "hidden_size_per_layer_input": 4,
                "laurel_rank": 4,
                "num_kv_shared_layers": 2,
            },
            "audio_config": {
                "hidden_size": 32,
                "conf_num_attention_heads": 4,
                "conf_num_hidden_layers": 2,
                "input_feat_size": 20,
                "vocab_size": 8,
            },
            "vision_config": {"vocab_size": 9},
        },
    ),
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
    *TIMM,
]

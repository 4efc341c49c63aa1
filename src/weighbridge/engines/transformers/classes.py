"""Model types that transformers has come to know since 4.30, by release; those of 4.30 have no row.

Nor has qwen2_moe, which no wheel before 4.40 has: its makers' published runs name 4.38.2.
Types have none either whose repositories brought code of their own (auto_map), which every release
runs and our catalogue does not keep: deepseek_v3, falcon, kimi_k25, minimax_m2, nemotron_h, phi3
and others. Nor have towers of larger models: their parents come with their own classes.
Source: wheels of transformers 4.30 to 5.23, the first and the last of each minor release, models/
auto/configuration_auto.py and auto_mappings.py (CONFIG_MAPPING_NAMES).
"""

from weighbridge.engines.model_classes import Known

KNOWS: tuple[Known, ...] = (
    Known(
        (4, 31),
        (4, 30, 2),
        "encodec instructblip umt5",
    ),
    Known(
        (4, 32),
        (4, 31, 0),
        "idefics",
    ),
    Known(
        (4, 34),
        (4, 33, 3),
        "mistral persimmon",
    ),
    Known(
        (4, 35),
        (4, 34, 1),
        "fuyu kosmos-2 seamless_m4t",
    ),
    Known(
        (4, 36),
        (4, 35, 2),
        "llava mixtral seamless_m4t_v2",
    ),
    Known(
        (4, 37),
        (4, 36, 2),
        "qwen2 vipllava",
    ),
    Known(
        (4, 38),
        (4, 37, 2),
        "gemma",
    ),
    Known(
        (4, 39),
        (4, 38, 2),
        "llava_next mamba starcoder2 udop",
    ),
    Known(
        (4, 40),
        (4, 39, 3),
        "idefics2 olmo recurrent_gemma",
    ),
    Known(
        (4, 41),
        (4, 40, 2),
        "jetmoe paligemma",
    ),
    Known(
        (4, 42),
        (4, 41, 2),
        "gemma2",
    ),
    Known(
        (4, 43),
        (4, 42, 4),
        "chameleon",
    ),
    Known(
        (4, 44),
        (4, 43, 4),
        "mamba2 nemotron",
    ),
    Known(
        (4, 45),
        (4, 44, 2),
        "dac falcon_mamba granite granitemoe llava_next_video mimi mllama olmoe pixtral qwen2_vl",
    ),
    Known(
        (4, 46),
        (4, 45, 2),
        "glm idefics3 zamba",
    ),
    Known(
        (4, 47),
        (4, 46, 3),
        "olmo2",
    ),
    Known(
        (4, 48),
        (4, 47, 1),
        "aria bamba cohere2 colpali diffllama emu3 modernbert",
    ),
    Known(
        (4, 49),
        (4, 48, 3),
        "granitemoeshared helium qwen2_5_vl zamba2",
    ),
    Known(
        (4, 50),
        (4, 49, 0),
        "gemma3 gemma3_text mistral3 smolvlm",
    ),
    Known(
        (4, 51),
        (4, 50, 3),
        "llama4 phi4_multimodal qwen3 qwen3_moe",
    ),
    Known(
        (4, 51, 3),
        (4, 51, 0),
        "glm4",
    ),
    Known(
        (4, 52),
        (4, 51, 3),
        "bitnet granite_speech granitemoehybrid internvl janus qwen2_5_omni",
    ),
    Known(
        (4, 53),
        (4, 52, 4),
        "arcee colqwen2 dots1 falcon_h1 gemma3n glm4v minimax smollm3",
    ),
    Known(
        (4, 54),
        (4, 53, 3),
        "exaone4 glm4_moe lfm2 voxtral",
    ),
    Known(
        (4, 55),
        (4, 54, 1),
        "gpt_oss",
    ),
    Known(
        (4, 56),
        (4, 55, 4),
        "apertus florence2 glm4v_moe hunyuan_v1_dense ovis2 seed_oss",
    ),
    Known(
        (4, 57),
        (4, 56, 2),
        "flex_olmo lfm2_vl longcat_flash ministral olmo3 qwen3_next qwen3_omni_moe qwen3_vl "
        "qwen3_vl_moe vaultgemma",
    ),
    Known(
        (5, 0),
        (4, 57, 6),
        "afmoe cwm ernie4_5_vl_moe glm46v glm4_moe_lite jais2 lfm2_moe ministral3 nanochat "
        "paddleocr_vl solar_open",
    ),
    Known(
        (5, 1),
        (5, 0, 0),
        "exaone_moe youtu",
    ),
    Known(
        (5, 2),
        (5, 1, 0),
        "glm_moe_dsa qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text",
    ),
    Known(
        (5, 3),
        (5, 2, 0),
        "olmo_hybrid",
    ),
    Known(
        (5, 4),
        (5, 3, 0),
        "mistral4",
    ),
    Known(
        (5, 5),
        (5, 4, 0),
        "gemma4",
    ),
    Known(
        (5, 6),
        (5, 5, 4),
        "hy_v3",
    ),
    Known(
        (5, 7),
        (5, 6, 2),
        "laguna",
    ),
    Known(
        (5, 8),
        (5, 7, 0),
        "deepseek_v4",
    ),
    Known(
        (5, 9),
        (5, 8, 1),
        "cohere2_moe hyperclovax",
    ),
    Known(
        (5, 10),
        (5, 9, 0),
        "gemma4_unified mellum",
    ),
    Known(
        (5, 11),
        (5, 10, 4),
        "deepseek_v32",
    ),
    Known(
        (5, 12),
        (5, 11, 0),
        "minimax_m3_vl",
    ),
    Known(
        (5, 13),
        (5, 12, 1),
        "mimo_v2_flash minicpm3",
    ),
    Known(
        (5, 15),
        (5, 14, 1),
        "granite_swa",
    ),
    Known(
        (5, 16),
        (5, 15, 1),
        "step3p5 step3p7",
    ),
    Known(
        (5, 17),
        (5, 16, 1),
        "kimi_linear",
    ),
    Known(
        (5, 20),
        (5, 19, 0),
        "bailing_hybrid kolibri1 molmo2",
    ),
    Known(
        (5, 20, 2),
        (5, 20, 0),
        "beam",
    ),
    Known(
        (5, 23),
        (5, 22, 2),
        "internlm3 iquestcoder",
    ),
)
# Model types of text whose attention no server can put its own in: modeling_*.py of 5.23 without
# _supports_attention_backend, which vLLM and SGLang ask for before they run a class of it.
ALONE = (
    "bailing_hybrid bamba bart big_bird biogpt blenderbot blenderbot-small blip bloom codegen "
    "deberta deberta-v2 falcon falcon_h1 falcon_mamba florence2 fsmt funnel git gpt_neo "
    "gpt_neox_japanese gptj jamba janus kimi_linear layoutlm led longformer longt5 m2m_100 "
    "mamba mamba2 marian mbart mpnet mpt mt5 nemotron_h openai-gpt pegasus prophetnet qwen3_5 "
    "qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_next roformer rwkv seamless_m4t "
    "seamless_m4t_v2 speech_to_text squeezebert stablelm switch_transformers t5 umt5 unispeech "
    "unispeech-sat wav2vec2 wav2vec2-conformer whisper xglm xlm xlnet zamba zamba2"
)

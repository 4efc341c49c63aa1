"""Model types that transformers has come to know since 4.30, by release; those of 4.30 have no row.

Nor has qwen2_moe, which no wheel before 4.40 has: its makers' published runs name 4.38.2.
Towers of larger models have none either: their parents come with their own classes.
Source: wheels of transformers 4.30 to 5.23, one of each minor release, models/auto/
configuration_auto.py and auto_mappings.py (CONFIG_MAPPING_NAMES).
"""

from weighbridge.engines.knows import Known

KNOWS: tuple[Known, ...] = (
    Known(
        (4, 31),
        (4, 30),
        "encodec falcon instructblip umt5",
    ),
    Known(
        (4, 32),
        (4, 31),
        "idefics mpt",
    ),
    Known(
        (4, 34),
        (4, 33),
        "mistral persimmon",
    ),
    Known(
        (4, 35),
        (4, 34),
        "fuyu kosmos-2 seamless_m4t",
    ),
    Known(
        (4, 36),
        (4, 35),
        "llava mixtral phi seamless_m4t_v2",
    ),
    Known(
        (4, 37),
        (4, 36),
        "qwen2 vipllava",
    ),
    Known(
        (4, 38),
        (4, 37),
        "gemma stablelm",
    ),
    Known(
        (4, 39),
        (4, 38),
        "cohere llava_next mamba starcoder2 udop",
    ),
    Known(
        (4, 40),
        (4, 39),
        "dbrx idefics2 jamba olmo recurrent_gemma",
    ),
    Known(
        (4, 41),
        (4, 40),
        "jetmoe paligemma phi3",
    ),
    Known(
        (4, 42),
        (4, 41),
        "gemma2",
    ),
    Known(
        (4, 43),
        (4, 42),
        "chameleon",
    ),
    Known(
        (4, 44),
        (4, 43),
        "mamba2 nemotron",
    ),
    Known(
        (4, 45),
        (4, 44),
        "dac falcon_mamba granite granitemoe llava_next_video mimi mllama olmoe pixtral qwen2_vl",
    ),
    Known(
        (4, 46),
        (4, 45),
        "glm idefics3 phimoe zamba",
    ),
    Known(
        (4, 47),
        (4, 46),
        "olmo2",
    ),
    Known(
        (4, 48),
        (4, 47),
        "aria bamba cohere2 colpali diffllama emu3 modernbert",
    ),
    Known(
        (4, 49),
        (4, 48),
        "granitemoeshared helium qwen2_5_vl zamba2",
    ),
    Known(
        (4, 50),
        (4, 49),
        "gemma3 gemma3_text mistral3 smolvlm",
    ),
    Known(
        (4, 51),
        (4, 50),
        "deepseek_v3 llama4 phi4_multimodal qwen3 qwen3_moe",
    ),
    Known(
        (4, 52),
        (4, 51),
        "bitnet glm4 granite_speech granitemoehybrid internvl janus qwen2_5_omni",
    ),
    Known(
        (4, 53),
        (4, 52),
        "arcee colqwen2 dots1 falcon_h1 gemma3n glm4v minimax smollm3",
    ),
    Known(
        (4, 54),
        (4, 53),
        "deepseek_v2 ernie4_5 ernie4_5_moe exaone4 glm4_moe lfm2 voxtral",
    ),
    Known(
        (4, 55),
        (4, 54),
        "gpt_oss",
    ),
    Known(
        (4, 56),
        (4, 55),
        "apertus florence2 glm4v_moe hunyuan_v1_dense hunyuan_v1_moe ovis2 seed_oss",
    ),
    Known(
        (4, 57),
        (4, 56),
        "flex_olmo lfm2_vl longcat_flash ministral olmo3 qwen3_next qwen3_omni_moe qwen3_vl "
        "qwen3_vl_moe vaultgemma",
    ),
    Known(
        (5, 0),
        (4, 57),
        "afmoe cwm ernie4_5_vl_moe glm46v glm4_moe_lite jais2 lfm2_moe minimax_m2 ministral3 "
        "nanochat paddleocr_vl solar_open",
    ),
    Known(
        (5, 1),
        (5, 0),
        "exaone_moe youtu",
    ),
    Known(
        (5, 2),
        (5, 1),
        "glm_moe_dsa qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text",
    ),
    Known(
        (5, 3),
        (5, 2),
        "nemotron_h olmo_hybrid",
    ),
    Known(
        (5, 4),
        (5, 3),
        "mistral4",
    ),
    Known(
        (5, 5),
        (5, 4),
        "gemma4 nomic_bert",
    ),
    Known(
        (5, 6),
        (5, 5),
        "hy_v3",
    ),
    Known(
        (5, 7),
        (5, 6),
        "laguna",
    ),
    Known(
        (5, 8),
        (5, 7),
        "deepseek_v4",
    ),
    Known(
        (5, 9),
        (5, 8),
        "cohere2_moe hyperclovax",
    ),
    Known(
        (5, 10),
        (5, 9),
        "gemma4_unified mellum",
    ),
    Known(
        (5, 11),
        (5, 10),
        "deepseek_v32",
    ),
    Known(
        (5, 12),
        (5, 11),
        "minimax_m3_vl",
    ),
    Known(
        (5, 13),
        (5, 12),
        "kimi_k25 mimo_v2_flash minicpm3",
    ),
    Known(
        (5, 15),
        (5, 14),
        "granite_swa",
    ),
    Known(
        (5, 16),
        (5, 15),
        "step3p5 step3p7",
    ),
    Known(
        (5, 17),
        (5, 16),
        "kimi_linear",
    ),
    Known(
        (5, 20),
        (5, 19),
        "bailing_hybrid kolibri1 molmo2",
    ),
    Known(
        (5, 21),
        (5, 20),
        "beam",
    ),
    Known(
        (5, 23),
        (5, 22),
        "internlm3 iquestcoder",
    ),
)

"""Architectures that Ollama has come to know since 0.6, by release; those of 0.6 have no row, nor
have those that came with llama.cpp's own server (0.30).

Source: github.com/ollama/ollama, every tag v0.6.0 to v0.24.0: llama/llama.cpp/src/llama-arch.cpp
and model.Register of model/models/ (gpt-oss is registered as gptoss). No row: mistral3,
granitehybrid and nemotron_h_moe, whose models may also be files of llama, granite and nemotron_h.
"""

from weighbridge.engines.model_classes import Known

KNOWS: tuple[Known, ...] = (
    Known(
        (0, 6, 6),
        (0, 6, 5),
        "glm4 llama4 plm qwen3 qwen3moe",
    ),
    Known(
        (0, 6, 8),
        (0, 6, 7),
        "nomic-bert-moe",
    ),
    Known(
        (0, 9, 3),
        (0, 9, 2),
        "gemma3n",
    ),
    Known(
        (0, 11),
        (0, 10, 1),
        "gpt-oss",
    ),
    Known(
        (0, 11, 5),
        (0, 11, 4),
        "arcee dots1 dream ernie4_5 ernie4_5-moe exaone4 falcon-h1 glm4moe hunyuan-dense "
        "hunyuan-moe jamba lfm2 llada mamba2 neo-bert plamo2 smallthinker smollm3",
    ),
    Known(
        (0, 12, 4),
        (0, 12, 3),
        "gemma-embedding grovemoe jina-bert-v3 llada-moe nemotron_h seed_oss",
    ),
    Known(
        (0, 12, 6),
        (0, 12, 5),
        "apertus lfm2moe",
    ),
    Known(
        (0, 12, 7),
        (0, 12, 6),
        "qwen3vl qwen3vlmoe",
    ),
    Known(
        (0, 12, 11),
        (0, 12, 10),
        "bailingmoe2",
    ),
    Known(
        (0, 13),
        (0, 12, 11),
        "deepseekocr",
    ),
    Known(
        (0, 13, 2),
        (0, 13, 1),
        "afmoe cogvlm minimax-m2 pangu-embedded qwen3next rnd1",
    ),
    Known(
        (0, 13, 4),
        (0, 13, 3),
        "olmo3",
    ),
    Known(
        (0, 14, 3),
        (0, 14, 2),
        "glm4moelite",
    ),
    Known(
        (0, 17, 1),
        (0, 17, 0),
        "qwen35 qwen35moe",
    ),
    Known(
        (0, 20),
        (0, 19, 0),
        "gemma4",
    ),
    Known(
        (0, 22),
        (0, 21, 2),
        "laguna nemotron_h_omni",
    ),
)

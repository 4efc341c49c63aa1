"""Architectures that llama.cpp has come to know since b4905, by build; those of b4905 have no row,
nor have those since b7437, whose builds were not read.

Source: src/llama-arch.cpp of the builds that Ollama 0.6 to 0.13.5 took in (engines/ollama/rules.py
has their numbers), so that a row lies between two of them; gpt-oss: pull request 15091. No row:
granitehybrid, whose models without recurrent layers are converted to granite.
"""

from weighbridge.engines.model_classes import Known

KNOWS: tuple[Known, ...] = (
    Known(
        (5122,),
        (4905,),
        "glm4 llama4 plm qwen3 qwen3moe",
    ),
    Known(
        (5230,),
        (5180,),
        "nomic-bert-moe",
    ),
    Known(
        (6096,),
        (6095,),
        "gpt-oss",
    ),
    Known(
        (6150,),
        (5354,),
        "arcee dots1 dream ernie4_5 ernie4_5-moe exaone4 falcon-h1 gemma3n glm4moe "
        "hunyuan-dense hunyuan-moe jamba lfm2 llada mamba2 neo-bert plamo2 smallthinker smollm3",
    ),
    Known(
        (6646,),
        (6150,),
        "gemma-embedding grovemoe jina-bert-v3 llada-moe nemotron_h seed_oss",
    ),
    Known(
        (6753,),
        (6646,),
        "apertus lfm2moe",
    ),
    Known(
        (6840,),
        (6753,),
        "bailingmoe2",
    ),
    Known(
        (7340,),
        (6840,),
        "afmoe cogvlm minimax-m2 pangu-embedded qwen3next qwen3vl qwen3vlmoe rnd1",
    ),
)

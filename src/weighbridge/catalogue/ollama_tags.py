"""Tags of Ollama's library that are models of the catalogue, and the format of their files.

Those alone whose file is as large as ours in a format, within 4 %: of most tags that is Q4_K_M, of
those of before 2025 Q4_0, and of small models 16 or 8 bits. (qwen3:0.6b and 1.7b are larger, for
they store the head that is tied; granite4:3b is by 5 %.)

Source: src/ollama_models.py of github.com/Jeffser/Alpaca at 1ddb62fe5946 (2026), which lists
ollama.com/library with sizes; of tags with a format: README.md of github.com/QwenLM/Qwen3.
"""

from collections.abc import Iterator
from functools import cache

USUAL = "Q4_K_M"

TAGS = """
all-minilm           22m 33m
aya                  8b
bge-large            335m
bge-m3               567m
codellama            7b 13b 34b
dbrx                 132b
deepseek-r1          8b 70b 14b 32b 7b 671b
deepseek-v2          16b 236b
deepseek-v3          671b
deepseek-v3.1        671b
devstral             24b
devstral-2           123b
falcon               40b 180b
gemma                7b
gemma2               2b 9b 27b
gemma3               12b 1b 27b 4b
gemma3n              e2b e4b
gemma4               26b 31b e2b e4b
glm-4.7-flash        q4_K_M
glm4                 9b
gpt-oss              20b 120b
granite3.3           8b
granite4             3b
llama2               7b 13b 70b
llama3               8b 70b
llama3.1             405b 70b 8b
llama3.2             3b 1b
llama3.3             70b
llama4               128x17b 16x17b
magistral            24b
mistral              7b
mistral-large        123b
mistral-nemo         12b
mistral-small        24b
mistral-small3.1     24b
mistral-small3.2     24b
mixtral              8x7b 8x22b
nemotron-3-nano      30b
nomic-embed-text     v1.5
olmo-3               32b 7b
olmo2                13b 7b
phi                  2.7b
phi3                 3.8b
phi3.5               3.8b
phi4                 14b
phi4-mini            3.8b
qwen2                0.5b 1.5b 7b
qwen2.5              0.5b 1.5b 14b 32b 3b 72b 7b
qwen2.5-coder        0.5b 1.5b 14b 32b 3b 7b
qwen2.5vl            7b
qwen3                235b 30b 4b 0.6b 1.7b 14b 32b 8b 4b-q4_K_M 30b-a3b-q4_K_M 235b-a22b-q4_K_M
qwen3-coder          30b 480b
qwen3-coder-next     q4_K_M
qwen3-next           80b
qwen3-vl             235b 2b 30b 32b 4b 8b
qwen3.5              122b 27b 35b 9b
qwen3.6              27b 35b
qwq                  32b
smollm               135m 360m 1.7b
smollm2              135m 360m 1.7b
starcoder            15b
starcoder2           3b 7b 15b
tinyllama            1.1b
yi                   6b 34b
"""

# Models whose tags are in another format
FORMATS = """
Q4_0  aya-23-8b codellama-13b codellama-34b codellama-7b dbrx deepseek-v2 deepseek-v2-lite
Q4_0  falcon-180b falcon-40b gemma-2-27b gemma-2-2b gemma-2-9b gemma-7b glm-4-9b llama-2-13b
Q4_0  llama-2-70b llama-2-7b llama-3-70b llama-3-8b mistral-7b-v0.1 mistral-nemo-12b mixtral-8x22b
Q4_0  mixtral-8x7b phi-2 phi-3-mini phi-3.5-mini qwen2-0.5b qwen2-1.5b qwen2-7b smollm-1.7b
Q4_0  smollm-135m smollm-360m starcoder starcoder2-15b starcoder2-3b starcoder2-7b tinyllama-1.1b
Q4_0  deepseek-coder-v2-236b deepseek-coder-v2-lite vicuna-13b vicuna-7b yi-34b yi-6b zephyr-7b
Q8_0  llama-3.2-1b smollm2-1.7b
F16   bge-large-en-v1.5 bge-m3
F16   all-minilm-l12-v2 all-minilm-l6-v2 nomic-embed-text-v1.5 smollm2-135m smollm2-360m
"""


def tags() -> Iterator[str]:
    for line in TAGS.strip().splitlines():
        name, *sizes = line.split()
        yield from (f"{name}:{size}" for size in sizes)


def format_of(name: str) -> str:
    """Our name of the format that the tags of an entry of the catalogue, or of a tune, are in."""
    return _formats().get(name, USUAL)


@cache
def _formats() -> dict[str, str]:
    rows = (line.split() for line in FORMATS.strip().splitlines())
    return {name: form for form, *names in rows for name in names}

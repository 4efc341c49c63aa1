"""Tags of Ollama's library that are models of the catalogue, and the format of their files.

Those alone whose file is as large as ours in a format, within 4 %: of most tags that is Q4_K_M, of
those of before 2025 Q4_0, and of small models 16 or 8 bits. (qwen3:0.6b and 1.7b are larger, for
they store the head that is tied; granite4:3b is by 5 %.)

Source: src/ollama_models.py of github.com/Jeffser/Alpaca at 1ddb62fe5946 (2026), which lists
ollama.com/library with sizes; of tags with a format: README.md of github.com/QwenLM/Qwen3.
"""

from collections.abc import Iterator
from functools import cache

from weighbridge.base.parsed import text_beside

USUAL = "Q4_K_M"

TAGS = text_beside(__file__, "ollama_tags.txt")

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

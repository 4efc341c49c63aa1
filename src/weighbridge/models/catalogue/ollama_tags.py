"""Tags of Ollama's library that are models of the catalogue, and the format of their files.

Those alone whose file is as large as ours in a format, within 4 %: of most tags that is Q4_K_M, of
those of before 2025 Q4_0, and of small models 16 or 8 bits. (qwen3:0.6b and 1.7b are larger, for
they store the head that is tied; granite4:3b is by 5 %.)

Source: src/ollama_models.py of github.com/Jeffser/Alpaca at 1ddb62fe5946 (2026), which lists
ollama.com/library with sizes; of tags with a format: README.md of github.com/QwenLM/Qwen3.
"""

from collections.abc import Iterator
from functools import cache

from weighbridge.base.parsed import lines_beside, text_beside

USUAL = "Q4_K_M"

TAGS = text_beside(__file__, "ollama_tags.txt")

# Models whose tags have another format
FORMATS = lines_beside(__file__, "ollama_formats.txt")


def tags() -> Iterator[str]:
    for line in TAGS.strip().splitlines():
        name, *sizes = line.split()
        yield from (f"{name}:{size}" for size in sizes)


def format_of(name: str) -> str:
    """Return the weight format of Ollama's default tag for catalogue entry or tune `name`."""
    return _formats().get(name, USUAL)


@cache
def _formats() -> dict[str, str]:
    rows = map(str.split, FORMATS)
    return {name: form for form, *names in rows for name in names}

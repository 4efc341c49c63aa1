"""Tags of Ollama's library that are models of the catalogue: `tag_of("qwen3-8b")` is qwen3:8b.

Those alone whose file is as large as ours in the format that the tag is sized in: many tags of
before 2024 are Q4_0 (llama2, codellama, mixtral), and some of small models Q8_0 or F16.

Source: src/ollama_models.py of github.com/Jeffser/Alpaca at d1577de0d9bd (June 2026), which lists
ollama.com/library with sizes; of tags with a format: README.md of github.com/QwenLM/Qwen3.
"""

from collections.abc import Iterator
from functools import cache

from weighbridge.catalogue import CatalogueEntry, everyday, tunes

TAGS = """
deepseek-r1          8b 70b 14b 32b 7b 671b
deepseek-v3          671b
deepseek-v3.1        671b
devstral             24b
devstral-2           123b
gemma3               12b 1b 27b 4b
gemma3n              e2b e4b
gemma4               26b 31b
glm-4.7-flash        q4_K_M
gpt-oss              20b 120b
granite3.3           8b
granite4             3b
llama3.1             405b 70b 8b
llama3.2             3b
llama3.3             70b
llama4               128x17b 16x17b
magistral            24b
mistral              7b
mistral-large        123b
mistral-small        24b
mistral-small3.1     24b
mistral-small3.2     24b
nemotron-3-nano      30b
olmo-3               32b 7b
olmo2                13b 7b
phi4                 14b
phi4-mini            3.8b
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
"""


def tag_of(name: str) -> str:
    """Return the tag that is the model of an everyday name; "" where none is known to be, or where
    the name itself says a format."""
    known = everyday.meaning(name)
    return _by_model().get(_model(known.entry), "") if known and not known.quantization else ""


@cache
def _by_model() -> dict[str, str]:
    """The first tag of each model."""
    found: dict[str, str] = {}
    for tag in tags():
        known = everyday.meaning(tag)
        assert known is not None, tag
        found.setdefault(_model(known.entry), tag)
    return found


def tags() -> Iterator[str]:
    for line in TAGS.strip().splitlines():
        name, *sizes = line.split()
        yield from (f"{name}:{size}" for size in sizes)


def _model(entry: CatalogueEntry) -> str:
    """What two names of one model have in common: a tune's repository, else the entry's name, which
    a base and its instructed version share."""
    tuned = any(tune.repo_id == entry.repo_id for tune in tunes.TUNES.values())
    return entry.repo_id if tuned else entry.name

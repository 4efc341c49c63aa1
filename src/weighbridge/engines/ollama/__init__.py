"""Ollama: llama.cpp with flags that Ollama chooses, through its llama-server since 0.30.

rules.py    builds by release, and defaults      effective.py      from a question to that launch
formats.py  weight formats that it reads         classes.txt       architectures that it supports
library.py  tags of its library                  layer_formula.py  placement to 0.12.10
infer.py    the answer, and what `ollama ps` shows
dialect.py  variables and `ollama run`           launching.py      the line to paste
"""

from weighbridge.engines.engine import Engine
from weighbridge.engines.llama_cpp import ENGINE as LLAMA_CPP

ENGINE = Engine(
    name="ollama",
    title="Ollama",
    package=__name__,
    oldest=(0, 6),
    newest=(0, 33),
    named=r"[^/:]+:[^/:]+",
    reads="gguf",
    usual="Q4_K_M",
    quantizes=True,
    snippet=r"\bollama(?:\.exe)?\s+(?:run|serve)\b",
    formats=LLAMA_CPP.formats,
    drafts=False,
    sizes_by_card=True,
    trains="trainless",
    small_cache={"kv_cache_dtype": "q8_0"},
    least_cache={"kv_cache_dtype": "q4_0"},
    peers=LLAMA_CPP.peers,
    logged=LLAMA_CPP.logged,
)

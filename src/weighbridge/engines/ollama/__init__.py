"""Ollama, since 0.30: llama.cpp's llama-server, launched with flags of Ollama's choosing.

rules.py     builds by release, and defaults     setting.py    from a question to that launch
shown.py     what `ollama ps` shows              infer.py      the answer
dialect.py   variables and `ollama run`          launching.py  the line to paste
"""

from weighbridge.engines.engine import Engine

ENGINE = Engine(
    name="ollama",
    title="Ollama",
    package=__name__,
    oldest=(0, 30),
    newest=(0, 33),
    reads="gguf",
    usual="Q4_K_M",
    snippet=r"\bollama(?:\.exe)?\s+(?:run|serve)\b",
    also=(
        *("n_gpu_layers", "n_batch", "parallel", "flash_attn", "split_mode", "main_gpu"),
        *("no_mmap", "mmproj"),
    ),
)

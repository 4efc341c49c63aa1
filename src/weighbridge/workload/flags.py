"""Settings as the user types them on a command line."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from weighbridge.engines.llama_cpp.settings import Ggml
from weighbridge.engines.table import record

# Settings that have the same flag in llama.cpp and here
OF_GGML = (
    *(Ggml.n_gpu_layers, Ggml.n_cpu_moe, Ggml.override_tensor),
    *(Ggml.cache_type_k, Ggml.cache_type_v),
    *(Ggml.split_mode, Ggml.tensor_split, Ggml.main_gpu),
)
SHELL = re.compile(r"[\s|&;<>()$`*?'\"\\~!#]")  # characters that a shell interprets
SHORT = {setting.name: setting.written for setting in OF_GGML}


def flags(change: Mapping[str, Any], engine: str) -> str:
    """Return changed settings as command-line flags: the engine's own if weighbridge accepts them
    too, else weighbridge's."""
    return " ".join(_flag(name, value, engine) for name, value in change.items())


def _flag(name: str, value: Any, engine: str) -> str:
    flag = SHORT.get(name) or f"--{name.replace('_', '-')}"
    if name == "context":
        flag = record(engine).length or flag
    if value is True:
        return flag
    if value is None:
        return f"{flag} left out"
    if value is False:
        return f"--no-{flag.removeprefix('--')}"
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag} {shlex.quote(text) if SHELL.search(text) else text}"

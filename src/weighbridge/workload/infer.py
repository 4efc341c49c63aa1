"""Settings of serving, of all engines."""

from weighbridge.engines.ik_llama_cpp.settings import IkLlamaCpp
from weighbridge.engines.llama_cpp.settings import LlamaCpp
from weighbridge.engines.mlx.settings import Mlx
from weighbridge.engines.ollama.settings import Ollama
from weighbridge.engines.sglang.settings import Sglang
from weighbridge.engines.transformers.settings import Transformers
from weighbridge.engines.vllm.settings import Vllm
from weighbridge.settings.setting import Str, Switch, switch, word


class Infer(Transformers, Vllm, Sglang, LlamaCpp, IkLlamaCpp, Mlx, Ollama):
    """Serving: the requests, and how an engine is launched. An engine takes its own settings, and
    refuses those of others."""

    # Not a setting: a launch command was given, and what it does not say the engine decides
    engine_defaults: Switch = switch()
    unmodelled: Str = word()  # ... and of its flags, those that no rule has: engines/ignorance.py

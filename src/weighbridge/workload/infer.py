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
    """Serving: the requests, and how an engine is launched. An engine takes its own settings and
    refuses those of other engines."""

    # Not a setting: with a launch command, the engine's defaults apply to what it leaves out
    engine_defaults: Switch = switch()
    unmodelled: Str = word()  # flags of that command that no rule models: engines/ignorance.py

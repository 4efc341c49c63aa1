"""Objects that stand for what is typed: arguments of vLLM, configs of PEFT.

Sources: vllm 0.33 engine/arg_utils.py (EngineArgs: a dataclass, a field a flag); peft 0.21
config.py.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles.live.trainers import adapted


def launch_line(model: Any) -> str | None:
    """Return the launch line that vLLM's EngineArgs (AsyncEngineArgs) are; None for any other
    object. Raises UsageError where they name no model."""
    if not any(kind.__name__ == "EngineArgs" for kind in type(model).__mro__):
        return None
    name = getattr(model, "model", None)
    if not isinstance(name, str) or not name:
        raise UsageError(sentence("live.no_model", name=type(model).__name__))
    return shlex.join(["vllm", "serve", name, *_flags(model)])


def _flags(arguments: Any) -> Iterator[str]:
    """Yield the flags of fields that are not as they are by themselves."""
    for field in fields(arguments):
        value = getattr(arguments, field.name)
        usual = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name == "model" or value is None or value == usual:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            yield flag if value else f"--no-{flag[2:]}"
        elif isinstance(value, Mapping):
            yield from (flag, json.dumps(dict(value), default=str))
        elif isinstance(value, str | int | float):
            yield from (flag, str(value))


def adapters_in(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of training where a config of PEFT that is given as `method` is the settings
    that it says; what is given beside it wins."""
    method = settings.get("method")
    if not hasattr(method, "peft_type"):
        return dict(settings)
    adapter = adapted(method)
    if settings.get("quantization") and adapter["method"] == "lora":
        adapter["method"] = "qlora"
    return {**adapter, **{name: v for name, v in settings.items() if name != "method"}}

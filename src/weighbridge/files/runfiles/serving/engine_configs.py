"""Settings of a server as YAML, key by flag: `vllm serve --config FILE` and SGLang's own.

Sources: vllm 0.26 utils/argparse_utils.py (load_config_file: each key is a flag, true a switch);
sglang 0.5 srt/server_args_config_parser.py (the same).
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.arguments import find
from weighbridge.engines.launch.programs import dialect
from weighbridge.engines.table import ENGINES
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import filled
from weighbridge.files.runfiles.record import Kind, PlannedRun
from weighbridge.files.runfiles.serving.containers import served
from weighbridge.files.runfiles.serving.lines import of_text
from weighbridge.files.runfiles.training.flags import mapping

# Keys that only one of these programs has
VLLM = ("max-model-len", "gpu-memory-utilization", "max-num-seqs", "max-num-batched-tokens")
SGLANG = ("model-path", "mem-fraction-static", "context-length", "chunked-prefill-size", "tp-size")


def tells(document: Document) -> bool:
    """Return whether a mapping has a server's flags as keys."""
    return isinstance(document.data, dict) and _program(document.data) != ""


def _program(data: Mapping[str, Any]) -> str:
    keys = {str(key).replace("_", "-") for key in data}
    if {"model", "model-path"}.isdisjoint(keys) or any(
        isinstance(value, dict) and "-" not in str(key) for key, value in data.items()
    ):
        return ""
    if keys.intersection(SGLANG):
        return "python -m sglang.launch_server"
    served = keys & {*VLLM, "tensor-parallel-size", "served-model-name"}
    return "vllm serve" if served and "stage" not in keys else ""


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of a server's config."""
    data, program = dict(document.data), _program(document.data)
    words = [filled(str(data.pop("model")))] if "model" in data else []
    for key, value in data.items():
        words += _flag(str(key), value)
    yield from of_text(f"{program} {shlex.join(words)}", line=1)


def _flag(key: str, value: Any) -> Iterator[str]:
    name = f"--{key.replace('_', '-')}"
    if value is None or value is False:
        return
    yield name
    if isinstance(value, dict):
        yield json.dumps(value)
    elif isinstance(value, list):
        yield from map(str, value)
    elif value is not True:
        yield filled(str(value))


def fresh(run: PlannedRun) -> Mapping[str, Any]:
    """Return the keys of a new `vllm serve --config` from the flags of a launch line. Raises
    UsageError if it sets a variable."""
    line = served(run)
    if line.env:
        raise UsageError(sentence("emit.no_variable", name=next(iter(line.env))))
    words = (*(("--model", line.model) if line.model else ()), *map(_long, line.flags))
    return {name.replace("_", "-"): value for name, value in mapping(words).items()}


def _long(word: str) -> str:
    """Return the long name of a flag, as config keys require: --tensor-parallel-size for -tp."""
    flag = find(word, dialect(ENGINES["vllm"])) if word.startswith("-") else None
    names = flag.names if flag is not None and not word.startswith("--") else ()
    return next((name for name in names if name.startswith("--")), word)


KIND = Kind(
    name="server-config",
    title=sentence("title.config", program="server"),
    syntaxes=("yaml",),
    source="https://docs.vllm.ai/en/latest/configuration/serve_args.html",
    tells=tells,
    read=read,
    fresh=fresh,
)

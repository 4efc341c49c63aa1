"""`ollama run`, and the environment variables of the `ollama serve` that it talks to.

    OLLAMA_CONTEXT_LENGTH=8192 ollama serve & ollama run llama3.1:8b

Variables set only before `ollama run` do nothing in a server that already runs; they are read as
the server's. Source: ollama fb30760 cmd/cmd.go (runCmd), envconfig/config.go.
"""

import re
from collections.abc import Mapping

from weighbridge.base.errors import ContradictionError
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.arguments import scan
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Dialect, Launch, LaunchedProgram, Value, flags
from weighbridge.engines.launch.shell import commands

FLAGS = flags(
    """[ignored value]
--keepalive --format --think --dimensions
[ignored switch]
--verbose --insecure --nowordwrap --hidethinking --truncate
"""
)
TRUE = ("1", "t", "true")  # strconv.ParseBool, without case
COUNTS = {"OLLAMA_CONTEXT_LENGTH": "context", "OLLAMA_NUM_PARALLEL": "parallel"}
ENV: Mapping[str, str] = {
    **dict.fromkeys((*COUNTS, "OLLAMA_FLASH_ATTENTION", "OLLAMA_KV_CACHE_TYPE"), ""),
    "OLLAMA_SCHED_SPREAD": "",
    "OLLAMA_GPU_OVERHEAD": "keeps_nothing_free",
    "OLLAMA_LLM_LIBRARY": "library_of_card",
    "OLLAMA_VULKAN": "library_of_card",
    "LLAMA_ARG_": "server_variables",
    "GGML_CUDA_ENABLE_UNIFIED_MEMORY": "host_when_full",
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "ROCR_VISIBLE_DEVICES": "",
}
FORM = re.compile(r"^(?!.*/).*[:-](i?q\d\w*|bf16|fp?16|fp?32)$")  # format at the end of a tag
HUBS = re.compile(r"(?:https?://)?(?:hf\.co|huggingface\.co)/", re.IGNORECASE)


def read(text: str) -> Launch:
    """Return the launch of a command. Raises UsageError if it runs no model."""
    program = launched(text)
    r = CommandReading(program=program, dialect=DIALECT)
    for given in scan(program.words, DIALECT, program.name):
        r.take(given)
    finish(r)
    r.unused()
    r.environment()
    return r.launch()


def launched(text: str) -> LaunchedProgram:
    """Return the one `ollama run`, with the variables of all Ollama commands."""
    env: dict[str, str] = {}
    commands_found: list[tuple[str, ...]] = []
    for command in commands(text):
        words = command.words
        place = next((i for i, word in enumerate(words) if _base(word) == "ollama"), None)
        while place is not None and words[place + 1 : place + 2] == (
            "ollama",
        ):  # docker exec ollama ollama
            place += 1
        if place is None or len(words) <= place + 1:
            continue
        env |= {**command.env, **_set(words[:place])}
        if words[place + 1] in ("run", "serve", "start"):
            commands_found += [words[place + 2 :]] * (words[place + 1] == "run")
    if len(commands_found) != 1:
        key = "ollama.runs" if commands_found else "ollama.runs_none"
        raise ContradictionError(sentence(key, count=len(commands_found)))
    return LaunchedProgram(engine="ollama", name="ollama run", words=commands_found[0], env=env)


def _base(word: str) -> str:
    return re.split(r"[/\\]", word)[-1].removesuffix(".exe")


def _set(words: tuple[str, ...]) -> dict[str, str]:
    """Return the variables before the command: `env NAME=value`, `docker run -e NAME=value`."""
    pairs = (word.partition("=") for word in words)
    return {name: value for name, equals, value in pairs if equals and name.isupper()}


def finish(reading: CommandReading) -> None:
    """Read the model, which a prompt may follow, and the server's variables."""
    if reading.words:
        reading.model = _model(reading.words[0])
        if form := FORM.search(reading.words[0].lower()):
            reading.settings["quantization"] = form[1].upper().replace("FP", "F")
    for name, setting in COUNTS.items():
        text = reading.program.env.get(name, "").strip("\"' ")
        if text and text != "0":
            reading.settings[setting] = reading.read("whole", name, text)
    flash = reading.program.env.get("OLLAMA_FLASH_ATTENTION")
    if flash:
        reading.settings["flash_attn"] = "on" if flash.lower() in TRUE else "off"
    if kind := reading.program.env.get("OLLAMA_KV_CACHE_TYPE"):
        reading.settings["kv_cache_dtype"] = kind.lower()
    if reading.program.env.get("OLLAMA_SCHED_SPREAD", "").lower() in TRUE:
        reading.settings["split_mode"] = "layer"


def _model(name: str) -> str:
    """Return the model's name. hf.co/org/name:QUANT is a repository of the Hub, where Q4_K_M is the
    default if there is one (huggingface.co/docs/hub/ollama)."""
    path = HUBS.sub("", name)
    if path == name:
        return name.removesuffix(":latest")
    return path if ":" in path or "gguf" in path.lower() else f"{path}:Q4_K_M"


def defaults(reading: CommandReading) -> tuple[tuple[str, Value, str], ...]:
    unless: tuple[tuple[str, Value, str], ...] = (
        ("context", "4,096 to 262,144", "by the memory of all cards"),
        ("parallel", 1, "requests at once"),
        ("n_batch", "512 to 2,048", "by the context, where room is left"),
        ("flash_attn", "auto", "on where the cards can"),
        ("kv_cache_dtype", "f16", "whatever the model's dtype is"),
    )
    return tuple(row for row in unless if row[0] not in reading.settings)


DIALECT = Dialect(
    engine="ollama", flags=FLAGS, finish=finish, defaults=defaults, argparse=False, env=ENV
)

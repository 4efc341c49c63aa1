"""A launch line taken apart, for a new file that starts a container: image, arguments, variables;
and the line of a container whose image nobody publishes.

Sources: https://docs.vllm.ai/en/latest/deployment/docker.html (entry point `vllm serve`, with the
model first); https://docs.sglang.io, install (docker); both share memory between their processes.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import field, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import numbers
from weighbridge.base.wording import HIDDEN, names_secret
from weighbridge.engines.launch import parse
from weighbridge.engines.launch.programs import launched
from weighbridge.engines.table import ENGINES
from weighbridge.files.programs import images, programs, told_by
from weighbridge.files.runfiles.record import PlannedRun

SGLANG = ("python3", "-m", "sglang.launch_server")
PARTS = 3  # numbers of a release in a tag
# vLLM whose image is known to take the model first (its entry point was inspected:
# NVIDIA-AI-IOT/jetson-ai-lab#420). Images before may run api_server, which takes --model alone and
# serves a model of its own without it; `vllm serve` takes --model too, with a warning (0.12.0:
# vllm-project/vllm#30828).
POSITIONAL = (0, 26)

FEW_FLAGS = 2  # many programs take -m and a name


@frozen_record
class ServedLine:
    """A container's command. `entry`: the program, if the image starts none; `flags`: its
    arguments. `model`: "" if a flag names it; `first`: whether it precedes the flags."""

    engine: str
    image: str
    entry: tuple[str, ...]
    model: str
    first: bool
    flags: tuple[str, ...]
    env: Mapping[str, str]
    gpus: int
    mounts: Mapping[str, str] = field(default_factory=dict)  # folder inside -> outside
    ports: Sequence[str] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Return all arguments of the program."""
        if self.first:
            return (self.model, *self.flags)
        return ("--model", self.model, *self.flags) if self.model else self.flags

    @property
    def port(self) -> int:
        return programs()[self.engine].port


def served(run: PlannedRun) -> ServedLine:
    """Return a run's launch line as a container's command. Raises UsageError for an engine without
    images that serve a model by name."""
    launch = parse(run.command)
    published = {each.name: each.image for each in told_by("image")}
    if launch.engine not in published:
        raise UsageError(
            sentence("emit.containers", known=" and ".join(published), engine=launch.engine)
        )
    program = launched(run.command)
    of_vllm = launch.engine == "vllm"
    model, words = _named(list(program.words)) if of_vllm else ("", _flags(program.words))
    release = str(run.settings.get("engine_version") or program.version or "").removeprefix("v")
    known = numbers(release)
    words, _ = without_secrets(words)
    return ServedLine(
        engine=launch.engine,
        image=f"{published[launch.engine]}:{_tag(release)}",
        entry=() if of_vllm else SGLANG,
        model=model,
        first=bool(model) and (known is None or known >= POSITIONAL),
        flags=tuple(words),
        env={n: value for n, value in program.env.items() if n.isupper() and HIDDEN not in value},
        gpus=launch.devices or 1,
        mounts=program.mounts,
        ports=program.ports,
    )


def _flags(words: Sequence[str]) -> list[str]:
    """Return a server's flags, with the host that makes it reachable from outside its container."""
    start = next(place for place, word in enumerate(words) if word.startswith("--"))
    return [*words[start:], "--host", "0.0.0.0"]


def without_secrets(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (words, removed): the words without flags whose values are secrets, and those flags'
    names. Variables for secrets stay, and so do other keys of a JSON object with a secret."""
    plain_words: list[str] = []
    left: list[str] = []
    flag = ""
    for word in words:
        begins = word.startswith("-")
        flag = word.partition("=")[0] if begins else flag
        value = word.partition("=")[2] if begins else word
        cleaned, keys = _without_keys(value)
        if keys and cleaned:
            left += [f"{key} of {flag}" for key in keys]
            plain_words.append(word.removesuffix(value) + json.dumps(cleaned))
        elif HIDDEN in word or (value and names_secret(flag) and "$" not in value):
            left.append(flag)
            if plain_words and plain_words[-1] == flag:
                plain_words.pop()
        else:
            plain_words.append(word)
    return plain_words, list(dict.fromkeys(left))


def _without_keys(value: str) -> tuple[dict[str, Any], list[str]]:
    """Return (object, removed): a JSON object without the keys that hold secrets, and those keys'
    names."""
    try:
        data = json.loads(value) if value.startswith("{") else None
    except (ValueError, RecursionError):
        data = None
    left: list[str] = []
    return (_clean(data, left), left) if isinstance(data, dict) else ({}, left)


def _clean(data: Mapping[str, Any], left: list[str]) -> dict[str, Any]:
    plain_data: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            plain_data[key] = _clean(value, left)
        elif HIDDEN in str(value) or (isinstance(value, str) and names_secret(f"--{key}")):
            left.append(key)
        else:
            plain_data[key] = value
    return plain_data


def _named(words: list[str]) -> tuple[str, list[str]]:
    """Return (model, other words) of the words after `vllm serve`."""
    for place, word in enumerate(words):
        if word == "--model":
            return words[place + 1], [*words[:place], *words[place + 2 :]]
        if word.startswith("--model="):
            return word.partition("=")[2], [*words[:place], *words[place + 1 :]]
    return (words[0], words[1:]) if words and not words[0].startswith("-") else ("", words)


def _tag(release: str) -> str:
    """Return the image tag of a release, "latest" without one."""
    if not release:
        return "latest"
    parts = release.split(".")
    return "v" + ".".join([*parts, "0", "0"][: max(PARTS, len(parts))])


def by_image(image: str, words: Sequence[str]) -> str:
    """Return a launch line for a private image whose name has a known engine's; "" if none has."""
    last = image.rpartition("/")[2].lower()
    program = next((line for part, line in images().items() if line and part in last), "")
    bare = bool(words) and words[0].startswith("-")
    return f"{program} {shlex.join(words)}" if program and bare else ""


def by_flags(words: Sequence[str]) -> str:
    """Return a launch line for a private image whose entry point gets only flags, by the only
    engine that knows all of them; "" if none does."""
    flags = [word for word in words if word.startswith("-")]
    behind = words[1:] if words and words[0].endswith(".sh") else words
    if len(flags) < FEW_FLAGS or not (behind[0].startswith("-") or "/" in behind[0]):
        return ""
    lines_of_images = dict.fromkeys(filter(None, images().values()))
    lines = (f"{program} {shlex.join(behind)}" for program in lines_of_images)
    known = [line for line in lines if _knows_all(line)]
    return known[0] if len(known) == 1 else ""


def _knows_all(line: str) -> bool:
    """Return whether a line's engine knows all its flags, and its model is a repository or a
    file."""
    try:
        launch = parse(line)
    except UsageError:
        return False
    read = launch.engine in ENGINES and not launch.unknown
    return read and ("/" in launch.model or launch.model.endswith(".gguf"))

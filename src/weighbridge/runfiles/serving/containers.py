"""A launch line taken apart, for a new file that starts a container: image, arguments, variables.

Sources: https://docs.vllm.ai/en/latest/deployment/docker.html (entry point `vllm serve`);
https://docs.sglang.io, install (docker); both share memory between their processes.
"""

from collections.abc import Mapping

from weighbridge.engines.launch import parse
from weighbridge.engines.launch.programs import commands
from weighbridge.errors import UsageError
from weighbridge.records import dataclass
from weighbridge.runfiles.record import PlannedRun

IMAGES = {"vllm": "vllm/vllm-openai", "sglang": "lmsysorg/sglang"}
SGLANG = ("python3", "-m", "sglang.launch_server")
PORTS = {"vllm": 8000, "sglang": 30000}
PARTS = 3  # of a release, in a tag


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedLine:
    """What a container is told: `words` without the program, which `entry` is where the image
    starts none."""

    engine: str
    image: str
    entry: tuple[str, ...]
    words: tuple[str, ...]
    env: Mapping[str, str]
    gpus: int

    @property
    def port(self) -> int:
        return PORTS[self.engine]


def served(run: PlannedRun) -> ServedLine:
    """Return what a run's launch line tells a container. Raises UsageError for an engine whose
    images serve no model by name."""
    launch = parse(run.command)
    if launch.engine not in IMAGES:
        raise UsageError(f"containers are written for vllm and sglang, not for {launch.engine}")
    command = [*commands(run.command)][-1]
    words = list(command.words)
    entry: tuple[str, ...] = ()
    if launch.engine == "vllm":
        flags = words[words.index("serve") + 1 :] if "serve" in words else words[1:]
        model = [] if "--model" in flags else ["--model"]
        words = [*model, *flags]
    else:
        start = next(at for at, word in enumerate(words) if word.startswith("--"))
        words, entry = [*words[start:], "--host", "0.0.0.0"], SGLANG
    return ServedLine(
        engine=launch.engine,
        image=f"{IMAGES[launch.engine]}:{_tag(run)}",
        entry=entry,
        words=tuple(words),
        env={name: value for name, value in command.env.items() if name.isupper()},
        gpus=launch.devices or 1,
    )


def _tag(run: PlannedRun) -> str:
    """Return the tag of a release that was named; without one the newest."""
    release = run.settings.get("engine_version")
    if not release:
        return "latest"
    parts = str(release).removeprefix("v").split(".")
    return "v" + ".".join([*parts, "0", "0"][: max(PARTS, len(parts))])

"""The engines: whose rules we have, up to which version, and what is nearest to the others."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from weighbridge.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget
    from weighbridge.engines.serving import Answer, Probe, Subject
    from weighbridge.workload import Infer

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """`versions`: the oldest and the newest whose sources were read."""

    name: str
    module: str  # below weighbridge.engines; has `infer`
    oldest: Version
    newest: Version
    searched: bool = False  # whether the module has `holds`, which is faster than an answer
    probed: bool = False  # whether it has `probe`: an answer's numbers alone

    @property
    def infer(self) -> "Callable[[Subject, Infer, Budget | None], Answer]":
        found: Callable[[Subject, Infer, Budget | None], Answer] = import_module(
            f"weighbridge.engines.{self.module}"
        ).infer
        return found

    @property
    def holds(self) -> "Callable[[Subject, Infer, Budget], bool] | None":
        if not self.searched:
            return None
        found: Callable[[Subject, Infer, Budget], bool] = import_module(
            f"weighbridge.engines.{self.module}"
        ).holds
        return found

    @property
    def probe(self) -> "Callable[[Subject, Infer, Budget], Probe] | None":
        """What prepares a search: its probe says in numbers what `infer` would answer."""
        if not self.probed:
            return None
        found: Callable[[Subject, Infer, Budget], Probe] = import_module(
            f"weighbridge.engines.{self.module}"
        ).probe
        return found


ENGINES: Mapping[str, Engine] = {
    e.name: e
    for e in (
        Engine(
            name="transformers",
            module="transformers",
            oldest=(4, 30),
            newest=(5, 23),
            probed=True,
        ),
        Engine(name="vllm", module="vllm", oldest=(0, 9), newest=(0, 33), probed=True),
        Engine(name="sglang", module="sglang", oldest=(0, 4), newest=(0, 5, 23), probed=True),
        Engine(
            name="llama.cpp",
            module="llama_cpp",
            oldest=(4905,),
            newest=(11200,),
            searched=True,
            probed=True,
        ),
        Engine(
            name="ik_llama.cpp",
            module="ik_llama_cpp",
            oldest=(3576,),
            newest=(4840,),
            searched=True,
            probed=True,
        ),
    )
}
SPELLINGS = {
    "hf": "transformers",
    "llamacpp": "llama.cpp",
    "llama_cpp": "llama.cpp",
    "llama-cpp": "llama.cpp",
    "llama-server": "llama.cpp",
    "ik_llama": "ik_llama.cpp",
}
NOT_YET = {
    "mlx": "llama.cpp",
    "mlx-lm": "llama.cpp",
    "ollama": "llama.cpp",
    "lmstudio": "llama.cpp",
    "koboldcpp": "llama.cpp",
    "exllamav2": "vllm",
    "exllamav3": "vllm",
    "tgi": "vllm",
    "tensorrt-llm": "vllm",
    "trt-llm": "vllm",
    "lmdeploy": "vllm",
}


def engine(name: str) -> Engine:
    plain = name.strip().lower()
    found = ENGINES.get(SPELLINGS.get(plain, plain))
    if found is not None:
        return found
    if plain in NOT_YET:
        raise UnsupportedError(
            f"--engine {name!r}: not yet; nearest is --engine {NOT_YET[plain]}, "
            "whose budget differs"
        )
    raise UsageError(f"--engine {name!r} is not known; known: {', '.join(ENGINES)}")


def version(kind: Engine, text: str | None) -> tuple[Version, str]:
    """(the version whose rules are used, a warning or ""): the nearest known one."""
    if text is None:
        return kind.newest, ""
    found = re.fullmatch(r"[vb]?(\d+(?:\.\d+)*)(?:[.+-]?[a-z].*)?", text.strip().lower())
    if not found:
        raise UsageError(
            f"--engine-version {text!r} is not a version; write it as {written(kind.newest)}"
        )
    number = tuple(map(int, found[1].split(".")))
    if number[: len(kind.newest)] > kind.newest:
        return kind.newest, _said(kind, text, kind.newest)
    if number < kind.oldest:
        return kind.oldest, _said(kind, text, kind.oldest)
    return number, ""


def written(number: Version) -> str:
    return ".".join(map(str, number))


def _said(kind: Engine, text: str, nearest: Version) -> str:
    return (
        f"{kind.name} {text}: our rules are for releases {written(kind.oldest)} to "
        f"{written(kind.newest)}; those of {written(nearest)} are used"
    )

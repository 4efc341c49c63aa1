"""The engines: one line each, and how to find one by what people call it.

To add an engine, write its folder and one line in FOLDERS. The folder has

    __init__.py   ENGINE, the record that all other packages read (`engines/engine.py` explains its
                  fields); it imports nothing but `Engine`, since every start reads it
    settings.py   SETTINGS: the class of the settings it takes, one field each
    infer.py      infer(subject, workload, budget) -> EngineAnswer; and, for quick searches, `probe`
                  and `holds`
    dialect.py    DIALECT: how its command line is parsed, if `programs` has any
    rules.py      every fact that differs between its releases

What engines share is in the folders `caches`, `parallel` and `servers`, and in the files here,
which take what they need as arguments and look up no engine. tests/engines/test_layers.py checks
both: who may import whom, and that no other package spells an engine's name.
"""

from collections.abc import Mapping
from importlib import import_module

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.parsed import Parsed
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like
from weighbridge.engines.engine import Engine, Version, version, written
from weighbridge.engines.stand_ins import STAND_INS

__all__ = [
    "ENGINES",
    "FOLDERS",
    "Engine",
    "Version",
    "at_home",
    "engine",
    "record",
    "title",
    "usual",
    "version",
    "written",
]

FOLDERS: Mapping[str, str] = {
    "transformers": "transformers",
    "vllm": "vllm",
    "sglang": "sglang",
    "llama.cpp": "llama_cpp",
    "ik_llama.cpp": "ik_llama_cpp",
    "mlx": "mlx",
    "ollama": "ollama",
}


def _record(folder: str) -> Engine:
    engine: Engine = import_module(f"weighbridge.engines.{folder}").ENGINE
    return engine


ENGINES: Mapping[str, Engine] = Parsed(FOLDERS, _record)


def record(name: str) -> Engine:
    """Return the engine named exactly `name`; an empty record for other libraries (timm)."""
    engine = ENGINES.get(name)
    return engine or Engine(name=name, title=name, package="", oldest=(), newest=())


def usual(*, gguf: bool = False, server: bool = False) -> Engine:
    """Return the default engine: the first of FOLDERS, `gguf`: that loads GGUF, `server`: that is a
    server."""
    wanted = (e for e in ENGINES.values() if not server or e.server)
    return next(e for e in wanted if not gguf or e.reads == "gguf")


def at_home() -> Engine:
    """Return the engine for consumer cards: the first that downloads a small format by default."""
    return next(e for e in ENGINES.values() if e.usual)


def title(name: str) -> str:
    """Return an engine's name as its makers write it; any other name unchanged."""
    return ENGINES[name].title if name in ENGINES else name


def engine(name: str) -> Engine:
    """Return the engine with this name or spelling, or the one that answers for it. Raises
    UsageError for any other name."""
    plain = name.strip().lower()
    if plain in ENGINES:
        return ENGINES[plain]
    spelled = next((e for e in ENGINES.values() if plain in e.spellings), None)
    if spelled is not None:
        return spelled
    if plain in STAND_INS:
        return ENGINES[STAND_INS[plain].near]
    near = spelled_like(plain, ENGINES)
    known = ", ".join(ENGINES)
    if near:
        raise UsageError(sentence("engine_near", name=name, near=near[0], known=known))
    raise UnsupportedError(sentence("engine", name=name, known=known))

"""The engines: one line each, and how to find one by what people call it.

To add an engine, write its folder and one line in FOLDERS. The folder has

    __init__.py   ENGINE, the record that all other rooms read (`engines/engine.py` says what each
                  field means); it imports nothing but `Engine`, since every start reads it
    settings.py   SETTINGS: the class of what it takes, a field a setting
    infer.py      infer(subject, workload, budget) -> EngineAnswer; and, for quick searches, `probe`
                  and `holds`
    dialect.py    DIALECT: how its command line is read, where `programs` names any
    rules.py      every fact that differs between its releases

What engines share is in the folders beside, `caches`, `parallel` and `servers`, and in the files
here. They are given what they need to know, and look up no engine. tests/engines/test_layers.py
holds both: who may import whom, and that no other room spells an engine's name.
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
    """Look up an engine by its very name; of what is none, as timm, a record that says nothing."""
    engine = ENGINES.get(name)
    return engine or Engine(name=name, title=name, package="", oldest=(), newest=())


def usual(*, gguf: bool = False, server: bool = False) -> Engine:
    """Return the engine that is asked where none is named: the first of FOLDERS, of those that
    load GGUF or of the servers."""
    wanted = (e for e in ENGINES.values() if not server or e.server)
    return next(e for e in wanted if not gguf or e.reads == "gguf")


def at_home() -> Engine:
    """Return the engine of cards that people have at home: it downloads a small format by
    itself."""
    return next(e for e in ENGINES.values() if e.usual)


def title(name: str) -> str:
    """Return an engine's name as its makers write it; other names as they are."""
    return ENGINES[name].title if name in ENGINES else name


def engine(name: str) -> Engine:
    """Find an engine by its name or a spelling of it, or the one that stands for it. Raises
    UsageError."""
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

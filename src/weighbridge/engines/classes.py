"""Refuses models whose class an engine's release does not know yet, with the release that does."""

from weighbridge.arch.cache_layers.gguf import architecture
from weighbridge.engines.engine import Engine, written
from weighbridge.engines.knows import Known, row_of
from weighbridge.engines.readable import Loader
from weighbridge.engines.table import usual
from weighbridge.errors import UnsupportedError
from weighbridge.model import ModelPart


def check(part: ModelPart, by: Loader) -> str:
    """Return a warning where the class of transformers may run in the place of the engine's own,
    "" where all is well. Raises UnsupportedError where nothing runs the model."""
    name = named(part, by.engine)
    row = row_of(by.engine.knowing, name) if name else None
    if row is None or not row.lacking(by.version):
        return ""
    who, first = f"{by.engine.title} {written(by.version)}", written(row.since)
    if replaced(part, by, name):
        return (
            f"{who} has no class of its own for {name}, which {first} has: the class of "
            "transformers runs in its place, if it can, and its own memory is not counted here"
        )
    raise UnsupportedError(
        f"{by.reference}: {who} does not know {name}: {first} does; give --engine-version {first} "
        "or later"
    )


def named(part: ModelPart, engine: Engine) -> str:
    """What an engine knows a model by; "" where it runs code of the model's own, or what is no
    model of transformers."""
    if engine.reads == "gguf":
        metadata = part.config.get("gguf")
        return str(metadata.get("general.architecture")) if metadata else architecture(kind(part))
    if part.library != "transformers":
        return ""
    if engine.name == usual().name:
        return "" if part.config.get("auto_map") else kind(part)
    classes = part.config.get("architectures")
    first = classes[0] if isinstance(classes, list) and classes else part.blueprint.cls
    return str(first)


def kind(part: ModelPart) -> str:
    return str(part.config.get("model_type") or "")


def replaced(part: ModelPart, by: Loader, name: str) -> bool:
    """Whether a class of transformers may run in the place of the engine's own."""
    backend = by.engine.backend
    if backend is None:
        return False
    row: Known | None = row_of(usual().knowing, kind(part))
    return backend.runs(by.version, name, row.since if row else ())

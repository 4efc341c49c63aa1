"""The table: `model_type` -> the family that reads it, and the builder that they share.

A family is one line here and one record in its file. The file is imported when its first model
is met: a run that weighs a Llama reads no other family.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import islice
from typing import Any

from weighbridge.arch.blueprint import Blueprint, Buffer, Family, Param
from weighbridge.arch.config import Config
from weighbridge.errors import BadFileError, UnsupportedError

MAX_TENSORS = 2_000_000  # Kimi-K2 has about 200,000; a config that asks for more is hostile

# model_type -> "module:RECORD" below weighbridge.arch
FAMILIES: dict[str, str] = {
    "llama": "llama:LLAMA",
    "mistral": "llama:MISTRAL",
    "qwen2": "llama:QWEN2",
    "qwen3": "llama:QWEN3",
}


def family(model_type: str) -> Family:
    """The record of `model_type`. Raises UnsupportedError when we have none."""
    try:
        module, record = FAMILIES[model_type].split(":")
    except KeyError:
        raise UnsupportedError(f"model type {model_type!r} is not in our tables") from None
    found = getattr(import_module(f"weighbridge.arch.{module}"), record)
    assert isinstance(found, Family)
    return found


def known(raw: Mapping[str, Any]) -> bool:
    return str(raw.get("model_type") or "") in FAMILIES


def blueprint(c: Config, *, base_model: bool = False) -> Blueprint:
    """All tensors of the class that the config names; with `base_model`, of its headless base."""
    kind = family(c.model_type)
    c.cls = c.cls or kind.cls
    head = None if base_model else _head(kind, c)
    at = "" if head is None else f"{kind.base}."
    params = _bounded(c, _params(c, kind, at, head))
    buffers = tuple(_buffers(c, kind, at))
    return Blueprint(
        cls=c.cls,
        params=_tie(c, kind, params),
        buffers=buffers,
        blocks=tuple(f"{at}{pattern}" for pattern in kind.blocks),
    )


def _head(kind: Family, c: Config) -> Any:
    for suffix, head in kind.heads.items():
        if c.cls.endswith(suffix):
            return head
    if c.cls.endswith("Model"):
        return None
    classes = ", ".join(f"*{suffix}" for suffix in (*kind.heads, "Model"))
    raise BadFileError(f"{c.where}: architectures names {c.cls!r}; known here: {classes}")


def _params(c: Config, kind: Family, at: str, head: Any) -> Iterator[Param]:
    yield from kind.body(c, at)
    if head is not None:
        yield from head(c, "")


def _buffers(c: Config, kind: Family, at: str) -> Iterator[Buffer]:
    if kind.buffers is not None:
        yield from kind.buffers(c, at)


def _bounded(c: Config, params: Iterator[Param]) -> tuple[Param, ...]:
    found = tuple(islice(params, MAX_TENSORS + 1))
    if len(found) > MAX_TENSORS:
        raise BadFileError(f"{c.where}: asks for more than {MAX_TENSORS:,} tensors")
    return found


def _tie(c: Config, kind: Family, params: tuple[Param, ...]) -> tuple[Param, ...]:
    """Mark the output projection as a view of the input embedding where the config ties them."""
    if not c.flag("tie_word_embeddings", default=kind.ties):
        return params
    source = next((p for p in params if p.kind == "embedding"), None)
    if source is None:
        return params
    return tuple(
        p._replace(tied=source.name)
        if p.name.endswith("lm_head.weight") and p.shape == source.shape
        else p
        for p in params
    )

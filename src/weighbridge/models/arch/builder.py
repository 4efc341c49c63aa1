"""The tensors of a class, from its config: the builder that all families share.

`model_types.py` says which family reads a model type.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import (
    MAX_TENSORS,
    Blueprint,
    Buffer,
    CountedParams,
    Family,
    Param,
    ParamRule,
    Params,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import facts


def family(model_type: str) -> Family:
    """Return the family of a model type. Raises UnsupportedError if there is none."""
    known = facts(model_type).family
    if known is None:
        raise UnsupportedError(sentence("no_type", kind=model_type))
    return known


def known(raw: Mapping[str, Any]) -> bool:
    """Return whether one of our families describes the tensors of a config's model type."""
    return facts(str(raw.get("model_type") or "")).family is not None


def blueprint(c: Config, *, base_model: bool = False) -> Blueprint:
    """Return all tensors of the config's class; with `base_model`, of its base model."""
    kind = family(c.model_type)
    c.cls = c.cls or kind.cls
    _check_stem(kind, c)
    if not base_model:
        kind = next((k for ending, k in kind.classes.items() if c.cls.endswith(ending)), kind)
    suffix = "" if base_model else _head_suffix(kind, c)
    base = kind.bases.get(suffix, kind.base)
    prefix = f"{base}." if suffix and base else ""
    tree = kind.tree(c) if kind.tree is not None else None
    base_params = tree.tensors(prefix) if tree is not None else kind.tensors(c, prefix)
    params = tied(c, kind, _checked_params(c, _params(c, base_params, kind.heads.get(suffix))))
    patterns = kind.blocks(c) if callable(kind.blocks) else kind.blocks
    plan = Blueprint(
        cls=f"{stems(kind)[0]}Model" if base_model else c.cls,
        params=CountedParams(params),
        buffers=tuple(_buffers(c, kind, prefix)),
        blocks=tuple(f"{prefix}{pattern}" for pattern in patterns),
        parts=tuple((f"{prefix}{path}", label) for path, label in kind.parts),
        tree=tree,
    )
    return renamed(plan, kind.renames) if suffix and kind.renames else plan


def renamed(plan: Blueprint, pairs: Sequence[tuple[str, str]]) -> Blueprint:
    """Return `plan` with each name changed by the first matching pair (old prefix, new prefix)."""

    def name(old: str) -> str:
        pair = next((p for p in pairs if old.startswith(p[0])), ("", ""))
        return pair[1] + old[len(pair[0]) :]

    return replace(
        plan,
        params=CountedParams(
            tuple(p._replace(name=name(p.name), tied=name(p.tied)) for p in plan.counted)
        ),
        buffers=tuple(b._replace(name=name(b.name)) for b in plan.buffers),
        blocks=tuple(name(f"{b}.").removesuffix(".") for b in plan.blocks),
        parts=tuple((name(prefix), label) for prefix, label in plan.parts),
    )


LISTED = 4  # most class name endings that an error lists


def stems(kind: Family) -> tuple[str, ...]:
    """Return the prefixes of the names of a family's classes."""
    return kind.stems or (stem(kind.cls),)


def stem(cls: str) -> str:
    """Return a class's name without its head: "Llama" for "LlamaForCausalLM"."""
    return re.split(r"For[A-Z]|Model|(?:With)?LMHead|DoubleHeads", cls)[0]


def _check_stem(kind: Family, c: Config) -> None:
    """Check that the class belongs to the family of its model type; raise UnsupportedError if its
    name has another prefix, as a draft model's with `qwen3`."""
    begins = tuple(name.casefold() for name in stems(kind))
    if c.cls not in kind.classes and not c.cls.casefold().startswith(begins):
        raise UnsupportedError(sentence("no_class_of", cls=c.cls, kind=c.model_type), where=c.where)


def _head_suffix(kind: Family, c: Config) -> str:
    """Return the ending of the class's name that names its head; "" for the base model. Raises
    UnsupportedError for an unknown ending."""
    for suffix in kind.heads:
        if c.cls.endswith(suffix):
            return suffix
    if c.cls.endswith("Model"):
        return ""
    heads = [f"*{suffix}" for suffix in (*kind.heads, *kind.classes, "Model")]
    known, more = ", ".join(heads[:LISTED]), len(heads) - LISTED
    if more > 0:
        known = sentence("and_more", names=known, count=more)
    raise UnsupportedError(sentence("class_unlisted", cls=c.cls, known=known), where=c.where)


def _params(c: Config, base_params: Params, head: ParamRule | None) -> Iterator[Param]:
    yield from base_params
    if head is not None:
        yield from head(c, "")


def _buffers(c: Config, kind: Family, prefix: str) -> Iterator[Buffer]:
    if kind.buffers is not None:
        yield from kind.buffers(c, prefix)


def _checked_params(c: Config, params: Iterator[Param]) -> tuple[Param, ...]:
    bounded = tuple(islice(params, MAX_TENSORS + 1))
    over = next((p.routed for p in bounded if not 0 < p.routed[0] <= p.routed[1]), None)
    if over is not None:
        raise BadFileError(sentence("experts_beyond", used=over[0], count=over[1]), where=c.where)
    if sum(p.copies for p in bounded) > MAX_TENSORS:
        raise BadFileError(sentence("many_tensors", most=MAX_TENSORS), where=c.where)
    return bounded


def tied(c: Config, kind: Family, params: tuple[Param, ...]) -> tuple[Param, ...]:
    """Return `params` with the output layer tied to the embedding, if the config ties them."""
    decide, name = kind.ties, "tie_word_embeddings"
    ties = decide(c) if callable(decide) else c.flag(name, default=decide)
    head = next((p.shape for p in params if p.name.endswith("lm_head.weight")), ())
    fits = (p for p in params if p.kind == "embedding" and p.shape == head)
    source = next(fits, None) if ties else None
    if source is None:
        return params
    return tuple(
        p._replace(tied=source.name)
        if p.name.endswith("lm_head.weight") and p.shape == source.shape and not p.tied
        else p
        for p in params
    )

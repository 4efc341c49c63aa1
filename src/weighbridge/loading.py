"""Stored tensors as a class sees them: which it loads, and what it must be where it is unknown.

Names in files and in blueprints differ by a prefix at most ("model.", "transformer."), once packed
tensors are read as the parameters that they hold. A file of which less than half is recognised
has names of its own; then nothing is told apart.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from weighbridge.arch.blueprint import Blueprint, Buffer, Kind, Param
from weighbridge.inventory import Part
from weighbridge.quantization.packed import logical
from weighbridge.tensors import Tensor

Split = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
Rename = Callable[[str], str]

# Running statistics: torch nn/modules/batchnorm.py registers them as buffers.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "inv_freq", "masked_bias")

# The kind of a stored parameter, from its name: the first that fits. Only quantization asks.
KINDS: tuple[tuple[str, Kind], ...] = (
    (r"bias$", "bias"),
    (r"norm|(^|\.)ln_|layrnorm|\.bn\d*\.", "norm"),
    (r"embed|(^|\.)w[tp]e\.|token_type|position", "embedding"),
    (r"experts\.\d+\.|_exps\.", "expert"),
    (r"experts", "experts"),
    (r"(router|gate|gate_inp)\.weight$", "router"),
)


def split(plan: Blueprint, part: Part) -> Split:
    """(loaded, not loaded), in the order of the files."""
    wanted = {p.name for p in plan.params} | {b.name for b in plan.buffers if b.persistent}
    found = logical(part.tensors, part.quantization)
    owners = {name: param.name for param in found.params for name in param.stored}
    rename = _rename(wanted, set(owners.values()))
    if rename is None:
        return part.tensors, ()
    loaded = wanted - {p.name for p in plan.params if p.tied}
    inside = [rename(owners.get(t.name, t.name)) in loaded for t in part.tensors]
    return (
        tuple(t for t, yes in zip(part.tensors, inside, strict=True) if yes),
        tuple(t for t, yes in zip(part.tensors, inside, strict=True) if not yes),
    )


def _rename(wanted: set[str], found: set[str]) -> Rename | None:
    """The prefix to add or to take off that makes most stored names the blueprint's own."""
    renames: list[Rename] = [
        lambda name: name,
        *(partial(add, head) for head in _heads(wanted)),
        *(partial(drop, head) for head in _heads(found)),
    ]
    counts = [len(wanted & set(map(rename, found))) for rename in renames]
    best = max(counts)
    return renames[counts.index(best)] if 2 * best >= len(found) else None


def add(head: str, name: str) -> str:
    return head + name


def drop(head: str, name: str) -> str:
    return name.removeprefix(head)


def _heads(names: set[str]) -> list[str]:
    return sorted({name.partition(".")[0] + "." for name in names if "." in name})


def from_stored(part: Part, cls: str, notes: list[str]) -> Blueprint:
    """The parameters behind the stored tensors of a class that is not in our tables."""
    found = logical(part.tensors, part.quantization)
    notes += found.notes
    dtypes = {t.name: t.dtype.name for t in part.tensors}
    params, buffers = [], []
    for param in found.params:
        if param.name.endswith(BUFFERS):
            dtype = dtypes.get(param.name, "float32")
            buffers.append(Buffer(param.name, param.shape, dtype, persistent=True))
        else:
            params.append(Param(param.name, param.shape, _kind(param.name, param.shape)))
    return Blueprint(
        cls=cls,
        params=tuple(params),
        buffers=tuple(buffers),
        blocks=tuple(dict.fromkeys(_blocks(p.name for p in params))),
    )


def _kind(name: str, shape: tuple[int, ...]) -> Kind:
    for pattern, kind in KINDS:
        if re.search(pattern, name):
            return kind
    if len(shape) == 2 and name.endswith("weight"):
        return "linear"
    return "conv" if 3 <= len(shape) <= 5 and name.endswith("weight") else "other"


def _blocks(names: Iterator[str]) -> Iterator[str]:
    """Repeated modules ("layers.3.mlp.weight" -> "layers.*"): assumed to be kept whole."""
    for name in names:
        found = re.match(r"(.*?)\.\d+\.", name)
        if found:
            yield f"{found[1]}.*"


def class_of(part: Part) -> str:
    """The class that the config or the pipeline names; what is known of the file otherwise."""
    config: Any = part.config or {}
    named = config.get("architectures") or [config.get("_class_name")]
    return str(part.cls or named[0] or config.get("model_type") or "unknown class")

"""Stored tensors as a class sees them: which it loads, and what it must be where it is unknown.

Names in files and in blueprints differ by what contains the model ("model.", "transformer.",
"language_model.") and by whether experts are stacked, once packed tensors are read as the
parameters that they hold. A file of which less than half is recognised has names of its own; then
nothing is told apart.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import compress
from operator import not_
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Blueprint, Buffer, Param
from weighbridge.models.arch.roles import expert, kind_of
from weighbridge.models.checkpoint import agreement
from weighbridge.models.checkpoint.inventory import StoredModel
from weighbridge.models.quantization.packed import flat, logical
from weighbridge.models.tensors import EXPERTS, CheckpointTensor, Counted, counted, one_by_one

Key = Callable[[str], str]
STACKED = {  # one expert's matrix -> the stack that holds it: transformers conversion_mapping.py
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
    "w1": "gate_up_proj",
    "w3": "gate_up_proj",
    "w2": "down_proj",
}

RENAMED = {  # how older checkpoints call what is now: transformers 5.23 conversion_mapping.py
    "LayerNorm.gamma": "LayerNorm.weight",
    "LayerNorm.beta": "LayerNorm.bias",
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
LEGACY_ENDS = tuple(RENAMED)
LEGACY = re.compile(r"\b(?:LayerNorm\.gamma|LayerNorm\.beta|weight_g|weight_v)$")

# Running statistics: torch nn/modules/batchnorm.py registers them as buffers.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "inv_freq", "masked_bias")

# Layouts (quantization/layouts.py) whose true shape is in the tensors' data, not in the headers.
MAX_EXPERTS = 65536  # experts of a layer
FLAT = frozenset({"bnb 4 bit", "hqq"})

MOST = 0.5  # fraction of a file's names that must be the class's
DIGITS = re.compile(r"\d+")


class LoadSplit(NamedTuple):
    """Stored tensors in file order, split by whether the class loads them. `counted`: the loaded
    ones, with equal experts once, if known."""

    loaded: tuple[CheckpointTensor, ...]
    unloaded: tuple[CheckpointTensor, ...] = ()
    counted: Counted | None = None


def split(plan: Blueprint, part: StoredModel, notes: list[str]) -> LoadSplit:
    """Return which stored tensors the class loads; append notes on disagreements to `notes`."""
    one = counted(part.tensors) if _alike(part) else one_by_one(part.tensors)
    stored = logical(one.first, part.quantization)
    distinct = plan.distinct()  # the experts of a layer are spelled alike
    tied = {p.name for p in plan.counted if p.tied}
    class_names = {p.name for p, _ in distinct} | {b.name for b in plan.buffers if b.persistent}
    key, share = _key(class_names | tied, {param.name for param in stored.params})
    by_name = {t.name: (t, count) for t, count in zip(one.first, one.copies, strict=True)}
    files = agreement.FilesSide(
        part.where,
        [
            agreement.StoredParam(
                p, tuple(by_name[name][0] for name in p.stored), by_name[p.stored[0]][1]
            )
            for p in stored.params
        ],
        key,
        part.quantization,
    )
    if stored.params and share < MOST:
        notes.append(agreement.strange(plan, files, share))
        return LoadSplit(part.tensors, (), one)
    notes += agreement.differences(plan, files)
    loaded = set(map(key, class_names - tied))
    owners = {name: key(param.name) for param in stored.params for name in param.stored}
    own_inside = [(owners.get(t.name) or key(t.name)) in loaded for t in one.first]
    inside = [own_inside[index] for index in one.stands]
    return LoadSplit(
        tuple(compress(part.tensors, inside)),
        tuple(compress(part.tensors, map(not_, inside))),
        one.only(own_inside),
    )


def _alike(part: StoredModel) -> bool:
    """Return whether all experts have one format, since MLX's configs may name one expert."""
    settings = flat(part.quantization or {})
    return not any(EXPERTS in name for name in settings)


def _key(wanted: set[str], stored: set[str]) -> tuple[Key, float]:
    """Return (function, fraction): a function that maps both spellings of a parameter's name to
    one, and the fraction of stored names that then match. The first rule with enough matches is
    used, else the last."""
    heads = {name.partition(".")[0] for name in wanted | stored}
    for dropped in (agreement.CONTAINERS, agreement.CONTAINERS | heads):
        key = cache(_speller(dropped))
        theirs = set(map(key, stored))
        share = len(theirs & set(map(key, wanted))) / max(1, len(theirs))
        if share >= MOST or not theirs:
            break
    return key, share


def _speller(dropped: frozenset[str]) -> Key:
    """Return a function that spells a parameter's name without the modules that only contain others
    (`dropped`), and with experts as one stack.

    model.language_model.layers.0.mlp.experts.3.w1.weight -> layers.0.mlp.experts.gate_up_proj
    """
    block, stack = cache(partial(_uncontained, dropped=dropped)), cache(_stacked)

    def spelled(name: str) -> str:
        if name.endswith(LEGACY_ENDS):
            name = LEGACY.sub(lambda match: RENAMED[match[0]], name)
        head, expert, tail = name.partition("experts.")
        if expert:  # 90,000 names have a few hundred heads and tails
            return block(head) + expert + stack(tail)
        return _uncontained(name, dropped)

    return spelled


def _uncontained(name: str, dropped: frozenset[str]) -> str:
    first, dot, inner = name.partition(".")
    while dot and first in dropped:
        name = inner
        first, dot, inner = name.partition(".")
    return name


def _stacked(tail: str) -> str:
    number, _, below = tail.partition(".")
    tail = (below if number.isdecimal() else tail).removesuffix(".weight")
    return STACKED.get(tail, tail)


def from_stored(part: StoredModel, cls: str, notes: list[str]) -> Blueprint:
    """Return the parameters of the stored tensors, for a class without a family."""
    stored = logical(part.tensors, part.quantization)
    notes += stored.notes
    if part.quantization is None and part.config is not None:
        notes += agreement.undeclared(stored.params)
    dtypes = {t.name: t.dtype.name for t in part.tensors}
    kinds = cache(kind_of)
    experts = _routed(part) or _experts(param.name for param in stored.params)
    params, buffers = [], []
    for param in stored.params:
        if not param.numel:  # left over by sharded training, no parameter
            continue
        if param.name.endswith(BUFFERS):
            dtype = dtypes.get(param.name, "float32")
            buffers.append(Buffer(param.name, param.shape, dtype, persistent=True))
        else:
            kind = kinds(DIGITS.sub("0", param.name), len(param.shape))
            kind = "flat" if param.format in FLAT else kind
            routed = experts if kind in ("expert", "experts") else (1, 1)
            params.append(Param(param.name, param.shape, kind, routed=routed))
    return Blueprint(
        cls=cls,
        params=tuple(params),
        buffers=tuple(buffers),
        blocks=tuple(dict.fromkeys(_blocks(p.name for p in params))),
    )


def _routed(part: StoredModel) -> tuple[int, int] | None:
    """Return (experts per token, experts) from a GGUF file's metadata, None without experts."""
    facts: Any = (part.config or {}).get("gguf", {})
    architecture = facts.get("general.architecture")
    used = facts.get(f"{architecture}.expert_used_count")
    count = facts.get(f"{architecture}.expert_count")
    if not isinstance(used, int) or not isinstance(count, int) or not count:
        return None
    if not 0 <= used <= count <= MAX_EXPERTS:
        raise BadFileError(sentence("gguf.experts_used", arch=architecture, used=used, count=count))
    return used, count


def _experts(names: Iterator[str]) -> tuple[int, int]:
    """Return (experts, experts) of a layer: files do not say how many a token uses, so all are
    assumed."""
    experts = (expert(name) for name in names)
    count = 1 + max((one.number for one in experts if one is not None and not one.word), default=0)
    return count, count


def _blocks(names: Iterator[str]) -> Iterator[str]:
    """Yield the repeated modules ("layers.3.mlp.weight" -> "layers.*"); it is assumed that they are
    never split."""
    for name in names:
        match = re.match(r"(.*?)\.\d+\.", name)
        if match:
            yield f"{match[1]}.*"


def class_of(part: StoredModel) -> str:
    """Return the class in the config or the pipeline's index; else the model type."""
    config: Any = part.config or {}
    named = config.get("architectures") or config.get("_class_name")
    first = named[0] if isinstance(named, list | tuple) and named else named
    return str(part.cls or first or config.get("model_type") or "unknown class")

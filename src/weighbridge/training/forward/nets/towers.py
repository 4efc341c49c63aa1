"""Towers of images and sounds, before the language model: their layers by their parameters alone
(rough.py), over the positions that one item has.

What they give joins the embeddings of the sequence (masked_scatter): a copy of these, and the
numbers that it took. Its gradient is there when the language model's backward is over.
"""

from collections.abc import Iterator

from weighbridge.base.dtypes import BOOL, FLOAT32
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.body import LayerBlock, Tower
from weighbridge.models.arch.mixers import Attention, CrossAttention
from weighbridge.models.arch.roles import below_number
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import rough
from weighbridge.training.forward.parts.layer import run
from weighbridge.training.forward.step import TrainingStep, Unshared
from weighbridge.training.forward.tensors import LeafTensor, Tensor

NAME = "towers"  # component of their activations
PROJECTED = 2  # tensors saved by a projector of two linears with an activation between them
PARTS = {"image": "vision tower", "audio": "audio tower"}


def outputs(s: TrainingStep) -> list[Tensor]:
    """Return the output of each encoder that the batch has items for. Raises UsageError if the
    items of a sequence have more tokens than it."""
    states = []
    with s.m.making(NAME):
        for tower in s.built.body.towers:
            count = s.items.get(tower.kind, 0)
            if count * tower.tokens > s.length and not _apart(s):
                raise UsageError(
                    sentence(
                        "items_beyond",
                        count=count,
                        kind=tower.kind,
                        tokens=count * tower.tokens,
                        length=s.length,
                    )
                )
            if count:
                states.append(_through(s, tower, count * s.batch))
    return states


def joined(s: TrainingStep, hidden: Tensor, states: list[Tensor]) -> Tensor:
    """Return the hidden states, with the encoders' outputs as further inputs in the graph."""
    if not states:
        return hidden
    with s.m.making(NAME):
        mask = s.m.new(hidden.shape, BOOL)
        copy = s.m.new(hidden.shape, hidden.dtype)
    return rough.touched(s.m, hidden, states, [mask, copy])


def _apart(s: TrainingStep) -> bool:
    """Return whether the model attends to images by cross-attention, not as tokens of the
    sequence."""
    mixers = (x for block in s.built.body.blocks for x in block.mixers)
    return any(isinstance(x, CrossAttention) for x in mixers)


def _through(s: TrainingStep, tower: Tower, count: int) -> Tensor:
    m, layers = s.m, list(_layers(s, tower))
    inside = replace(s, batch=count, length=tower.positions, padded=False, around=Unshared())
    pixels = [m.new((count, tower.positions, tower.patch), d) for d in (FLOAT32, s.dtype)]
    apart = [w for w in _params(s, tower) if not any(w.name.startswith(p.path) for p in layers)]
    x = rough.touched(m, m.new((count, tower.positions, tower.hidden), s.dtype), apart, pixels)
    block = LayerBlock(
        mixers=(
            (
                Attention(
                    heads=tower.heads,
                    kv_heads=tower.heads,
                    key_dim=tower.head_dim,
                    value_dim=tower.head_dim,
                    causal=False,
                )
            ),
        ),
        feeds=(tower.feed,),
    )
    for p, branches in zip(layers, rough.branches(s, layers), strict=True):
        x = run(inside, rough.layer, x, p, branches, block, None)
    x = rough.grown(m, [x], (count, tower.tokens, s.built.body.hidden))
    between = [m.new(x.shape, x.dtype) for _ in range(PROJECTED)]
    return rough.touched(m, x, [w for w in _of_part(s, "projector") if w.storage], between)


def _params(s: TrainingStep, tower: Tower) -> Iterator[LeafTensor]:
    return _of_part(s, PARTS[tower.kind])


def _of_part(s: TrainingStep, wanted: str) -> Iterator[LeafTensor]:
    return (w for n, w in s.built.params.items() if s.built.parts.get(n) == wanted)


def _layers(s: TrainingStep, tower: Tower) -> Iterator[Module]:
    """Return the modules of the list whose length is `tower.layers`."""
    stacks: dict[str, set[int]] = {}
    for w in _params(s, tower):
        place = below_number(w.name)
        if place is not None:
            stacks.setdefault(place.path, set()).add(place.number)
    path = max(stacks, key=lambda path: len(stacks[path]) == tower.layers, default="")
    return (s.built.root.at(f"{path}.{i}") for i in sorted(stacks.get(path, ())))

"""A step of a model, as far as memory depends on it: the widths of activations.

Layers in order, each with its mixers of tokens (`mixers.py`) and the MLPs after them; the head; the
encoder or the towers before the layers. Weights are in `blueprint.py` and caches in
`cache_layers.py`: this is what a batch of tokens passes through.

Letters: D hidden, F feed-forward, E experts, V vocabulary.
"""

from typing import Literal

from weighbridge.base.records import dataclass, frozen_record
from weighbridge.models.arch.mixers import Mixer
from weighbridge.models.arch.parts import Dense as Dense
from weighbridge.models.arch.parts import Experts as Experts
from weighbridge.models.arch.parts import Feed as Feed


@frozen_record
class LayerBlock:
    """One layer: mixers and MLPs. A Mamba layer has no MLP; a layer of Nemotron-H may be only an
    MLP."""

    mixers: tuple[Mixer, ...]
    feeds: tuple[Feed, ...] = ()
    query_rank: int = 0  # MLA: rank of the compressed queries; 0 without


@frozen_record
class Tower:
    """A vision or audio encoder. `positions`: its sequence length; `tokens`: the language model's
    tokens from it, in the input or by cross-attention; both per item of the requested size. Without
    `layers`, it is convolutions, of which only the sizes are known."""

    kind: Literal["image", "audio"]
    hidden: int
    heads: int
    head_dim: int
    layers: int
    feed: Feed
    positions: int
    tokens: int
    window: int | None = None  # positions that attend to each other, if not all do
    patch: int = 0  # elements in one position's input: 3 x 14 x 14
    at_once: int = 0  # positions computed together; 0: all items of a batch


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Body:
    """What a model computes in a step. `vocab`: rows of the head that makes logits, 0 without one;
    `labels`: outputs of another head (rerankers, classifiers).

    Without blocks, the layers are unknown: convolutions, pyramids of ever wider layers, a bare
    size. An `encoder` of sounds or images is one of `towers` too, which has its length.
    """

    hidden: int
    vocab: int
    blocks: tuple[LayerBlock, ...]
    labels: int = 0
    causal: bool = True  # False: every token attends to all others, and nothing is generated
    encoder: "Body | None" = None  # the blocks attend to its output
    towers: tuple[Tower, ...] = ()
    embeds: bool = False  # embedding models: one vector per input

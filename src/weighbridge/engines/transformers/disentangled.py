"""Attention of contents and positions apart: DeBERTa, whose scores have three parts.

    c2p    queries times keys of the A distances, [N, L, A], and picked from them, [N, L, L]
    p2c    keys times queries of the distances, the same

N sequences times heads, L tokens. Queries, keys and values are copied to have heads before tokens;
all that a function names lives to its end. The encoder returns the states of all its layers.

Source: transformers 5.23 models/deberta_v2/modeling_deberta_v2.py (DisentangledSelfAttention,
DebertaV2Encoder.forward).
"""

from weighbridge.arch.mixers import Attention
from weighbridge.components.activations import Heap, LiveTensor
from weighbridge.engines.transformers.step import Distances, ForwardStep, linear

NUMBERS = 8  # bytes of a distance


def disentangled(heap: Heap, s: ForwardStep, m: Attention, to: Distances) -> LiveTensor:
    """The output of one layer's attention."""
    width, cells = m.heads * m.key_dim, s.rows * m.heads * s.tokens * s.size
    three = [heap.into(s.wide(width), linear(heap, s, s.hidden, width)) for _ in range(3)]
    scores = heap.into(cells, heap.take(s.wide(width)))  # of keys that are scaled
    bias = _bias(heap, s, m, to, cells)
    total = heap.into(cells, scores)
    masks = heap.all([s.batch * s.tokens * s.tokens] * 2, "activations")
    masked = heap.into(cells, total)
    soft = heap.take(cells)
    made = heap.into(s.wide(width), heap.take(s.wide(width)))  # made contiguous
    heap.drop(soft, masked, *bias, *masks, *three)
    out = linear(heap, s, width, s.hidden)
    heap.drop(made)
    return out


def _bias(
    heap: Heap, s: ForwardStep, m: Attention, to: Distances, cells: int
) -> tuple[LiveTensor, ...]:
    """The sum of the parts; what it is made of goes."""
    embedded = s.size * s.batch * to.count * m.heads * m.key_dim
    places = heap.all([embedded] * to.parts, "activations")
    every = s.rows * m.heads * to.count * s.size
    held: list[LiveTensor] = list(places)
    score: tuple[LiveTensor, ...] = ()
    for _ in range(to.parts):
        product = heap.take(every)
        held.append(heap.into(NUMBERS * s.tokens * s.tokens, heap.take(NUMBERS * s.tokens**2)))
        held.append(heap.into(cells, product))  # what was picked
        scaled = heap.take(cells)
        score = score or (heap.take(cells),)
        heap.drop(scaled)
    heap.drop(*held)
    return score

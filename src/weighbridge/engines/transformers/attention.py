"""Attention as programs: what its tensors are, in order, and when each is let go.

    hidden (normed) -> q, k, v -> rotated q, k -> cache -> kernel -> output of the model's width

The normed input lives through all of it (the caller has it), the rotated queries through the
output projection (a local variable has them).

Source: transformers 4.37 to 5.23 models/llama/modeling_llama.py, models/qwen3/modeling_qwen3.py,
models/gpt2/modeling_gpt2.py, models/bart/modeling_bart.py.

Attention of contents and positions apart: DeBERTa, whose scores have three parts.

    c2p    queries times keys of the A distances, [N, L, A], and picked from them, [N, L, L]
    p2c    keys times queries of the distances, the same

N sequences times heads, L tokens. Queries, keys and values are copied to have heads before tokens;
all that a function names lives to its end. The encoder returns the states of all its layers.

Source: transformers 5.23 models/deberta_v2/modeling_deberta_v2.py (DisentangledSelfAttention,
DebertaV2Encoder.forward).
"""

from collections.abc import Mapping
from dataclasses import replace

from weighbridge.arch.body import LayerBlock
from weighbridge.arch.mixers import Attention, CrossAttention
from weighbridge.components.activations import Heap, LiveTensor
from weighbridge.engines.transformers.kernels import KernelHeads, attend
from weighbridge.engines.transformers.stage import (
    KV,
    Kept,
    attended,
    reached,
    remember,
)
from weighbridge.engines.transformers.step import Distances, ForwardStep, linear, norm, rotated


def attention(heap: Heap, s: ForwardStep, m: Attention, kept: Kept, mask: int) -> LiveTensor:
    """The output of one layer; `mask` is the elements of the mask that it is given."""
    if s.style.ungrouped and m.kv_heads > 1:
        fused, three = _for_all(heap, s, m)
        copied = replace(s, style=replace(s.style, fused_queries=False))
        out = _attended(heap, copied, replace(m, kv_heads=m.heads), kept, mask, three)
        heap.drop(fused)
        return out
    three, stays = _projected(heap, s, m)
    out = _attended(heap, s, m, kept, mask, three)
    heap.drop(*stays)
    return out


Three = tuple[LiveTensor, LiveTensor, LiveTensor]


def _attended(
    heap: Heap, s: ForwardStep, m: Attention, kept: Kept, mask: int, three: Three
) -> LiveTensor:
    queries, keys, values = three
    plain: tuple[LiveTensor, ...] = ()
    if s.style.rotary:
        plain = (queries, keys)
        queries, keys = _turned(heap, s, m, queries, keys)
        if not (s.style.fused_queries or s.style.wide_queries):  # GPT-J's variables hold views
            heap.drop(*plain)
            plain = ()
    sizes: tuple[int, ...] = (keys.nbytes, values.nbytes)
    keeps = m.causal and s.cache != "none"
    if keeps:
        sizes = remember(heap, s, kept, (keys, values), reach=m.reach)
        plain = (*plain, *_still_there(heap, s, three))
    made, *kept.scores = attend(heap, s, _heads(m, reached(s, m.reach), mask), *sizes[:2])
    if keeps:
        attended(heap, s, kept, m)
    out = linear(heap, s, m.heads * m.value_dim, s.hidden)
    heap.drop(made, queries, *plain)
    if not keeps:
        heap.drop(keys, values)
    elif s.prompt and s.style.fused_queries and not s.rules.copied_prompt:
        kept.behind = [heap.take(_hidden_behind(s, m), KV)]
    return out


def _still_there(heap: Heap, s: ForwardStep, three: Three) -> tuple[LiveTensor, ...]:
    """Queries, keys and values of one projection are views of it: what was copied to the cache is
    there to the end."""
    if not s.style.fused_queries or not (s.rules.copied_prompt or s.past) or s.cache != "dynamic":
        return ()
    views = three[2:] if s.style.rotary else three[1:]
    return heap.all((view.nbytes for view in views), "activations")


def _for_all(heap: Heap, s: ForwardStep, m: Attention) -> tuple[LiveTensor, Three]:
    """Falcon's groups: one projection, which stays, and what each head is given, copied from it."""
    fused = linear(heap, s, s.hidden, m.heads * m.key_dim + m.key_elements + m.value_elements)
    picked = heap.all((s.wide(m.key_elements), s.wide(m.value_elements)), "activations")
    each = [heap.take(s.wide(m.heads * m.key_dim)) for _ in range(3)]
    heap.drop(*picked)
    return fused, (each[0], each[1], each[2])


def _heads(m: Attention | CrossAttention, seen: int, mask: int) -> KernelHeads:
    return KernelHeads(
        count=m.heads,
        groups=m.heads // m.kv_heads,
        key_dim=m.key_dim,
        value_dim=m.value_dim,
        seen=seen,
        mask=mask,
        own=isinstance(m, Attention),
    )


def _hidden_behind(s: ForwardStep, m: Attention) -> int:
    """Cached values that are views keep the storage of the fused projection: the queries' part,
    and the keys' where rotary positions made new ones."""
    width = m.heads * m.key_dim + (m.key_elements if s.style.rotary else 0)
    return s.wide(width)


def _projected(heap: Heap, s: ForwardStep, m: Attention) -> tuple[Three, tuple[LiveTensor, ...]]:
    """Queries, keys and values; and what of one projection stays behind what is normed of it."""
    made, stays = [], []
    widths = (m.heads * m.key_dim, m.key_elements, m.value_elements)
    for i, width in enumerate(widths):
        plain = linear(heap, s, s.hidden, width)
        if s.style.query_norms and i < 2:
            normed = norm(heap, s, width)
            if s.style.fused_queries:
                stays.append(plain)
            else:
                heap.drop(plain)
            plain = normed
        made.append(plain)
    return (made[0], made[1], made[2]), tuple(stays)


def _turned(
    heap: Heap, s: ForwardStep, m: Attention, queries: LiveTensor, keys: LiveTensor
) -> tuple[LiveTensor, LiveTensor]:
    """Rotate queries and keys. Both results are made before the plain ones go: one function returns
    them together."""
    sizes, width = (queries.nbytes, keys.nbytes), s.style.turned
    wider = 4 // s.size if s.style.wide_rotary or s.style.float_rotary else 1
    if s.style.float_rotary and wider > 1:
        wide = heap.all((wider * n for n in sizes), "activations")
        made = [rotated(heap, held.nbytes) for held in wide]
        turned = [heap.into(n, held) for n, held in zip(sizes, made, strict=True)]
        heap.drop(*wide)
        return turned[0], turned[1]
    part = [n * width // m.key_dim if width else n for n in sizes]
    made = [rotated(heap, n, wider) for n in part]
    if wider > 1 or part != list(sizes):  # cast back, or joined with what has no position
        made = [heap.into(n, held) for n, held in zip(sizes, made, strict=True)]
    return made[0], made[1]


def cross(heap: Heap, s: ForwardStep, m: CrossAttention, kept: Kept) -> LiveTensor:
    """Keys and values of the encoder's states are made at the first step, and kept."""
    length = s.encoder if m.length is None else m.length
    queries = linear(heap, s, s.hidden, m.heads * m.key_dim)
    if not kept.tensors:
        rows = s.batch * length * s.size
        sizes = [rows * n for n in (m.key_elements, m.value_elements)]
        copied = s.rules.copied_prompt or s.cache == "static"
        plain = heap.all(sizes if copied else (), "activations")
        kept.tensors = list(heap.all(sizes, KV))
        heap.drop(*plain)
    keys, values = (held.nbytes for held in kept.tensors)
    made, *kept.scores = attend(heap, s, _heads(m, length, 0), keys, values)
    out = linear(heap, s, m.heads * m.value_dim, s.hidden)
    heap.drop(made, queries)
    return out


def queries_alone(
    heap: Heap, s: ForwardStep, block: LayerBlock, masks: Mapping[int | None, int]
) -> LiveTensor:
    """A layer that attends to what another stores: its own part is the queries."""
    own = next((m for m in block.mixers if isinstance(m, Attention)), None)
    width = own.heads * own.key_dim if own else s.hidden
    queries = linear(heap, s, s.hidden, width)
    turned = rotated(heap, queries.nbytes) if s.style.rotary else heap.take(0)
    made = heap.take(queries.nbytes)
    out = linear(heap, s, width, s.hidden)
    heap.drop(queries, turned, made)
    return out


# ---- disentangled


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

"""Attention as programs: what its tensors are, in order, and when each is let go.

    hidden (normed) -> q, k, v -> rotated q, k -> cache -> kernel -> output of the model's width

The normed input lives through all of it (the caller has it), the rotated queries through the
output projection (a local variable has them).

Source: transformers 4.37 to 5.23 models/llama/modeling_llama.py, models/qwen3/modeling_qwen3.py,
models/gpt2/modeling_gpt2.py, models/bart/modeling_bart.py.
"""

from collections.abc import Mapping

from weighbridge.arch.body import LayerBlock
from weighbridge.arch.mixers import Attention, CrossAttention
from weighbridge.components.activations import Heap, LiveTensor
from weighbridge.engines.transformers.keeping import (
    KV,
    Kept,
    attended,
    reached,
    remember,
)
from weighbridge.engines.transformers.kernels import KernelHeads, attend
from weighbridge.engines.transformers.step import ForwardStep, linear, norm, rotated


def attention(heap: Heap, s: ForwardStep, m: Attention, kept: Kept, mask: int) -> LiveTensor:
    """The output of one layer; `mask` is the elements of the mask that it is given."""
    queries, keys, values = _projected(heap, s, m)
    if s.style.rotary:
        queries, keys = _turned(heap, s, m, queries, keys)
    sizes: tuple[int, ...] = (keys.nbytes, values.nbytes)
    if m.causal:
        sizes = remember(heap, s, kept, (keys, values), reach=m.reach)
    made, *kept.scores = attend(heap, s, _heads(m, reached(s, m.reach), mask), *sizes[:2])
    if m.causal:
        attended(heap, s, kept, m)
    out = linear(heap, s, m.heads * m.value_dim, s.hidden)
    heap.drop(made, queries)
    if not m.causal:
        heap.drop(keys, values)
    elif s.prompt and s.style.fused_queries and not s.rules.copied_prompt:
        kept.behind = [heap.take(_hidden_behind(s, m), KV)]
    return out


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


def _projected(
    heap: Heap, s: ForwardStep, m: Attention
) -> tuple[LiveTensor, LiveTensor, LiveTensor]:
    """Queries, keys, values."""
    made = []
    widths = (m.heads * m.key_dim, m.key_elements, m.value_elements)
    for i, width in enumerate(widths):
        plain = linear(heap, s, s.hidden, width)
        if s.style.query_norms and i < 2:
            normed = norm(heap, s, width)
            heap.drop(plain)
            plain = normed
        made.append(plain)
    return made[0], made[1], made[2]


def _turned(
    heap: Heap, s: ForwardStep, m: Attention, queries: LiveTensor, keys: LiveTensor
) -> tuple[LiveTensor, LiveTensor]:
    """Rotate queries and keys. Both results are made before the plain ones go: one function returns
    them together."""
    first = rotated(heap, queries.nbytes)
    second = rotated(heap, keys.nbytes)
    heap.drop(queries, keys)
    return first, second


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

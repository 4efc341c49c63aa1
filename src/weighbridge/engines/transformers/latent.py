"""Multi-head latent attention, and DeepSeek-V4's compressed one, as programs.

Since 5.15 the cache has the latent, and every step expands it to keys and values of all heads for
the whole context; before, the expanded keys and values are made once and cached.

    hidden -> (small vector ->) queries H (nope + rotary)
    hidden -> r + rotary; its norm r -> cache -> H (nope + v), keys H (nope + rotary) beside it
    indexer   scores of its own heads with all keys in float32, twice at one time: what is not among
              the best is masked, so that sdpa is given a mask, and no flash kernel

Source: transformers 5.23 models/deepseek_v3/modeling_deepseek_v3.py (DeepseekV3Attention.forward,
expand_kv), and of 4.51; models/deepseek_v32/modeling_deepseek_v32.py (DeepseekV32Indexer);
models/deepseek_v4 (DeepseekV4Attention).
"""

from typing import NamedTuple

from weighbridge.arch.mixers import Compressed, Indexer, Latent
from weighbridge.components.activations import Heap, LiveTensor
from weighbridge.engines.transformers.kernels import KernelHeads, attend
from weighbridge.engines.transformers.stage import KV, Kept, attended, remember, stored
from weighbridge.engines.transformers.step import ForwardStep, linear, norm, rotated


def latent(
    heap: Heap, s: ForwardStep, m: Latent, kept: Kept, mask: int, query_rank: int
) -> LiveTensor:
    queries = _queries(heap, s, m, query_rank)
    both = linear(heap, s, s.hidden, m.rank + m.rotary)
    normed = norm(heap, s, m.rank)
    turned = rotated(heap, s.wide(m.heads * m.rotary))
    shared = rotated(heap, s.wide(m.rotary))
    small = Small(normed, shared, turned)
    run = _from_latent if s.rules.latent_cache else _expanded_first
    out = run(heap, s, m, kept, mask, small)
    heap.drop(queries, both)
    return out


def _picked(heap: Heap, s: ForwardStep, of: Indexer) -> tuple[LiveTensor, ...]:
    """Which keys are not among the best, and the mask with them. The product copies the keys for
    every query where there are several sequences (DeepseekV32Indexer.forward)."""
    cells, keys = 4 * s.rows * of.heads * s.context, 4 * s.batch * s.context * of.dim
    held = heap.all([s.wide(of.heads * of.dim), s.wide(of.dim)] * 2, "activations")
    wide = heap.all([4 * s.rows * of.heads * of.dim, keys], "activations")
    copies = heap.take(keys * s.tokens if s.batch > 1 else 0)
    scores = heap.take(cells)
    heap.drop(*wide, copies)
    scores = heap.into(cells, scores)  # scaled
    scores = heap.into(cells, scores)  # those below zero are zero
    heap.drop(heap.into(4 * s.rows * s.context, scores), *held)
    mask = s.rows * s.context
    return heap.all((mask, mask * (s.size if s.kernel == "eager" else 1)), "activations")


class Small(NamedTuple):
    """The latent, the rotated key of all heads, and the queries' rotated part."""

    latent: LiveTensor
    key: LiveTensor
    turned: LiveTensor


def _queries(heap: Heap, s: ForwardStep, m: Latent, rank: int) -> LiveTensor:
    width = m.heads * (m.nope + m.rotary)
    if not rank:
        return linear(heap, s, s.hidden, width)
    small = linear(heap, s, s.hidden, rank)
    normed = norm(heap, s, rank)
    heap.drop(small)
    made = linear(heap, s, rank, width)
    heap.drop(normed)
    return made


def _heads(s: ForwardStep, m: Latent, mask: int) -> KernelHeads:
    return KernelHeads(
        count=m.heads,
        groups=1,
        key_dim=m.nope + m.rotary,
        value_dim=m.value_dim,
        seen=s.context,
        mask=mask,
    )


def _attended(
    heap: Heap, s: ForwardStep, m: Latent, kept: Kept, mask: int, sizes: tuple[int, int]
) -> LiveTensor:
    masks = _picked(heap, s, m.indexer) if m.indexer is not None else ()
    mask = mask or s.rows * s.context * bool(masks)
    made, *kept.scores = attend(heap, s, _heads(s, m, mask), *sizes)
    out = linear(heap, s, m.heads * m.value_dim, s.hidden)
    heap.drop(made, *masks)
    return out


def _from_latent(
    heap: Heap, s: ForwardStep, m: Latent, kept: Kept, mask: int, small: Small
) -> LiveTensor:
    remember(heap, s, kept, (small.latent, small.key))
    queries = heap.take(s.wide(m.heads * (m.nope + m.rotary)))
    rows = s.batch * s.context * s.size * m.heads
    expanded = heap.take(rows * (m.nope + m.value_dim))
    keys = heap.take(rows * (m.nope + m.rotary))
    out = _attended(heap, s, m, kept, mask, (keys.nbytes, rows * m.value_dim))
    heap.drop(queries, small.turned, expanded, keys)
    return out


def _expanded_first(
    heap: Heap, s: ForwardStep, m: Latent, kept: Kept, mask: int, small: Small
) -> LiveTensor:
    """Values are a view of what the latent was expanded to, keys are made of two parts."""
    expanded = linear(heap, s, m.rank, m.heads * (m.nope + m.value_dim))
    heap.drop(small.latent)
    queries = heap.take(s.wide(m.heads * (m.nope + m.rotary)))
    keys = heap.take(s.wide(m.heads * (m.nope + m.rotary)))
    heap.drop(small.turned, small.key)
    values = heap.take(s.wide(m.heads * m.value_dim))
    heap.drop(expanded)
    sizes = remember(heap, s, kept, (keys, values))
    if s.prompt and not s.rules.copied_prompt:
        kept.behind = [heap.take(s.wide(m.heads * m.nope), KV)]
    out = _attended(heap, s, m, kept, mask, (sizes[0], sizes[1]))
    attended(heap, s, kept, m.expanded)
    heap.drop(queries)
    return out


def compressed(
    heap: Heap, s: ForwardStep, m: Compressed, kept: Kept, mask: int, query_rank: int
) -> LiveTensor:
    """Keys serve as values; groups of tokens stand behind the window as one."""
    small = linear(heap, s, s.hidden, query_rank or m.dim)
    queries = linear(heap, s, query_rank or s.hidden, m.heads * m.dim)
    turned = rotated(heap, s.wide(m.heads * m.dim))
    heap.drop(queries)
    one = linear(heap, s, s.hidden, m.dim)
    fresh = heap.take(stored(s, m).kv, KV)
    heap.drop(*kept.tensors, one)
    kept.tensors = [fresh]
    near = s.context if s.prompt else min(s.context, m.window)
    seen = near + (s.context // m.rate if m.rate > 1 else 0)
    keys = s.batch * seen * m.dim * s.size
    heads = KernelHeads(
        count=m.heads, groups=m.heads, key_dim=m.dim, value_dim=m.dim, seen=seen, mask=mask
    )
    made, *kept.scores = attend(heap, s, heads, keys, keys)
    out = linear(heap, s, m.heads * m.dim, s.hidden)
    heap.drop(made, turned, small)
    return out

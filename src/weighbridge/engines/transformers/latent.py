"""Multi-head latent attention (MLA), and DeepSeek-V4's compressed attention, as programs.

Since 5.15 the cache stores the latent, and every step expands it to keys and values of all heads
for the whole context; before, the expanded keys and values are made once and cached.

    hidden -> (small vector ->) queries H (nope + rotary)
    hidden -> r + rotary; its norm r -> cache -> H (nope + v), keys H (nope + rotary) beside it
    indexer   float32 scores of its own heads with all keys, twice at one time: all but the best
              are masked, so sdpa gets a mask, and no flash kernel

Source: transformers 5.23 models/deepseek_v3/modeling_deepseek_v3.py (DeepseekV3Attention.forward,
expand_kv), and of 4.51; models/deepseek_v32/modeling_deepseek_v32.py (DeepseekV32Indexer);
models/deepseek_v4 (DeepseekV4Attention).
"""

from weighbridge.base.records import NamedTuple
from weighbridge.engines.transformers.kernels import KernelHeads, attend
from weighbridge.engines.transformers.stage import KV, MixerCache, attended, remember, stored
from weighbridge.engines.transformers.step import ForwardStep, linear, norm, rotated
from weighbridge.memory.components.activations import Heap, LiveTensor
from weighbridge.models.arch.mixers import Compressed, Indexer, Latent


def latent(
    heap: Heap, step: ForwardStep, mixer: Latent, cache: MixerCache, mask: int, query_rank: int
) -> LiveTensor:
    queries = _queries(heap, step, mixer, query_rank)
    both = linear(heap, step, step.hidden, mixer.rank + mixer.rotary)
    normed = norm(heap, step, mixer.rank)
    factored = heap.take(step.wide(mixer.heads * mixer.nope) if step.style.scaled_latents else 0)
    turned = rotated(heap, step.wide(mixer.heads * mixer.rotary))
    shared = rotated(heap, step.wide(mixer.rotary))
    small = Small(normed, shared, turned)
    run = _from_latent if step.rules.latent_cache else _expanded_first
    out = run(heap, step, mixer, cache, mask, small)
    heap.drop(queries, both, factored)
    return out


def _picked(heap: Heap, step: ForwardStep, of: Indexer) -> tuple[LiveTensor, ...]:
    """Return the mask of all keys but the best. The product copies the keys for every query if
    there are several sequences (DeepseekV32Indexer.forward)."""
    cells, keys = 4 * step.rows * of.heads * step.context, 4 * step.batch * step.context * of.dim
    variables = heap.all([step.wide(of.heads * of.dim), step.wide(of.dim)] * 2, "activations")
    wide = heap.all([4 * step.rows * of.heads * of.dim, keys], "activations")
    copies = heap.take(keys * step.tokens if step.batch > 1 else 0)
    scores = heap.take(cells)
    heap.drop(*wide, copies)
    scores = heap.into(cells, scores)  # scaled
    scores = heap.into(cells, scores)  # those below zero are zero
    heap.drop(heap.into(4 * step.rows * step.context, scores), *variables)
    mask = step.rows * step.context
    return heap.all((mask, mask * (step.size if step.kernel == "eager" else 1)), "activations")


class Small(NamedTuple):
    """The latent, the rotated key shared by all heads, and the queries' rotated part."""

    latent: LiveTensor
    key: LiveTensor
    turned: LiveTensor


def _queries(heap: Heap, step: ForwardStep, mixer: Latent, rank: int) -> LiveTensor:
    width = mixer.heads * (mixer.nope + mixer.rotary)
    if not rank:
        return linear(heap, step, step.hidden, width)
    small = linear(heap, step, step.hidden, rank)
    normed = norm(heap, step, rank)
    heap.drop(small)
    out = linear(heap, step, rank, width)
    heap.drop(normed)
    return out


def _attended(
    heap: Heap,
    step: ForwardStep,
    mixer: Latent,
    cache: MixerCache,
    mask: int,
    sizes: tuple[int, int],
) -> LiveTensor:
    masks = _picked(heap, step, mixer.indexer) if mixer.indexer is not None else ()
    mask = mask or step.rows * step.context * bool(masks)
    output, *cache.scores = attend(
        heap,
        step,
        (
            KernelHeads(
                count=mixer.heads,
                groups=1,
                key_dim=mixer.nope + mixer.rotary,
                value_dim=mixer.value_dim,
                seen=step.context,
                mask=mask,
            )
        ),
        *sizes,
    )
    out = linear(heap, step, mixer.heads * mixer.value_dim, step.hidden)
    heap.drop(output, *masks)
    return out


def _from_latent(
    heap: Heap, step: ForwardStep, mixer: Latent, cache: MixerCache, mask: int, small: Small
) -> LiveTensor:
    remember(heap, step, cache, (small.latent, small.key))
    queries = heap.take(step.wide(mixer.heads * (mixer.nope + mixer.rotary)))
    rows = step.batch * step.context * step.size * mixer.heads
    expanded = heap.take(rows * (mixer.nope + mixer.value_dim))
    keys = heap.take(rows * (mixer.nope + mixer.rotary))
    out = _attended(heap, step, mixer, cache, mask, (keys.nbytes, rows * mixer.value_dim))
    heap.drop(queries, small.turned, expanded, keys)
    return out


def _expanded_first(
    heap: Heap, step: ForwardStep, mixer: Latent, cache: MixerCache, mask: int, small: Small
) -> LiveTensor:
    """Return the output if keys and values are expanded before caching. Values are a view of the
    expansion, keys are joined of two parts; its part without positions has a name, so it stays."""
    whole = linear(heap, step, mixer.rank, mixer.heads * (mixer.nope + mixer.value_dim))
    heap.drop(small.latent)
    queries = heap.take(step.wide(mixer.heads * (mixer.nope + mixer.rotary)))
    keys = heap.take(step.wide(mixer.heads * (mixer.nope + mixer.rotary)))
    heap.drop(small.turned, small.key, whole)
    nope = heap.take(step.wide(mixer.heads * mixer.nope))
    values = heap.take(step.wide(mixer.heads * mixer.value_dim))
    sizes = remember(heap, step, cache, (keys, values))
    stays: tuple[LiveTensor, ...] = ()
    if step.prompt and not step.rules.copied_prompt:
        cache.behind = [heap.rename(nope, KV)]
    else:
        stays = (nope, heap.take(step.wide(mixer.heads * mixer.value_dim)))
    out = _attended(heap, step, mixer, cache, mask, (sizes[0], sizes[1]))
    attended(heap, step, cache, mixer.expanded)
    heap.drop(queries, *stays)
    return out


def compressed(
    heap: Heap, step: ForwardStep, mixer: Compressed, cache: MixerCache, mask: int, query_rank: int
) -> LiveTensor:
    """Return the output; keys serve as values, groups of tokens before the window as one."""
    small = linear(heap, step, step.hidden, query_rank or mixer.dim)
    queries = linear(heap, step, query_rank or step.hidden, mixer.heads * mixer.dim)
    turned = rotated(heap, step.wide(mixer.heads * mixer.dim))
    heap.drop(queries)
    one = linear(heap, step, step.hidden, mixer.dim)
    fresh = heap.take(stored(step, mixer).kv, KV)
    heap.drop(*cache.tensors, one)
    cache.tensors = [fresh]
    near = step.context if step.prompt else min(step.context, mixer.window)
    seen = near + (step.context // mixer.rate if mixer.rate > 1 else 0)
    keys = step.batch * seen * mixer.dim * step.size
    heads = KernelHeads(
        count=mixer.heads,
        groups=mixer.heads,
        key_dim=mixer.dim,
        value_dim=mixer.dim,
        seen=seen,
        mask=mask,
    )
    output, *cache.scores = attend(heap, step, heads, keys, keys)
    out = linear(heap, step, mixer.heads * mixer.dim, step.hidden)
    heap.drop(output, turned, small)
    return out

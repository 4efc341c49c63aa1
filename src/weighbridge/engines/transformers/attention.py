"""Attention as programs: its tensors, in order, and when each is freed.

    usual       hidden (normed) -> q, k, v -> rotated q, k -> cache -> kernel -> output of the
                model's width. The normed input lives through all of it (the caller has it), the
                rotated queries through the output projection (a local variable has them)
    DeBERTa     contents and positions apart: scores in three parts, of N sequences times heads and
                L tokens. c2p are queries times keys of the A distances, [N, L, A], and picked from
                them, [N, L, L]; p2c keys times queries of the distances, the same. Queries, keys
                and values are copied to have heads before tokens; local variables live to the end
                of a function. The encoder returns the states of all its layers
    JetMoE      by experts: each expert of a token has its own queries, over the same keys and
                values, which are copied for all of them; the same experts project the output

Source: transformers 4.37 to 5.23 models/llama/modeling_llama.py, models/qwen3/modeling_qwen3.py,
models/gpt2/modeling_gpt2.py, models/bart/modeling_bart.py; 5.23
models/deberta_v2/modeling_deberta_v2.py (DisentangledSelfAttention, DebertaV2Encoder.forward),
models/jetmoe/modeling_jetmoe.py (JetMoeAttention.forward, JetMoeMoA).
"""

from collections.abc import Mapping

from weighbridge.base.records import replace
from weighbridge.engines.transformers.kernels import KernelHeads, attend
from weighbridge.engines.transformers.stage import KV, MixerCache, attended, reached, remember
from weighbridge.engines.transformers.step import Distances, ForwardStep, linear, norm, rotated
from weighbridge.memory.components.activations import Heap, LiveTensor
from weighbridge.models.arch.body import Experts, LayerBlock
from weighbridge.models.arch.mixers import Attention, CrossAttention


def attention(
    heap: Heap, step: ForwardStep, mixer: Attention, cache: MixerCache, mask: int
) -> LiveTensor:
    """Return the output of one attention layer; `mask`: elements of its mask."""
    if step.style.ungrouped and mixer.kv_heads > 1:
        fused, three = _for_all(heap, step, mixer)
        copied = replace(step, style=replace(step.style, fused_queries=False))
        out = _attended(heap, copied, replace(mixer, kv_heads=mixer.heads), cache, mask, three)
        heap.drop(fused)
        return out
    three, stays = _projected(heap, step, mixer)
    out = _attended(heap, step, mixer, cache, mask, three)
    heap.drop(*stays)
    return out


Three = tuple[LiveTensor, LiveTensor, LiveTensor]


def _attended(
    heap: Heap, step: ForwardStep, mixer: Attention, cache: MixerCache, mask: int, three: Three
) -> LiveTensor:
    queries, keys, values = three
    plain: tuple[LiveTensor, ...] = ()
    if step.style.rotary:
        plain = (queries, keys)
        queries, keys = _turned(heap, step, mixer, queries, keys)
        if not (step.style.fused_queries or step.style.wide_queries):  # GPT-J holds views
            heap.drop(*plain)
            plain = ()
    sizes: tuple[int, ...] = (keys.nbytes, values.nbytes)
    keeps = mixer.causal and step.cache != "none"
    if keeps:
        sizes = remember(heap, step, cache, (keys, values), reach=mixer.reach)
        plain = (*plain, *_still_there(heap, step, three))
    output, *cache.scores = attend(
        heap, step, _heads(mixer, reached(step, mixer.reach), mask), *sizes[:2]
    )
    if keeps:
        attended(heap, step, cache, mixer)
    out = linear(heap, step, mixer.heads * mixer.value_dim, step.hidden)
    heap.drop(output, queries, *plain)
    if not keeps:
        heap.drop(keys, values)
    elif step.prompt and step.style.fused_queries and not step.rules.copied_prompt:
        cache.behind = [heap.take(_hidden_behind(step, mixer), KV)]
    return out


def _still_there(heap: Heap, step: ForwardStep, three: Three) -> tuple[LiveTensor, ...]:
    """Return copies that live to the end: queries, keys and values of one projection are views of
    it, so what was copied to the cache stays."""
    if (
        not step.style.fused_queries
        or not (step.rules.copied_prompt or step.past)
        or step.cache != "dynamic"
    ):
        return ()
    views = three[2:] if step.style.rotary else three[1:]
    return heap.all((view.nbytes for view in views), "activations")


def _for_all(heap: Heap, step: ForwardStep, mixer: Attention) -> tuple[LiveTensor, Three]:
    """Return Falcon's fused projection, which stays, and each head's copies from it."""
    fused = linear(
        heap,
        step,
        step.hidden,
        mixer.heads * mixer.key_dim + mixer.key_elements + mixer.value_elements,
    )
    picked = heap.all(
        (step.wide(mixer.key_elements), step.wide(mixer.value_elements)), "activations"
    )
    each = [heap.take(step.wide(mixer.heads * mixer.key_dim)) for _ in range(3)]
    heap.drop(*picked)
    return fused, (each[0], each[1], each[2])


def _heads(attention: Attention | CrossAttention, seen: int, mask: int) -> KernelHeads:
    return KernelHeads(
        count=attention.heads,
        groups=attention.heads // attention.kv_heads,
        key_dim=attention.key_dim,
        value_dim=attention.value_dim,
        seen=seen,
        mask=mask,
        own=isinstance(attention, Attention),
    )


def _hidden_behind(step: ForwardStep, mixer: Attention) -> int:
    """Return the bytes that cached values keep alive as views of the fused projection: the queries'
    part, and the keys' if rotary positions made new ones."""
    width = mixer.heads * mixer.key_dim + (mixer.key_elements if step.style.rotary else 0)
    return step.wide(width)


def _projected(
    heap: Heap, step: ForwardStep, mixer: Attention
) -> tuple[Three, tuple[LiveTensor, ...]]:
    """Return queries, keys and values; and the projections that stay behind their normed copies."""
    out, stays = [], []
    widths = (mixer.heads * mixer.key_dim, mixer.key_elements, mixer.value_elements)
    for i, width in enumerate(widths):
        plain = linear(heap, step, step.hidden, width)
        if step.style.query_norms and i < 2:
            normed = norm(heap, step, width)
            if step.style.fused_queries:
                stays.append(plain)
            else:
                heap.drop(plain)
            plain = normed
        out.append(plain)
    return (out[0], out[1], out[2]), tuple(stays)


def _turned(
    heap: Heap, step: ForwardStep, mixer: Attention, queries: LiveTensor, keys: LiveTensor
) -> tuple[LiveTensor, LiveTensor]:
    """Return queries and keys after rotary embedding. Both are made before the plain ones are
    freed: one function returns them together."""
    sizes, width = (queries.nbytes, keys.nbytes), step.style.turned
    wider = 4 // step.size if step.style.wide_rotary or step.style.float_rotary else 1
    if step.style.float_rotary and wider > 1:
        wide = heap.all((wider * n for n in sizes), "activations")
        out = [rotated(heap, tensor.nbytes) for tensor in wide]
        turned = [heap.into(n, tensor) for n, tensor in zip(sizes, out, strict=True)]
        heap.drop(*wide)
        return turned[0], turned[1]
    part = [n * width // mixer.key_dim if width else n for n in sizes]
    out = [rotated(heap, n, wider) for n in part]
    if wider > 1 or part != list(sizes):  # cast back, or joined with what has no position
        out = [heap.into(n, tensor) for n, tensor in zip(sizes, out, strict=True)]
    return out[0], out[1]


def cross(heap: Heap, step: ForwardStep, mixer: CrossAttention, cache: MixerCache) -> LiveTensor:
    """Return cross attention's output; the encoder's keys and values are made once, and kept."""
    length = step.encoder if mixer.length is None else mixer.length
    queries = linear(heap, step, step.hidden, mixer.heads * mixer.key_dim)
    if not cache.tensors:
        rows = step.batch * length * step.size
        sizes = [rows * n for n in (mixer.key_elements, mixer.value_elements)]
        copied = step.rules.copied_prompt or step.cache == "static"
        plain = heap.all(sizes if copied else (), "activations")
        cache.tensors = list(heap.all(sizes, KV))
        heap.drop(*plain)
    keys, values = (tensor.nbytes for tensor in cache.tensors)
    output, *cache.scores = attend(heap, step, _heads(mixer, length, 0), keys, values)
    out = linear(heap, step, mixer.heads * mixer.value_dim, step.hidden)
    heap.drop(output, queries)
    return out


def queries_alone(
    heap: Heap, step: ForwardStep, block: LayerBlock, masks: Mapping[int | None, int]
) -> LiveTensor:
    """Return the output of a layer that attends to another's cache: only queries are its own."""
    mixer = next((m for m in block.mixers if isinstance(m, Attention)), None)
    width = mixer.heads * mixer.key_dim if mixer else step.hidden
    queries = linear(heap, step, step.hidden, width)
    turned = rotated(heap, queries.nbytes) if step.style.rotary else heap.take(0)
    output = heap.take(queries.nbytes)
    out = linear(heap, step, width, step.hidden)
    heap.drop(queries, turned, output)
    return out


# ---- by experts


def by_experts(
    heap: Heap, step: ForwardStep, mixer: Attention, cache: MixerCache, mask: int, experts: Experts
) -> LiveTensor:
    """Return the output of a JetMoE attention layer; local variables live to a function's end."""
    pairs, inner = step.rows * mixer.heads // mixer.kv_heads, mixer.key_elements
    routes = heap.all((8 * pairs, 8 * pairs, pairs * step.size), "activations")
    logits = heap.take(4 * step.rows * experts.count)
    plain = _summed(heap, step, pairs, pairs, (step.hidden, inner))
    both = heap.take(step.wide(mixer.key_elements + mixer.value_elements))  # keys, values: views
    queries = rotated(heap, plain.nbytes)
    keys = rotated(heap, step.wide(mixer.key_elements))
    heap.drop(plain)
    sizes: tuple[int, ...] = (keys.nbytes, step.wide(mixer.value_elements))
    keeps = mixer.causal and step.cache != "none"
    if keeps:
        sizes = remember(heap, step, cache, (keys, heap.take(sizes[1])), reach=mixer.reach)
    copies = heap.all((experts.top_k * nbytes for nbytes in sizes), "activations")
    heads = replace(mixer, kv_heads=mixer.heads)
    output, *cache.scores = attend(
        heap,
        step,
        _heads(heads, reached(step, mixer.reach), mask),
        copies[0].nbytes,
        copies[1].nbytes,
    )
    if keeps:
        attended(heap, step, cache, mixer)
    heap.drop(both)
    out = _summed(heap, step, pairs, step.rows, (inner, step.hidden))
    heap.drop(output, queries, *(() if keeps else (keys,)), *copies, *routes, logits)
    return out


def _summed(
    heap: Heap, step: ForwardStep, pairs: int, rows: int, widths: tuple[int, int]
) -> LiveTensor:
    """Run the inputs of `pairs` of token and expert through one linear per expert, and join the
    results; they are added to zeros with `rows` rows."""
    inputs, outputs = (pairs * width * step.size for width in widths)
    gathered = heap.take(inputs)
    variables = [gathered, heap.into(outputs, heap.take(outputs))]
    if rows < pairs:  # back to tokens, weighted, beside the caller's variables
        variables.append(heap.take(outputs))
    zeros = heap.take(rows * widths[1] * step.size)
    out = heap.take(zeros.nbytes)
    heap.drop(*variables, zeros)
    return out


# ---- disentangled


NUMBERS = 8  # bytes per distance


def disentangled(heap: Heap, step: ForwardStep, mixer: Attention, to: Distances) -> LiveTensor:
    """Run the attention of one DeBERTa layer and return its output."""
    width, cells = mixer.heads * mixer.key_dim, step.rows * mixer.heads * step.tokens * step.size
    three = [heap.into(step.wide(width), linear(heap, step, step.hidden, width)) for _ in range(3)]
    scores = heap.into(cells, heap.take(step.wide(width)))  # of keys that are scaled
    bias = _bias(heap, step, mixer, to, cells)
    total = heap.into(cells, scores)
    masks = heap.all([step.batch * step.tokens * step.tokens] * 2, "activations")
    masked = heap.into(cells, total)
    soft = heap.take(cells)
    output = heap.into(step.wide(width), heap.take(step.wide(width)))  # made contiguous
    heap.drop(soft, masked, *bias, *masks, *three)
    out = linear(heap, step, width, step.hidden)
    heap.drop(output)
    return out


def _bias(
    heap: Heap, step: ForwardStep, mixer: Attention, to: Distances, cells: int
) -> tuple[LiveTensor, ...]:
    """Return the sum of the bias's parts; its inputs are freed."""
    embedded = step.size * step.batch * to.count * mixer.heads * mixer.key_dim
    places = heap.all([embedded] * to.parts, "activations")
    every = step.rows * mixer.heads * to.count * step.size
    variables: list[LiveTensor] = list(places)
    score: tuple[LiveTensor, ...] = ()
    for _ in range(to.parts):
        product = heap.take(every)
        variables.append(
            heap.into(NUMBERS * step.tokens * step.tokens, heap.take(NUMBERS * step.tokens**2))
        )
        variables.append(heap.into(cells, product))  # what was picked
        scaled = heap.take(cells)
        score = score or (heap.take(cells),)
        heap.drop(scaled)
    heap.drop(*variables)
    return score

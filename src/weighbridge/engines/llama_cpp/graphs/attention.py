"""Attention as in llama.cpp's graphs: storing keys and values, scores, and the output.

    flash attention      one node, of queries x values' width; needs a 16-bit mask
    without              scores of heads x tokens x cells in 32 bits, and their softmax in place
    no cache             an encoder: keys and values of the step itself

Source: llama.cpp 0c1e57098 src/llama-graph.cpp (build_attn, build_attn_mha), llama-kv-cache.cpp
(cpy_k, cpy_v, get_k, get_v).

Multi-head latent attention: absorbed into one shared key of rank + rotary, or as full heads.

    absorbed     queries projected to the compressed space; the cache is key and value at once
    full heads   files from before llama.cpp split kv_b: keys and values of all heads are stored

Source: llama.cpp 0c1e57098 src/models/deepseek2.cpp; b4905 src/llama-model.cpp
(llm_build_deepseek2).
"""

from weighbridge.base.records import frozen_record
from weighbridge.base.units import MIB
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import F16, F32, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.build import Build
from weighbridge.models.arch.mixers import Attention, Latent


@frozen_record
class CacheHeads:
    """Key-value heads of one layer's cache, and the sizes of their keys and values."""

    kv: int
    key: int
    value: int
    near: bool = False  # sliding window: the smaller cache
    latent: bool = False  # values are the first part of the keys
    layer: int = 0
    owner: int | None = None  # the layer whose cache it reads, where that is another


def attend(
    build: Build, heads: CacheHeads, q: GgmlTensor, k: GgmlTensor | None, v: GgmlTensor | None
) -> GgmlTensor:
    """Store keys and values; return attention over the cache, [all heads' values, tokens]."""
    q, k, v, back = rotated(build, heads, q, k, v)
    order = (q, v, k) if build.step.rules.keys_last else (q, k, v)
    build.graph.expand(*(t for t in order if t is not None))
    store(build, heads, k, v)
    keys = cached_keys(build, heads)
    values = latent_values(keys, heads) if heads.latent else cached_values(build, heads)
    out = scores(build, q, keys, values, build.mask(heads.near), heads.layer)
    if back is not None:
        out = hadamard(out, back)
    return out


def store(build: Build, heads: CacheHeads, k: GgmlTensor | None, v: GgmlTensor | None) -> None:
    if k is not None:
        build.graph.expand(stored_keys(build, heads, k))
    if v is not None and not heads.latent:
        build.graph.expand(stored_values(build, heads, v))


def stored_keys(build: Build, heads: CacheHeads, k: GgmlTensor) -> GgmlTensor:
    cache = build.cache(heads.layer, "k", heads.kv * heads.key, heads.near)
    if not build.step.rules.set_rows:
        return g.into(k, g.view(cache, (build.step.tokens * heads.kv * heads.key,)))
    rows = g.view(k, (heads.kv * heads.key, build.step.tokens), (k.nb[2],))
    return g.set_rows(merged_streams(build, cache), rows, build.rows_of("k", heads.near))


def merged_streams(build: Build, cache: GgmlTensor) -> GgmlTensor:
    if build.step.streams == 1:
        return cache
    return g.reshape(cache, cache.ne[0], cache.ne[1] * cache.ne[2])


def stored_values(build: Build, heads: CacheHeads, v: GgmlTensor) -> GgmlTensor:
    width, tokens = heads.kv * heads.value, build.step.tokens
    cache = build.cache(heads.layer, "v", width_of_values(build, heads), heads.near)
    if not build.step.rules.set_rows:
        return old_values(build, heads, v, cache)
    if build.step.flash:
        rows = g.view(v, (width, tokens), (v.nb[2],))
        return g.set_rows(merged_streams(build, cache), rows, build.rows_of("v", heads.near))
    flat = g.reshape(v, width, tokens) if g.merged(v) else g.cont(v, width, tokens)
    if width < cache.ne[0]:
        flat = g.made("pad", (cache.ne[0], tokens), flat)
    single = g.reshape(cache, 1, g.elements(cache))
    ids = build.rows_of("v", heads.near, cache.ne[0])
    return g.set_rows(single, g.reshape(flat, 1, g.elements(flat)), ids)


def old_values(build: Build, heads: CacheHeads, v: GgmlTensor, cache: GgmlTensor) -> GgmlTensor:
    """Return the node that stores values in builds before rows were stored by number: a copy to the
    cells in order, transposed without flash attention."""
    width, tokens = heads.kv * heads.value, build.step.tokens
    flat = g.reshape(v, width, tokens)
    if build.step.flash:
        return g.into(flat, g.view(cache, (width * tokens,)))
    target = g.view(cache, (tokens, width), (cache.dtype.nbytes * cache.ne[1],))
    return g.into(g.transpose(flat), target)


def width_of_values(build: Build, heads: CacheHeads) -> int:
    """Return the width of cached values. Without flash attention all layers have the widest
    (TAG_V_CACHE_VARIABLE)."""
    width = heads.kv * heads.value
    return width if build.step.flash else max(width, build.widest)


def cached_keys(build: Build, heads: CacheHeads) -> GgmlTensor:
    owner = heads.layer if heads.owner is None else heads.owner
    cache = build.cache(owner, "k", heads.kv * heads.key, heads.near)
    row = cache.dtype.size(heads.key)
    ne = (heads.key, heads.kv, cache.ne[1], build.step.streams)
    return g.view(cache, ne, (row, cache.nb[1], cache.nb[2]))


def cached_values(build: Build, heads: CacheHeads) -> GgmlTensor:
    owner = heads.layer if heads.owner is None else heads.owner
    cache = build.cache(owner, "v", width_of_values(build, heads), heads.near)
    cells, streams = cache.ne[1], build.step.streams
    if build.step.flash:
        row = cache.dtype.size(heads.value)
        ne = (heads.value, heads.kv, cells, streams)
        return g.view(cache, ne, (row, cache.nb[1], cache.nb[2]))
    row = cache.dtype.size(cells)
    return g.view(
        cache, (cells, heads.kv, heads.value, streams), (row * heads.value, row, cache.nb[2])
    )


def latent_values(keys: GgmlTensor, heads: CacheHeads) -> GgmlTensor:
    return g.view(keys, (heads.value, *keys.ne[1:]), keys.nb[1:])


def scores(
    build: Build, q: GgmlTensor, k: GgmlTensor, v: GgmlTensor, mask: GgmlTensor, layer: int
) -> GgmlTensor:
    turned = v.nb[1] > v.nb[2]
    streams = k.ne[3]
    per = q.ne[2] // streams
    q = g.view(q, (q.ne[0], q.ne[1], per, streams), (q.nb[1], q.nb[2], q.nb[2] * per))
    q, k, v = (g.permute(t, 0, 2, 1, 3) for t in (q, k, v))
    if build.step.flash:
        return _flash(build, q, k, v, mask, layer)
    if not turned:
        v = g.cont(g.transpose(v))
    if in_turns(build, k, q):
        kqv = head_by_head(build, q, k, v, mask)
    else:
        kqv = g.mul_mat(v, softened(build, g.mul_mat(k, q), mask))
    kqv = _expanded(build, kqv, layer)
    out = g.permute(kqv, 0, 2, 1, 3)
    out = g.cont(out, out.ne[0] * out.ne[1], out.ne[2] * out.ne[3])
    if not build.placement.cache_offload:
        out.backend = build.placement.host
    build.graph.expand(out)
    return out


def _flash(
    build: Build, q: GgmlTensor, k: GgmlTensor, v: GgmlTensor, mask: GgmlTensor, layer: int
) -> GgmlTensor:
    k, v = (g.cast(t, F16) if t.dtype is F32 else t for t in (k, v))
    sinks = build.of(layer, "attn_sinks")
    out = g.flash(q, k, v, mask, *([sinks] if sinks is not None else []))
    up = _up(build, layer)
    if up is not None:
        out = g.permute(out, 0, 2, 1, 3)
        out = g.cont(g.permute(g.mul_mat(up, out), 0, 2, 1, 3))
    out = g.reshape(out, out.ne[0] * out.ne[1], out.ne[2] * out.ne[3])
    build.graph.expand(out)
    return out


def _up(build: Build, layer: int) -> GgmlTensor | None:
    """Return MLA's matrix from compressed KV to each head's values, None for other layers."""
    latent = any(isinstance(m, Latent) for m in build.net.layers[layer].mixers)
    return build.of(layer, "attn_v_b") if latent else None


def _expanded(build: Build, kqv: GgmlTensor, layer: int) -> GgmlTensor:
    up = _up(build, layer)
    return kqv if up is None else g.mul_mat(up, kqv)


def softened(build: Build, kq: GgmlTensor, mask: GgmlTensor) -> GgmlTensor:
    if not build.net.softcap:
        return g.like("soft_max", kq, mask)
    if build.step.rules.fused:
        return g.like("soft_cap_max", kq, mask)
    return g.like("soft_max", g.like("scale", g.like("unary", g.like("scale", kq))), mask)


# ik_llama.cpp: scores of more than -amb MiB are computed one head at a time


def in_turns(build: Build, k: GgmlTensor, q: GgmlTensor) -> bool:
    if not build.step.largest_batch or k.ne[2] != q.ne[2]:
        return False
    return mib(k.ne[1] * q.ne[1] * q.ne[2] * F32.nbytes) > build.step.largest_batch


def mib(size: int) -> int:
    return size // MIB


def head_by_head(
    build: Build, q: GgmlTensor, k: GgmlTensor, v: GgmlTensor, mask: GgmlTensor
) -> GgmlTensor:
    total: GgmlTensor | None = None
    for _ in range(q.ne[2]):
        q1, k1, v1 = (g.view(t, (*t.ne[:2], 1), t.nb[1:3]) for t in (q, k, v))
        one = g.mul_mat(v1, softened(build, g.mul_mat(k1, q1), mask))
        total = one if total is None else g.concat(total, one, 2)
    assert total is not None
    return total


# A quantized cache is rotated by a Hadamard matrix first


def rotated(
    build: Build, heads: CacheHeads, q: GgmlTensor, k: GgmlTensor | None, v: GgmlTensor | None
) -> tuple[GgmlTensor, GgmlTensor | None, GgmlTensor | None, GgmlTensor | None]:
    if not build.step.rules.rotates_cache:
        return q, k, v, None
    keys = _rotation(build, "k", heads.key, heads.near) if build.step.type_k.block > 1 else None
    if keys is not None and not heads.latent:
        q = hadamard(q, keys)
        k = hadamard(k, keys) if k is not None else None
    values = _rotation(build, "v", heads.value, heads.near) if build.step.type_v.block > 1 else None
    if values is None or heads.latent:
        return q, k, v, None
    return q, k, hadamard(v, values) if v is not None else None, values


def _rotation(build: Build, kind: str, size: int, near: bool) -> GgmlTensor | None:
    if size % 64:
        return None
    side = 64
    while kind == "k" and size % (2 * side) == 0:
        side *= 2
    return build.entry(f"{kind}_rot{near}", g.entry(F32, side, side))


def hadamard(t: GgmlTensor, matrix: GgmlTensor) -> GgmlTensor:
    side = matrix.ne[0]
    flat = g.reshape(t, side, g.elements(t) // side)
    return g.reshape(g.mul_mat(matrix, flat), *t.ne)


# MLA


def latent_queries(build: Build, layer: int, x: GgmlTensor, size: int, heads: int) -> GgmlTensor:
    if build.of(layer, "attn_q_a") is not None:
        x = build.norm(
            build.linear(layer, "attn_q_a", x), build.of(layer, "attn_q_a_norm"), None, layer
        )
        q = build.linear(layer, "attn_q_b", x)
    else:
        q = build.linear(layer, "attn_q", x)
    return g.reshape(q, size, heads, q.ne[1])


def compressed(
    build: Build, layer: int, x: GgmlTensor, rank: int, rotary: int
) -> tuple[GgmlTensor, GgmlTensor]:
    """Return (compressed KV, its rotary part) of all tokens."""
    both = build.linear(layer, "attn_kv_a_mqa", x)
    small = g.view(both, (rank, x.ne[1]), (both.nb[1],))
    turned = build.rope(g.view(both, (rotary, 1, x.ne[1]), (both.nb[1], both.nb[1])))
    norm = build.of(layer, "attn_kv_a_norm")
    return build.norm(small, norm, None, layer), turned


def absorbed(build: Build, layer: int, sizes: Latent, x: GgmlTensor) -> GgmlTensor:
    tokens = x.ne[1]
    q = latent_queries(build, layer, x, sizes.nope + sizes.rotary, sizes.heads)
    latent, turned = compressed(build, layer, x, sizes.rank, sizes.rotary)
    plain = g.view(q, (sizes.nope, sizes.heads, tokens), q.nb[1:3])
    rotated = build.rope(g.view(q, (sizes.rotary, sizes.heads, tokens), q.nb[1:3]))
    wide = g.mul_mat(build.must(layer, "attn_k_b"), g.permute(plain, 0, 2, 1, 3))
    wide = g.permute(wide, 0, 2, 1, 3)
    value = g.reshape(latent, sizes.rank, 1, tokens)
    pair = (rotated, wide) if build.step.rules.rotary_first else (wide, rotated)
    query = g.concat(pair[0], pair[1], 0)
    pair = (turned, value) if build.step.rules.rotary_first else (value, turned)
    key = g.concat(pair[0], pair[1], 0)
    once = not build.step.rules.latent_values
    h = CacheHeads(kv=1, key=sizes.rank + sizes.rotary, value=sizes.rank, latent=once, layer=layer)
    return build.linear(layer, "attn_output", attend(build, h, query, key, value))


def full_heads(build: Build, layer: int, attention: Attention, x: GgmlTensor) -> GgmlTensor:
    rotary = build.net.rotary
    nope, tokens = attention.key_dim - rotary, x.ne[1]
    q = latent_queries(build, layer, x, attention.key_dim, attention.heads)
    rank = build.must(layer, "attn_kv_b").ne[0]
    latent, turned = compressed(build, layer, x, rank, rotary)
    kv = build.linear(layer, "attn_kv_b", latent)
    row = kv.dtype.size(nope + attention.value_dim)
    keys = g.view(kv, (nope, attention.heads, tokens), (row, row * attention.heads))
    values = g.cont(
        g.view(kv, (attention.value_dim, attention.heads, tokens), (row, row * attention.heads))
    )
    if build.step.rules.whole_rope:
        query = build.rope(q)
    else:
        plain = g.view(q, (nope, attention.heads, tokens), q.nb[1:3])
        query = g.concat(
            plain, build.rope(g.view(q, (rotary, attention.heads, tokens), q.nb[1:3])), 0
        )
    key = g.concat(keys, g.repeat(turned, rotary, attention.heads, tokens), 0)
    h = CacheHeads(
        kv=attention.heads, key=attention.key_dim, value=attention.value_dim, layer=layer
    )
    return build.linear(layer, "attn_output", attend(build, h, query, key, values))

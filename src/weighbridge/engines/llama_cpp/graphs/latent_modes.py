"""ik_llama.cpp's ways to compute MLA (-mla), over a cache of rank + rotary elements per token.

    1     queries in the compressed space; without flash attention a second, transposed cache
    2, 3  a prompt: keys and values of all heads are computed from the whole cache, as many heads at
          a time as -amb MiB allow, and not stored; a few tokens: as 1

Source: ik_llama.cpp 8f7bd74af src/llama.cpp (build_deepseek2).
"""

from weighbridge.base.dtypes import DType
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import F16, F32, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.attention import compressed, latent_queries, mib
from weighbridge.engines.llama_cpp.graphs.build import Build
from weighbridge.models.arch.mixers import Latent

PROMPT = 128  # tokens from which keys and values are computed from the cache


def by_mode(build: Build, layer: int, latent: Latent, x: GgmlTensor) -> GgmlTensor:
    tokens = x.ne[1]
    q = latent_queries(build, layer, x, latent.nope + latent.rotary, latent.heads)
    plain = g.view(q, (latent.nope, latent.heads, tokens), q.nb[1:3])
    turned = build.rope(g.view(q, (latent.rotary, latent.heads, tokens), q.nb[1:3]))
    stored, other = _stored(build, layer, latent, x)
    if build.step.latent_mode != 1 and build.step.flash and tokens >= PROMPT:
        way = _at_once if build.step.rules.unfolds_at_once else _unfolded
        out = way(build, layer, latent, g.concat(plain, turned, 0), stored)
    else:
        out = _absorbed(build, layer, latent, (plain, turned), stored, other)
    build.graph.expand(out)
    return build.linear(layer, "attn_output", out)


def _stored(
    build: Build, layer: int, sizes: Latent, x: GgmlTensor
) -> tuple[GgmlTensor, GgmlTensor | None]:
    """Return the cache, and its transposed copy in the mode that has one."""
    tokens = x.ne[1]
    latent, key = compressed(build, layer, x, sizes.rank, sizes.rotary)
    other = None
    if build.step.latent_mode == 1 and not build.step.flash:
        other = build.cache(layer, "v", sizes.rank, False)
        cells = other.ne[1]
        ne, nb = (tokens, sizes.rank), (other.dtype.size(cells),)
        build.graph.expand(g.into(g.transpose(latent), g.view(other, ne, nb)))
        other = g.view(other, (cells, sizes.rank))
    kind = "k" if build.step.flash or other is not None else "v"
    cache = build.cache(layer, kind, sizes.rank + sizes.rotary, False)
    both = g.concat(latent, g.permute(key, 0, 2, 1, 3), 0)
    build.graph.expand(g.into(both, g.view(cache, (cache.ne[0], tokens))))
    return g.view(cache, cache.ne[:2]), other


def _unfolded(
    build: Build, layer: int, latent: Latent, q: GgmlTensor, cache: GgmlTensor
) -> GgmlTensor:
    table = build.must(layer, "attn_kv_b")
    cells, each = cache.ne[1], latent.nope + latent.value_dim
    heads = _heads_at_once(build, latent, table.ne[1] * cells * F32.nbytes)
    small = g.view(cache, (latent.rank, cells), cache.nb[1:2])
    shared = g.view(cache, (latent.rotary, cells, 1), (cache.nb[1], cache.nb[1] * cells))
    kind = _kind(build, cache)
    shared = shared if shared.dtype is kind else g.cast(shared, F16)
    shared = g.repeat(shared, latent.rotary, cells, heads)
    q = g.permute(q, 0, 2, 1, 3)
    build.graph.expand(q)
    total: GgmlTensor | None = None
    for _ in range(latent.heads // heads):
        part = g.view(table, (latent.rank, each * heads), table.nb[1:2])
        both = g.mul_mat(part, small)
        key, value = (
            g.cast(
                g.view(both, (size, cells, heads), (F32.size(each * heads), F32.size(each))), kind
            )
            for size in (latent.nope, latent.value_dim)
        )
        build.graph.expand(key, value)
        key = g.concat(key, shared, 0)
        build.graph.expand(key)
        ours = g.view(q, (*q.ne[:2], heads), q.nb[1:3])
        out = g.flash(ours, key, value, build.mask(False))
        out = g.reshape(out, latent.value_dim * heads, q.ne[1])
        total = out if total is None else g.concat(total, out, 0)
    assert total is not None
    return total


def _kind(build: Build, cache: GgmlTensor) -> DType:
    """Return the type of computed keys and values: 16 bits, the cache's type without GPUs."""
    return cache.dtype if build.placement.host == 0 else F16


def _heads_at_once(build: Build, latent: Latent, size: int) -> int:
    """Return how many heads are computed at once; `size` is the bytes of all."""
    heads, left, limit = latent.heads, mib(size), build.step.largest_batch
    while limit and heads % 2 == 0 and left > limit:
        heads, left = heads // 2, left // 2
    return heads


def _at_once(
    build: Build, layer: int, latent: Latent, q: GgmlTensor, cache: GgmlTensor
) -> GgmlTensor:
    """Return MLA's output as before build 3590: all heads together, in 32 bits if there are
    GPUs."""
    key, value = (_halves if build.placement.host == 0 else _wide_halves)(
        build, layer, latent, cache
    )
    q = g.permute(q, 0, 2, 1, 3)
    build.graph.expand(q)
    out = g.flash(q, key, value, build.mask(False))
    return g.reshape(out, latent.value_dim * latent.heads, q.ne[1])


def _views(latent: Latent, both: GgmlTensor) -> tuple[GgmlTensor, GgmlTensor]:
    """Return the keys without their rotary part, and the values, of all heads."""
    each, cells = latent.nope + latent.value_dim, both.ne[1]
    nb = (F32.size(each * latent.heads), F32.size(each))
    return g.view(both, (latent.nope, cells, latent.heads), nb), g.view(
        both, (latent.value_dim, cells, latent.heads), nb
    )


def _halves(
    build: Build, layer: int, latent: Latent, cache: GgmlTensor
) -> tuple[GgmlTensor, GgmlTensor]:
    cells = cache.ne[1]
    small = g.view(cache, (latent.rank, cells), cache.nb[1:2])
    views = _views(latent, g.mul_mat(build.must(layer, "attn_kv_b"), small))
    key, value = (g.cast(t, cache.dtype) for t in views)
    build.graph.expand(key, value)
    shared = g.view(cache, (latent.rotary, cells, 1), (cache.nb[1], cache.nb[1] * cells))
    key = g.concat(key, g.repeat(shared, latent.rotary, cells, latent.heads), 0)
    build.graph.expand(key)
    return key, value


def _wide_halves(
    build: Build, layer: int, latent: Latent, cache: GgmlTensor
) -> tuple[GgmlTensor, GgmlTensor]:
    cells = cache.ne[1]
    wide = g.cast(cache, F32)
    small = g.view(wide, (latent.rank, cells), wide.nb[1:2])
    plain, value = _views(latent, g.mul_mat(build.must(layer, "attn_kv_b"), small))
    shared = g.view(wide, (latent.rotary, 1, cells), (wide.nb[1], wide.nb[1]))
    shared = g.permute(g.repeat(shared, latent.rotary, latent.heads, cells), 0, 2, 1, 3)
    return g.cast(g.concat(plain, shared, 0), cache.dtype), g.cast(value, cache.dtype)


def _absorbed(
    build: Build,
    layer: int,
    latent: Latent,
    query: tuple[GgmlTensor, GgmlTensor],
    cache: GgmlTensor,
    other: GgmlTensor | None,
) -> GgmlTensor:
    plain, turned = query
    tokens = plain.ne[2]
    table = build.must(layer, "attn_k_b")
    if table.ne[1] != latent.rank or table.ne[2] != latent.heads:
        table = g.reshape(table, latent.nope, latent.rank, latent.heads)
    wide = g.mul_mat(table, g.permute(plain, 0, 2, 1, 3))
    q = g.concat(wide, g.permute(turned, 0, 2, 1, 3), 0)
    small = g.view(cache, (latent.rank, cache.ne[1]), cache.nb[1:2])
    if build.step.flash and build.step.latent_mode != 2:
        out = g.permute(g.flash(q, cache, small, build.mask(False)), 0, 2, 1, 3)
    else:
        turned_cache = other if other is not None else g.cont(g.transpose(small))
        out = _scored(build, q, cache, turned_cache)
    table = build.must(layer, "attn_v_b")
    if table.ne[1] != latent.value_dim:
        table = g.reshape(table, latent.rank, latent.value_dim, latent.heads)
    out = g.cont(g.permute(g.mul_mat(table, out), 0, 2, 1, 3))
    return g.view(out, (latent.value_dim * latent.heads, tokens))


def _scored(build: Build, q: GgmlTensor, cache: GgmlTensor, turned: GgmlTensor) -> GgmlTensor:
    """Return attention's output, for as many heads at a time as -amb MiB hold."""
    heads = q.ne[2]
    size = mib(cache.ne[1] * q.ne[1] * heads * F32.nbytes)
    limit = build.step.largest_batch
    if not limit or size <= limit:
        return _scores(build, q, cache, turned)
    each = -(-heads // min(heads, -(-size // limit)))
    total: GgmlTensor | None = None
    for start in range(0, heads, each):
        ours = g.view(q, (*q.ne[:2], min(each, heads - start)), q.nb[1:3])
        one = g.mul_mat(turned, g.like("soft_max", g.mul_mat(cache, ours), build.mask(False)))
        total = one if total is None else g.concat(total, one, 2)
        build.graph.expand(total)
    assert total is not None
    return total


def _scores(build: Build, q: GgmlTensor, cache: GgmlTensor, turned: GgmlTensor) -> GgmlTensor:
    few = q.ne[1] < PROMPT
    q = g.permute(q, 0, 2, 1, 3) if few else q
    kq = g.mul_mat(cache, q)
    kq = g.cont(g.permute(kq, 0, 2, 1, 3)) if few else kq
    kq = g.like("soft_max", kq, build.mask(False))
    kq = g.permute(kq, 0, 2, 1, 3) if few else kq
    out = g.mul_mat(turned, kq)
    return g.permute(out, 0, 2, 1, 3) if few else out

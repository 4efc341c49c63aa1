"""Multi-head latent attention: absorbed into one shared key of rank + rotary, or as full heads.

    absorbed     queries turned into the latent's space; the cache is key and value at once
    full heads   files from before llama.cpp split kv_b: keys and values of all heads are stored

Source: llama.cpp 0c1e57098 src/models/deepseek2.cpp; b4905 src/llama-model.cpp
(llm_build_deepseek2).
"""

from weighbridge.arch.mixers import Attention, Latent
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.tensor import GgmlTensor
from weighbridge.engines.llama_cpp.graphs.attention import CacheHeads, attend
from weighbridge.engines.llama_cpp.graphs.build import Build


def latent_queries(b: Build, layer: int, x: GgmlTensor, size: int, heads: int) -> GgmlTensor:
    if b.of(layer, "attn_q_a") is not None:
        x = b.norm(b.linear(layer, "attn_q_a", x), b.of(layer, "attn_q_a_norm"), None, layer)
        q = b.linear(layer, "attn_q_b", x)
    else:
        q = b.linear(layer, "attn_q", x)
    return g.reshape(q, size, heads, q.ne[1])


def compressed(
    b: Build, layer: int, x: GgmlTensor, rank: int, rotary: int
) -> tuple[GgmlTensor, GgmlTensor]:
    """(the latent, its rotated part), of all tokens."""
    both = b.linear(layer, "attn_kv_a_mqa", x)
    small = g.view(both, (rank, x.ne[1]), (both.nb[1],))
    turned = b.rope(g.view(both, (rotary, 1, x.ne[1]), (both.nb[1], both.nb[1])))
    norm = b.of(layer, "attn_kv_a_norm")
    return b.norm(small, norm, None, layer), turned


def absorbed(b: Build, layer: int, m: Latent, x: GgmlTensor) -> GgmlTensor:
    tokens = x.ne[1]
    q = latent_queries(b, layer, x, m.nope + m.rotary, m.heads)
    latent, turned = compressed(b, layer, x, m.rank, m.rotary)
    plain = g.view(q, (m.nope, m.heads, tokens), q.nb[1:3])
    rotated = b.rope(g.view(q, (m.rotary, m.heads, tokens), q.nb[1:3]))
    wide = g.mul_mat(b.must(layer, "attn_k_b"), g.permute(plain, 0, 2, 1, 3))
    wide = g.permute(wide, 0, 2, 1, 3)
    value = g.reshape(latent, m.rank, 1, tokens)
    pair = (rotated, wide) if b.step.rules.rotary_first else (wide, rotated)
    query = g.concat(pair[0], pair[1], 0)
    pair = (turned, value) if b.step.rules.rotary_first else (value, turned)
    key = g.concat(pair[0], pair[1], 0)
    once = not b.step.rules.latent_values
    h = CacheHeads(kv=1, key=m.rank + m.rotary, value=m.rank, latent=once, layer=layer)
    return b.linear(layer, "attn_output", attend(b, h, query, key, value))


def full_heads(b: Build, layer: int, m: Attention, x: GgmlTensor) -> GgmlTensor:
    rotary = b.net.rotary
    nope, tokens = m.key_dim - rotary, x.ne[1]
    q = latent_queries(b, layer, x, m.key_dim, m.heads)
    rank = b.must(layer, "attn_kv_b").ne[0]
    latent, turned = compressed(b, layer, x, rank, rotary)
    kv = b.linear(layer, "attn_kv_b", latent)
    row = kv.dtype.size(nope + m.value_dim)
    keys = g.view(kv, (nope, m.heads, tokens), (row, row * m.heads))
    values = g.cont(g.view(kv, (m.value_dim, m.heads, tokens), (row, row * m.heads)))
    if b.step.rules.whole_rope:
        query = b.rope(q)
    else:
        plain = g.view(q, (nope, m.heads, tokens), q.nb[1:3])
        query = g.concat(plain, b.rope(g.view(q, (rotary, m.heads, tokens), q.nb[1:3])), 0)
    key = g.concat(keys, g.repeat(turned, rotary, m.heads, tokens), 0)
    h = CacheHeads(kv=m.heads, key=m.key_dim, value=m.value_dim, layer=layer)
    return b.linear(layer, "attn_output", attend(b, h, query, key, values))

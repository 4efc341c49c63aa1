"""Encoders: BERT and its kin. Every token of the step sees every other, nothing is stored.

    x = norm(embedding + type + position); norm(attention(x) + x); norm(feed(y) + y)

Source: llama.cpp 0c1e57098 src/models/bert.cpp, src/llama-graph.cpp (build_attn_inp_no_cache).
"""

from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.tensor import I32, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.attention import scores
from weighbridge.engines.llama_cpp.graphs.build import Build
from weighbridge.engines.llama_cpp.graphs.feeds import Act, dense
from weighbridge.engines.llama_cpp.graphs.transformer import embedded, picked

ROTATED = frozenset(("nomic-bert", "nomic-bert-moe", "jina-bert-v3", "modern-bert", "eurobert"))


def encoder(b: Build) -> None:
    x = _start(b)
    for layer, last in b.order():
        x = _layer(b, layer, x, last)
    b.output(x)
    pooled = g.get_rows(x, b.entry("cls", g.entry(I32, b.step.sequences)))
    b.graph.expand(x, pooled)


def _start(b: Build) -> GgmlTensor:
    x = embedded(b, positions=False)
    types = b.weight("token_types.weight")
    if types is not None:
        x = b.add(x, g.view(types, (b.net.hidden,)))
    table = b.weight("position_embd.weight")
    if table is not None:
        x = b.add(g.get_rows(table, b.positions()), x)
    name = "token_embd_norm"
    norm, bias = b.weight(f"{name}.weight"), b.weight(f"{name}.bias")
    return b.norm(x, norm, bias, 0, "norm")


def _layer(b: Build, layer: int, x: GgmlTensor, last: bool) -> GgmlTensor:
    y = _attention(b, layer, x)
    if last:
        y, x = picked(b, y, x)
    y = b.layer_norm(layer, "attn_output_norm", b.add(y, x), "norm")
    out = dense(b, layer, y, Act())
    return b.layer_norm(layer, "layer_output_norm", b.add(out, y), "norm")


def _attention(b: Build, layer: int, x: GgmlTensor) -> GgmlTensor:
    heads = max(1, b.net.heads)
    size, tokens = b.net.hidden // heads, x.ne[1]
    if b.of(layer, "attn_qkv") is not None:
        both = b.linear(layer, "attn_qkv", x)
        row = both.dtype.size(size)
        q, k, v = (g.view(both, (size, heads, tokens), (row, both.nb[1])) for _ in range(3))
    else:
        names = ("attn_q", "attn_k", "attn_v")
        q, k, v = (g.reshape(b.linear(layer, n, x), size, heads, tokens) for n in names)
    if b.net.arch in ROTATED:
        q, k = b.rope(q), b.rope(k)
    b.graph.expand(q, k, v)
    return b.linear(layer, "attn_output", scores(b, q, k, v, b.full_mask(), layer))

"""Table of llama.cpp's architectures, by name: how each graph differs from Llama's.

Only what the tensors do not show. An architecture that is not listed is built as Llama's, with the
tensors it has; the answer then says that it is a guess (styles.toml).

Encoders: BERT and its kin. Every token of the step sees every other, nothing is stored.

    x = norm(embedding + type + position); norm(attention(x) + x); norm(feed(y) + y)

Source: llama.cpp 0c1e57098 src/models/bert.cpp, src/llama-graph.cpp (build_attn_inp_no_cache).
"""

import tomllib
from collections.abc import Mapping
from typing import Any

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import I32, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.attention import scores
from weighbridge.engines.llama_cpp.graphs.build import Build
from weighbridge.engines.llama_cpp.graphs.feed_forward import Act, Routing, dense
from weighbridge.engines.llama_cpp.graphs.transformer import GraphStyle, decoder, embedded, picked
from weighbridge.models.arch.gguf_layers import ENCODER_GRAPHS

LATE_ROWS = {
    **dict.fromkeys(("gpt-oss", "step35"), "before"),
    **dict.fromkeys(("qwen35", "qwen35moe", "qwen3next", "nemotron_h", "nemotron_h_moe"), "after"),
    **dict.fromkeys(("gemma4", "cohere2moe", "hy-v3", "bailingmoe3"), "after"),
}


def _style(row: Mapping[str, Any]) -> GraphStyle:
    """Return the traits of one row of styles.toml."""
    parts = {"routing": Routing(**row.get("routing", {})), "act": Act(**row.get("act", {}))}
    return GraphStyle(**{**row, **parts})


STYLES: Mapping[str, GraphStyle] = {
    arch: _style(row)
    for names, row in tomllib.loads(text_beside(__file__, "styles.toml")).items()
    for arch in names.split()
}
ROTATED = frozenset(("nomic-bert", "nomic-bert-moe", "jina-bert-v3", "modern-bert", "eurobert"))


def known(arch: str) -> bool:
    return arch in STYLES or arch in ENCODER_GRAPHS


def style_of(build: Build) -> GraphStyle:
    style = STYLES.get(build.net.arch, GraphStyle())
    late = LATE_ROWS.get(build.net.arch, "") if build.step.rules.late_rows else ""
    return replace(style, late_rows=late)


def build(build: Build) -> None:
    """Put the whole step of the network into the graph of `build`."""
    if build.net.encodes:
        encoder(build)
    else:
        decoder(build, style_of(build))


# Encoders


def encoder(build: Build) -> None:
    x = _start(build)
    for layer, last in build.order():
        x = _layer(build, layer, x, last)
    build.output(x)
    pooled = g.get_rows(x, build.entry("cls", g.entry(I32, build.step.sequences)))
    build.graph.expand(x, pooled)


def _start(build: Build) -> GgmlTensor:
    x = embedded(build, positions=False)
    types = build.weight("token_types.weight")
    if types is not None:
        x = build.add(x, g.view(types, (build.net.hidden,)))
    table = build.weight("position_embd.weight")
    if table is not None:
        x = build.add(g.get_rows(table, build.positions()), x)
    name = "token_embd_norm"
    norm, bias = build.weight(f"{name}.weight"), build.weight(f"{name}.bias")
    return build.norm(x, norm, bias, 0, "norm")


def _layer(build: Build, layer: int, x: GgmlTensor, last: bool) -> GgmlTensor:
    y = _attention(build, layer, x)
    if last:
        y, x = picked(build, y, x)
    y = build.layer_norm(layer, "attn_output_norm", build.add(y, x), "norm")
    out = dense(build, layer, y, Act())
    return build.layer_norm(layer, "layer_output_norm", build.add(out, y), "norm")


def _attention(build: Build, layer: int, x: GgmlTensor) -> GgmlTensor:
    heads = max(1, build.net.heads)
    size, tokens = build.net.hidden // heads, x.ne[1]
    if build.of(layer, "attn_qkv") is not None:
        both = build.linear(layer, "attn_qkv", x)
        row = both.dtype.size(size)
        q, k, v = (g.view(both, (size, heads, tokens), (row, both.nb[1])) for _ in range(3))
    else:
        names = ("attn_q", "attn_k", "attn_v")
        q, k, v = (g.reshape(build.linear(layer, n, x), size, heads, tokens) for n in names)
    if build.net.arch in ROTATED:
        q, k = build.rope(q), build.rope(k)
    build.graph.expand(q, k, v)
    return build.linear(layer, "attn_output", scores(build, q, k, v, build.full_mask(), layer))

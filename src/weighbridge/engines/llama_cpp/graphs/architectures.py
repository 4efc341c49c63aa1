"""The table: llama.cpp's name of an architecture -> how its graph differs from Llama's.

Only what the tensors do not tell. An architecture that is not listed is built as Llama's, with
what tensors it has; the answer then says that it is a guess.
Source: llama.cpp 0c1e57098 src/models/.

Encoders: BERT and its kin. Every token of the step sees every other, nothing is stored.

    x = norm(embedding + type + position); norm(attention(x) + x); norm(feed(y) + y)

Source: llama.cpp 0c1e57098 src/models/bert.cpp, src/llama-graph.cpp (build_attn_inp_no_cache).
"""

from collections.abc import Mapping
from dataclasses import replace

from weighbridge.arch.gguf_layers import ENCODER_GRAPHS, UNROTATED
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import I32, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.attention import scores
from weighbridge.engines.llama_cpp.graphs.build import Build
from weighbridge.engines.llama_cpp.graphs.feed_forward import Act, Routing, dense
from weighbridge.engines.llama_cpp.graphs.transformer import GraphStyle, decoder, embedded, picked

LATE_ROWS = {
    **dict.fromkeys(("gpt-oss", "step35"), "before"),
    **dict.fromkeys(("qwen35", "qwen35moe", "qwen3next", "nemotron_h", "nemotron_h_moe"), "after"),
    **dict.fromkeys(("gemma4", "cohere2moe", "hy-v3", "bailingmoe3"), "after"),
}
SIGMOID = Routing(scores="sigmoid", scaled=True)
LAYER_NORM = GraphStyle(norm="norm")
STYLES: Mapping[str, GraphStyle] = {
    "llama": GraphStyle(),
    "qwen2": GraphStyle(),
    "qwen2vl": GraphStyle(),
    "qwen3": GraphStyle(),
    "qwen3vl": GraphStyle(),
    "qwen2moe": GraphStyle(routing=Routing(normed=False)),
    "qwen3moe": GraphStyle(),
    "qwen3vlmoe": GraphStyle(),
    "qwen3next": GraphStyle(early_norm=True, repeats_heads=True),
    "qwen35": GraphStyle(early_norm=True),
    "qwen35moe": GraphStyle(early_norm=True),
    "olmoe": GraphStyle(routing=Routing(normed=False)),
    "olmo2": GraphStyle(),
    "gemma": GraphStyle(scaled_queries=True),
    "gemma2": GraphStyle(scaled_queries=True),
    "gemma3": GraphStyle(scaled_queries=True),
    "gemma3n": GraphStyle(),
    "gemma4": GraphStyle(normed_values=True),
    "phi2": GraphStyle(norm="norm", parallel=True, scaled_queries=True, attention_first=True),
    "phi3": GraphStyle(scaled_queries=True, start_first=(False, True)),
    "glm4": GraphStyle(),
    "glm4moe": GraphStyle(routing=SIGMOID),
    "chatglm": GraphStyle(),
    "deepseek2": GraphStyle(routing=SIGMOID),
    "deepseek": GraphStyle(routing=Routing(normed=False)),
    "gpt-oss": GraphStyle(routing=Routing(scores="late", normed=False), act=Act(rare=True)),
    "llama4": GraphStyle(
        routing=Routing(scores="sigmoid", normed=False, before=True), rope="near", unit_keys=True
    ),
    "granite": GraphStyle(scaled_residual=True),
    "granitemoe": GraphStyle(scaled_residual=True),
    "granitehybrid": GraphStyle(scaled_residual=True, rope="none"),
    "nemotron_h": GraphStyle(rope="none", act=Act(squared=True)),
    "nemotron_h_moe": GraphStyle(rope="none", act=Act(squared=True), routing=SIGMOID),
    "nemotron": GraphStyle(norm="norm", act=Act(squared=True)),
    "minimax-m2": GraphStyle(routing=Routing(scores="sigmoid")),
    "deci": GraphStyle(),
    "lfm2": GraphStyle(start_first=(True, True)),
    "lfm2moe": GraphStyle(start_first=(True, True), routing=Routing(scores="sigmoid")),
    "mamba": GraphStyle(),
    "mamba2": GraphStyle(),
    "jamba": GraphStyle(start_first=(True, True), rope="none", routing=Routing(normed=False)),
    "falcon-h1": GraphStyle(),
    "falcon": GraphStyle(norm="norm", parallel=True),
    "gptneox": GraphStyle(norm="norm", parallel=True),
    "gpt2": GraphStyle(norm="norm", rope="none"),
    "starcoder": GraphStyle(norm="norm", rope="none"),
    "starcoder2": LAYER_NORM,
    "bloom": GraphStyle(norm="norm", rope="none"),
    "mpt": GraphStyle(norm="norm", rope="none"),
    "stablelm": LAYER_NORM,
    "command-r": GraphStyle(norm="norm", parallel=True),
    "cohere2": GraphStyle(norm="norm", parallel=True, rope="near"),
    "exaone4": GraphStyle(),
    "smollm3": GraphStyle(rope_skips=UNROTATED["smollm3"]),
    "seed_oss": GraphStyle(),
    "arcee": GraphStyle(act=Act(squared=True)),
    "mistral3": GraphStyle(),
    "bitnet": GraphStyle(),
    "ernie4_5": GraphStyle(),
    "ernie4_5-moe": GraphStyle(),
    "hunyuan-dense": GraphStyle(),
    "hunyuan-moe": GraphStyle(),
    "dots1": GraphStyle(routing=SIGMOID),
    "bailingmoe2": GraphStyle(routing=SIGMOID),
}
ROTATED = frozenset(("nomic-bert", "nomic-bert-moe", "jina-bert-v3", "modern-bert", "eurobert"))


def known(arch: str) -> bool:
    return arch in STYLES or arch in ENCODER_GRAPHS


def style_of(b: Build) -> GraphStyle:
    style = STYLES.get(b.net.arch, GraphStyle())
    late = LATE_ROWS.get(b.net.arch, "") if b.step.rules.late_rows else ""
    return replace(style, late_rows=late)


def build(b: Build) -> None:
    """Puts the whole step of the network into `b`'s graph."""
    if b.net.encodes:
        encoder(b)
    else:
        decoder(b, style_of(b))


# Encoders


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

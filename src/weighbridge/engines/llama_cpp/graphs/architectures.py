"""Table of llama.cpp's architectures, by name: how each graph differs from Llama's.

Only what the tensors do not show. An architecture that is not listed is built as Llama's, with the
tensors it has; the answer then says that it is a guess. Source: llama.cpp 0c1e57098 src/models/.

Encoders: BERT and its kin. Every token of the step sees every other, nothing is stored.

    x = norm(embedding + type + position); norm(attention(x) + x); norm(feed(y) + y)

Source: llama.cpp 0c1e57098 src/models/bert.cpp, src/llama-graph.cpp (build_attn_inp_no_cache).
"""

from collections.abc import Mapping

from weighbridge.base.records import replace
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import I32, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.attention import scores
from weighbridge.engines.llama_cpp.graphs.build import Build
from weighbridge.engines.llama_cpp.graphs.feed_forward import Act, Routing, dense
from weighbridge.engines.llama_cpp.graphs.transformer import GraphStyle, decoder, embedded, picked
from weighbridge.models.arch.gguf_layers import ENCODER_GRAPHS, UNROTATED

LATE_ROWS = {
    **dict.fromkeys(("gpt-oss", "step35"), "before"),
    **dict.fromkeys(("qwen35", "qwen35moe", "qwen3next", "nemotron_h", "nemotron_h_moe"), "after"),
    **dict.fromkeys(("gemma4", "cohere2moe", "hy-v3", "bailingmoe3"), "after"),
}
SIGMOID = Routing(scores="sigmoid", scaled=True)
LAYER_NORM = GraphStyle(norm="norm")
PLAIN = """
llama qwen2 qwen2vl qwen3 qwen3vl qwen3moe qwen3vlmoe olmo2 gemma3n glm4 chatglm deci
mamba mamba2 falcon-h1 exaone4 seed_oss mistral3 bitnet ernie4_5 ernie4_5-moe
hunyuan-dense hunyuan-moe
"""
STYLES: Mapping[str, GraphStyle] = {
    **dict.fromkeys(PLAIN.split(), GraphStyle()),
    **dict.fromkeys(["qwen2moe", "olmoe", "deepseek"], GraphStyle(routing=Routing(normed=False))),
    **dict.fromkeys(["gemma", "gemma2", "gemma3"], GraphStyle(scaled_queries=True)),
    **dict.fromkeys(["glm4moe", "deepseek2", "dots1", "bailingmoe2"], GraphStyle(routing=SIGMOID)),
    **dict.fromkeys(["falcon", "gptneox", "command-r"], GraphStyle(norm="norm", parallel=True)),
    **dict.fromkeys(["gpt2", "starcoder", "bloom", "mpt"], GraphStyle(norm="norm", rope="none")),
    "qwen3next": GraphStyle(early_norm=True, repeats_heads=True),
    "qwen35": GraphStyle(early_norm=True),
    "qwen35moe": GraphStyle(early_norm=True),
    "gemma4": GraphStyle(normed_values=True),
    "phi2": GraphStyle(norm="norm", parallel=True, scaled_queries=True, attention_first=True),
    "phi3": GraphStyle(scaled_queries=True, start_first=(False, True)),
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
    "lfm2": GraphStyle(start_first=(True, True)),
    "lfm2moe": GraphStyle(start_first=(True, True), routing=Routing(scores="sigmoid")),
    "jamba": GraphStyle(start_first=(True, True), rope="none", routing=Routing(normed=False)),
    "starcoder2": LAYER_NORM,
    "stablelm": LAYER_NORM,
    "cohere2": GraphStyle(norm="norm", parallel=True, rope="near"),
    "smollm3": GraphStyle(rope_skips=UNROTATED["smollm3"]),
    "arcee": GraphStyle(act=Act(squared=True)),
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

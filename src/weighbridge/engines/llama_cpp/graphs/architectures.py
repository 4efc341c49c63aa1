"""The table: llama.cpp's name of an architecture -> how its graph differs from Llama's.

Only what the tensors do not tell. An architecture that is not listed is built as Llama's, with
what tensors it has; the answer then says that it is a guess.
Source: llama.cpp 0c1e57098 src/models/.
"""

from collections.abc import Mapping
from dataclasses import replace

from weighbridge.arch.cache_layers.gguf import ENCODER_GRAPHS, UNROTATED
from weighbridge.engines.llama_cpp.graphs.build import Build
from weighbridge.engines.llama_cpp.graphs.encoder import encoder
from weighbridge.engines.llama_cpp.graphs.feeds import Act, Routing
from weighbridge.engines.llama_cpp.graphs.transformer import Style, decoder

LATE_ROWS = {
    **dict.fromkeys(("gpt-oss", "step35"), "before"),
    **dict.fromkeys(("qwen35", "qwen35moe", "qwen3next", "nemotron_h", "nemotron_h_moe"), "after"),
    **dict.fromkeys(("gemma4", "cohere2moe", "hy-v3", "bailingmoe3"), "after"),
}
SIGMOID = Routing(scores="sigmoid", scaled=True)
LAYER_NORM = Style(norm="norm")
STYLES: Mapping[str, Style] = {
    "llama": Style(),
    "qwen2": Style(),
    "qwen2vl": Style(),
    "qwen3": Style(),
    "qwen3vl": Style(),
    "qwen2moe": Style(routing=Routing(normed=False)),
    "qwen3moe": Style(),
    "qwen3vlmoe": Style(),
    "qwen3next": Style(early_norm=True, repeats_heads=True),
    "qwen35": Style(early_norm=True),
    "qwen35moe": Style(early_norm=True),
    "olmoe": Style(routing=Routing(normed=False)),
    "olmo2": Style(),
    "gemma": Style(scaled_queries=True),
    "gemma2": Style(scaled_queries=True),
    "gemma3": Style(scaled_queries=True),
    "gemma3n": Style(),
    "gemma4": Style(normed_values=True),
    "phi2": Style(norm="norm", parallel=True, scaled_queries=True, attention_first=True),
    "phi3": Style(scaled_queries=True, start_first=(False, True)),
    "glm4": Style(),
    "glm4moe": Style(routing=SIGMOID),
    "chatglm": Style(),
    "deepseek2": Style(routing=SIGMOID),
    "deepseek": Style(routing=Routing(normed=False)),
    "gpt-oss": Style(routing=Routing(scores="late", normed=False), act=Act(rare=True)),
    "llama4": Style(
        routing=Routing(scores="sigmoid", normed=False, before=True), rope="near", unit_keys=True
    ),
    "granite": Style(scaled_residual=True),
    "granitemoe": Style(scaled_residual=True),
    "granitehybrid": Style(scaled_residual=True, rope="none"),
    "nemotron_h": Style(rope="none", act=Act(squared=True)),
    "nemotron_h_moe": Style(rope="none", act=Act(squared=True), routing=SIGMOID),
    "nemotron": Style(norm="norm", act=Act(squared=True)),
    "minimax-m2": Style(routing=Routing(scores="sigmoid")),
    "deci": Style(),
    "lfm2": Style(start_first=(True, True)),
    "lfm2moe": Style(start_first=(True, True), routing=Routing(scores="sigmoid")),
    "mamba": Style(),
    "mamba2": Style(),
    "jamba": Style(start_first=(True, True), rope="none", routing=Routing(normed=False)),
    "falcon-h1": Style(),
    "falcon": Style(norm="norm", parallel=True),
    "gptneox": Style(norm="norm", parallel=True),
    "gpt2": Style(norm="norm", rope="none"),
    "starcoder": Style(norm="norm", rope="none"),
    "starcoder2": LAYER_NORM,
    "bloom": Style(norm="norm", rope="none"),
    "mpt": Style(norm="norm", rope="none"),
    "stablelm": LAYER_NORM,
    "command-r": Style(norm="norm", parallel=True),
    "cohere2": Style(norm="norm", parallel=True, rope="near"),
    "exaone4": Style(),
    "smollm3": Style(rope_skips=UNROTATED["smollm3"]),
    "seed_oss": Style(),
    "arcee": Style(act=Act(squared=True)),
    "mistral3": Style(),
    "bitnet": Style(),
    "ernie4_5": Style(),
    "ernie4_5-moe": Style(),
    "hunyuan-dense": Style(),
    "hunyuan-moe": Style(),
    "dots1": Style(routing=SIGMOID),
    "bailingmoe2": Style(routing=SIGMOID),
}


def known(arch: str) -> bool:
    return arch in STYLES or arch in ENCODER_GRAPHS


def style_of(b: Build) -> Style:
    found = STYLES.get(b.net.arch, Style())
    late = LATE_ROWS.get(b.net.arch, "") if b.step.rules.late_rows else ""
    return replace(found, late_rows=late)


def build(b: Build) -> None:
    """Puts the whole step of the network into `b`'s graph."""
    if b.net.encodes:
        encoder(b)
    else:
        decoder(b, style_of(b))

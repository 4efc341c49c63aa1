"""Mixtral and the models that name experts as it does: Phi-MoE, MiniMax-01, M1 and M2.

    a layer: attention; block_sparse_moe.gate E x D; experts.N.w1 and w3 F x D, w2 D x F; two norms

MiniMax-01 and M1 have lightning (linear) attention in most layers: one fused projection to queries,
keys and values, a norm over all heads, an output gate.

Source: transformers 5.23 models/{mixtral,phimoe,minimax,minimax_m2}/modeling_*.py; the published
weight map of MiniMax-M1-80k (remote code).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from weighbridge.arch import windows
from weighbridge.arch.blueprint import Buffer, Family, Param, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import BEFORE, DecoderNames, alike, kinds, tree
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import LlamaSwitches, attention, grouped
from weighbridge.arch.mixers import LinearAttention
from weighbridge.arch.model_types import (
    MlxFacts,
    ModelType,
    SglangFacts,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
)
from weighbridge.arch.modules import Decoder, Submodule, Submodules, by_kind, normed, submodule
from weighbridge.arch.olmo import wide_norms
from weighbridge.arch.rotary import frequencies, head_dim, rotary, share
from weighbridge.arch.sparse import (
    NUMBERED,
    RoutedExperts,
    correction,
    each,
    every,
    fed,
    routed,
    router,
)
from weighbridge.arch.windows import layer_kinds

BLOCK = "block_sparse_moe."


def choice(c: Config) -> RoutedExperts:
    return routed(c, "num_local_experts", "intermediate_size")


def block(c: Config) -> Submodule:
    e, width = choice(c), c.num("hidden_size")
    return submodule(
        router(f"{BLOCK}gate", e.count, width),
        each(f"{BLOCK}experts", width, e, NUMBERED),
        feed=fed(e),
    )


def layer(c: Config, *mixing: Submodule, bias: bool = False) -> Submodules:
    """What mixes tokens, experts, and two norms."""
    return (*mixing, block(c), normed(c.num("hidden_size"), *BEFORE, bias=bias))


def mixtral(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: layer(c, attention(c, LlamaSwitches()))), kinds=layer_kinds)


def phimoe(c: Config) -> Decoder:
    """LayerNorms with bias, where Mixtral has RMSNorms."""
    bias = c.flag("attention_bias")
    one = LlamaSwitches(qkv_bias=bias, o_bias=bias)
    layers = alike(c, lambda: layer(c, attention(c, one), bias=True))
    return tree(c, layers, DecoderNames(norm_bias=True), kinds=layer_kinds)


def phimoe_lm(c: Config, at: str) -> Iterator[Param]:
    bias = c.flag("lm_head_bias")
    yield from linear(f"{at}lm_head", c.num("vocab_size"), c.num("hidden_size"), bias=bias)


def lightning(c: Config) -> Submodule:
    width, heads, size = c.num("hidden_size"), c.num("num_attention_heads"), head_dim(c)
    inner, at = heads * size, "self_attn."
    return submodule(
        norm(f"{at}norm", inner),
        linear(f"{at}qkv_proj", 3 * inner, width),
        linear(f"{at}out_proj", width, inner),
        linear(f"{at}output_gate", inner, width),
        mixer=LinearAttention(heads=heads, dim=size),
    )


def minimax_kinds(c: Config) -> list[str]:
    return kinds(c, "layer_types", lambda i: "linear_attention" if i % 2 else "full_attention")


def minimax_m1_kinds(c: Config) -> list[str]:
    """attn_type_list: 1 is softmax attention, 0 lightning."""
    if c.num("shared_intermediate_size", default=0):
        raise c.error("shared_intermediate_size", "is not 0: no published model has shared experts")
    full = c.per_layer("attn_type_list", count=c.layers("num_hidden_layers"), default=1)
    return ["full_attention" if kind else "linear_attention" for kind in full]


def _minimax(layer_kinds: Callable[[Config], Sequence[str]]) -> Callable[[Config], Decoder]:
    def read(c: Config) -> Decoder:
        def one(kind: str) -> Submodules:
            is_linear = kind == "linear_attention"
            return layer(c, lightning(c) if is_linear else attention(c, LlamaSwitches()))

        return tree(c, by_kind(layer_kinds(c), one))

    return read


def minimax_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """The decays of lightning attention over a block of tokens are stored with the model."""
    yield from rotary(c, at)
    heads, size = c.num("num_attention_heads"), c.num("block_size")
    shapes = {
        "slope_rate": (heads, 1, 1),
        "query_decay": (heads, size, 1),
        "key_decay": (heads, size, 1),
        "diagonal_decay": (1, heads, size, size),
    }
    for i, kind in enumerate(minimax_kinds(c)):
        if kind == "linear_attention":
            for name, shape in shapes.items():
                yield Buffer(f"{at}layers.{i}.self_attn.{name}", shape, "", persistent=True)


def minimax_m1_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """A rotary module in each layer of full attention."""
    count = c.num("rotary_dim", default=head_dim(c)) // 2
    for i, kind in enumerate(minimax_m1_kinds(c)):
        if kind == "full_attention":
            path = f"{at}layers.{i}.self_attn.rotary_emb.inv_freq"
            yield Buffer(path, (count,), "float32")


def minimax_m2(c: Config) -> Decoder:
    """Norms over all heads at once on queries and keys."""
    c.skip("mlp_intermediate_size", "shared_intermediate_size")  # the class reads neither

    def one() -> Submodules:
        return layer(c, attention(c, LlamaSwitches()), wide_norms(grouped(c)))

    return tree(c, alike(c, one), kinds=layer_kinds)


def minimax_m2_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """rotary_dim is the published spelling of partial_rotary_factor."""
    size = head_dim(c)
    rotated = c.num("rotary_dim", default=size) / max(1, size)
    part = share(c, "partial_rotary_factor", default=rotated)
    yield from frequencies(f"{at}rotary_emb.", int(size * part))
    name = f"{BLOCK}e_score_correction_bias"
    yield from correction(at, every(c), name, choice(c).count, dtype="")


MIXTRAL = Family(tree=mixtral, cls="MixtralForCausalLM", heads=DECODER_HEADS, buffers=rotary)
PHIMOE = Family(
    tree=phimoe,
    cls="PhimoeForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": phimoe_lm},
    buffers=rotary,
)
MINIMAX = Family(
    tree=_minimax(minimax_kinds),
    cls="MiniMaxForCausalLM",
    heads=DECODER_HEADS,
    buffers=minimax_buffers,
)
MINIMAX_M1 = Family(
    tree=_minimax(minimax_m1_kinds),
    cls="MiniMaxM1ForCausalLM",
    heads=DECODER_HEADS,
    buffers=minimax_m1_buffers,
)
MINIMAX_TEXT_01 = replace(MINIMAX_M1, cls="MiniMaxText01ForCausalLM")
MINIMAX_M2 = Family(
    tree=minimax_m2,
    cls="MiniMaxM2ForCausalLM",
    heads=DECODER_HEADS,
    buffers=minimax_m2_buffers,
)

TYPES = {
    "mixtral": ModelType(
        MIXTRAL,
        windows=windows.everywhere,
        gguf="llama",
        training=TrainingFacts(
            net="sparse.qwen3",
            router="by_mixtral_rule",
            lora=("q_proj", "v_proj"),
            experts_were="w1_w3",
        ),
        transformers=TransformersFacts(
            sdpa=(4, 37), rotary_tables=((4, 36), (4, 48)), flash_repeats=True
        ),
        vllm=VllmFacts(every_stage="both", adapted_embedding=True),
        sglang=SglangFacts(every_stage="head"),
        mlx=MlxFacts(has_class=True),
    ),
    "phimoe": ModelType(
        PHIMOE,
        windows=windows.everywhere,
        training=TrainingFacts(net="sparse.phimoe"),
        transformers=TransformersFacts(flash_repeats=True, own_sdpa=True),
        vllm=VllmFacts(every_stage="both", adapted_embedding=True),
        mlx=MlxFacts(has_class=True),
    ),
    "minimax": ModelType(
        MINIMAX, training=TrainingFacts(experts_were="w1_w3"), mlx=MlxFacts(has_class=True)
    ),
    "minimax_m1": ModelType(MINIMAX_M1, windows=windows.nowhere),
    "minimax_text_01": ModelType(MINIMAX_TEXT_01),
    "minimax_m2": ModelType(
        MINIMAX_M2,
        windows=windows.nowhere,
        gguf="minimax-m2",
        training=TrainingFacts(
            net="sparse.minimax", router="by_minimax_rule", experts_were="w1_w3"
        ),
        sglang=SglangFacts(every_stage="embedding"),
        mlx=MlxFacts(has_class=True),
    ),
}

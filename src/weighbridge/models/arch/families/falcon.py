"""Falcon, BLOOM and MPT: decoders with one linear for queries, keys and values, most with ALiBi.

Falcon was called RefinedWeb while its code was remote:

    query_key_value    new decoder architecture (2 K + N) H; multi query D + 2 H; else 3 D
    norms              new architecture with two: ln_attn, ln_mlp; parallel: one; else two

BLOOM and MPT have ALiBi, so no position embeddings:

    BLOOM  query_key_value 3 D x D and biases everywhere; a norm after the embedding
    MPT    Wqkv 3 D x D, no biases, not even in LayerNorm; 4 D wide whatever the config says, but
           for its remote class, MPTForCausalLM, which follows its config in all of this

Sources: transformers 5.23 models/{falcon,bloom,mpt}/modeling_*.py; the remote configs of
RefinedWebModel (7B: multi_query) and RefinedWeb (40B: n_head_kv, always the new architecture);
mosaicml/llm-foundry models/mpt and models/layers/attention.py.
"""

from collections.abc import Iterator

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Buffer, Family, embedding, layer_norm, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    Decoder,
    DecoderNames,
    Submodules,
    alike,
    multi_head,
    normed,
    packed,
    submodule,
    tree,
    ungated,
)
from weighbridge.models.arch.heads import LEGACY_HEADS
from weighbridge.models.arch.model_types import (
    ModelType,
    differs,
)
from weighbridge.models.arch.parts import Attention
from weighbridge.models.arch.rotary import rotary
from weighbridge.models.arch.windows import layer_kinds


def heads(c: Config) -> int:
    return c.num("num_attention_heads", "n_head")


def new_architecture(c: Config) -> bool:
    return c.flag("new_decoder_architecture", default=differs(c.model_type, "two_norms"))


def kv_heads(c: Config) -> int:
    """Return the KV heads: `num_kv_heads` in the new architecture, else 1 with `multi_query`, else
    all heads."""
    if new_architecture(c):
        return c.num("num_kv_heads", "n_head_kv", default=heads(c))
    return 1 if c.flag("multi_query") else heads(c)


def norm_names(c: Config) -> tuple[str, ...]:
    if not c.flag("parallel_attn", default=new_architecture(c)):
        return ("post_attention_layernorm", "input_layernorm")
    count = c.num("num_ln_in_parallel_attn", default=2 if new_architecture(c) else 1)
    return ("ln_attn", "ln_mlp") if count == 2 else ("input_layernorm",)


def layer(c: Config) -> Submodules:
    width, bias, n = c.num("hidden_size"), c.flag("bias"), heads(c)
    size, kv = width // max(1, n), kv_heads(c)
    queries = n * size if new_architecture(c) else width
    rows = 3 * width if kv == n and not new_architecture(c) else queries + 2 * kv * size
    return (
        submodule(
            linear("self_attention.query_key_value", rows, width, bias=bias),
            linear("self_attention.dense", width, width, bias=bias),
            mixer=Attention(heads=n, kv_heads=kv, key_dim=size, value_dim=size),
        ),
        ungated(
            "mlp",
            width,
            c.num("ffn_hidden_size", default=4 * width),
            names=("dense_h_to_4h", "dense_4h_to_h"),
            bias=bias,
        ),
        normed(width, *norm_names(c), bias=True),
    )


def falcon(c: Config) -> Decoder:
    layers = alike(c, lambda: layer(c), "num_hidden_layers", "n_layer")
    names = DecoderNames(embed="word_embeddings", layers="h", final="ln_f", norm_bias=True)
    return tree(c, layers, names, kinds=layer_kinds)


FALCON = Family(
    tree=falcon,
    base="transformer",
    cls="FalconForCausalLM",
    heads=LEGACY_HEADS,
    buffers=rotary,
    blocks=("h.*",),
)
REFINED_WEB = Family(
    tree=falcon,
    base="transformer",
    cls="RWForCausalLM",
    heads=LEGACY_HEADS,
    blocks=("h.*",),
    ties=True,
)


# BLOOM and MPT


def bloom_layer(c: Config) -> Submodules:
    width, heads = c.num("hidden_size"), c.num("num_attention_heads", "n_head")
    names = ("dense_h_to_4h", "dense_4h_to_h")
    return (
        normed(width, "input_layernorm", bias=True),
        packed("self_attention.", width, heads, bias=True),
        normed(width, "post_attention_layernorm", bias=True),
        ungated("mlp", width, 4 * width, names=names, bias=True),
    )


def bloom(c: Config) -> Decoder:
    width, words = c.num("hidden_size"), "word_embeddings"
    return Decoder(
        width=width,
        first=(
            *embedding(words, c.num("vocab_size"), width),
            *layer_norm(f"{words}_layernorm", width),
        ),
        layers=alike(c, lambda: bloom_layer(c)),
        last=tuple(layer_norm("ln_f", width)),
        path="h.",
        kinds=layer_kinds,
    )


def remote(c: Config) -> bool:
    """Return whether it is llm-foundry's MPTForCausalLM, which reads keys that MptForCausalLM
    ignores."""
    return c.cls.startswith("MPT")


def mpt_heads(c: Config) -> int:
    """Return the KV heads of the remote class (MPTForCausalLM)."""
    heads, attn = c.num("n_heads"), c.sub("attn_config")
    kinds = {
        "multihead_attention": heads,
        "multiquery_attention": 1,
        "grouped_query_attention": attn.num("kv_n_heads", default=heads),
    }
    kind = attn.word("attn_type", default="multihead_attention")
    if kind not in kinds:
        raise attn.error("attn_type", "is.unknown", kind=kind, known=", ".join(kinds))
    return kinds[kind]


def mpt_layer(c: Config) -> Submodules:
    """Return a layer of MPT. transformers' class has as many KV heads as heads, whatever
    attn_config states."""
    width, keys, inner, bias = c.num("d_model"), c.num("d_model"), 4 * c.num("d_model"), False
    if remote(c):
        keys = mpt_heads(c) * (width // max(1, c.num("n_heads")))
        inner = int(c.ratio("expansion_ratio", default=4) * width)
        bias = not c.flag("no_bias")
    return (
        normed(width, "norm_1", bias=bias),
        submodule(
            linear("attn.Wqkv", width + 2 * keys, width, bias=bias),
            linear("attn.out_proj", width, width, bias=bias),
            mixer=multi_head(c.num("n_heads"), width),
        ),
        normed(width, "norm_2", bias=bias),
        ungated("ffn", width, inner, bias=bias),
    )


def mpt(c: Config) -> Decoder:
    width, bias = c.num("d_model"), remote(c) and not c.flag("no_bias")
    return Decoder(
        width=width,
        first=tuple(embedding("wte", c.num("vocab_size"), width)),
        layers=alike(c, lambda: mpt_layer(c), "n_layers"),
        last=tuple(norm("norm_f", width, bias=bias)),
        path="blocks.",
        kinds=layer_kinds,
    )


def mpt_known(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield nothing: MPT's classes have no buffers."""
    attn = c.sub("attn_config")
    if remote(c) and (attn.flag("qk_ln") or not attn.flag("alibi")):
        raise UnsupportedError(sentence("mpt_known"), where=f"{c.where}: attn_config")
    return iter(())


BLOOM = Family(
    tree=bloom, base="transformer", cls="BloomForCausalLM", heads=LEGACY_HEADS, blocks=("h.*",)
)
MPT = Family(
    tree=mpt,
    buffers=mpt_known,
    base="transformer",
    cls="MptForCausalLM",
    heads=LEGACY_HEADS,
    blocks=("blocks.*",),
)

TYPES = {
    "RefinedWeb": ModelType(
        REFINED_WEB,
        positions_of="falcon",
        computes=("parallel", "two_norms", "own_softmax", "raw_scores", "lingering_scores"),
        gguf="falcon",
    ),
    "RefinedWebModel": ModelType(
        REFINED_WEB,
        positions_of="falcon",
        computes=("own_softmax", "raw_scores", "lingering_scores"),
        gguf="falcon",
    ),
    "falcon": ModelType(
        FALCON,
        computes=("parallel", "one_kv_head", "own_softmax", "raw_scores", "lingering_scores"),
    ),
    "bloom": ModelType(
        BLOOM, computes=("not_rotary", "raw_scores", "lingering_scores", "own_gelu")
    ),
    "mpt": ModelType(MPT, computes=("not_rotary", "wide_biases", "lingering_scores", "no_cache")),
}

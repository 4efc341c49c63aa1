"""BLOOM and MPT: decoders with ALiBi, so without position embeddings.

    BLOOM  query_key_value 3 D x D and biases everywhere; a norm after the embedding
    MPT    Wqkv 3 D x D, no biases at all, not even in LayerNorm; 4 D wide whatever the config says

MPT's remote class, MPTForCausalLM, follows its config in all of this.
Source: transformers 5.23 models/{bloom,mpt}/modeling_*.py; mosaicml/llm-foundry models/mpt and
models/layers/attention.py for the remote class.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import alike
from weighbridge.arch.heads import LEGACY_HEADS
from weighbridge.arch.model_types import (
    NEVER,
    ModelType,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
)
from weighbridge.arch.modules import (
    Decoder,
    Submodules,
    multi_head,
    normed,
    packed,
    submodule,
    ungated,
)
from weighbridge.arch.windows import layer_kinds
from weighbridge.errors import UnsupportedError


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
            *norm(f"{words}_layernorm", width, bias=True),
        ),
        layers=alike(c, lambda: bloom_layer(c)),
        last=tuple(norm("ln_f", width, bias=True)),
        path="h.",
        kinds=layer_kinds,
    )


def remote(c: Config) -> bool:
    """MPTForCausalLM (llm-foundry) reads keys that MptForCausalLM has no use for."""
    return c.cls.startswith("MPT")


def mpt_heads(c: Config) -> int:
    """Key-value heads of the remote class."""
    heads, attn = c.num("n_heads"), c.sub("attn_config")
    kinds = {
        "multihead_attention": heads,
        "multiquery_attention": 1,
        "grouped_query_attention": attn.num("kv_n_heads", default=heads),
    }
    kind = attn.word("attn_type", default="multihead_attention")
    if kind not in kinds:
        raise attn.error("attn_type", f"is {kind!r}; known: {', '.join(kinds)}")
    return kinds[kind]


def mpt_layer(c: Config) -> Submodules:
    """transformers' class has as many key-value heads as heads, whatever attn_config says."""
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
    """Yield nothing: the known classes have no buffers."""
    attn = c.sub("attn_config")
    if remote(c) and (attn.flag("qk_ln") or not attn.flag("alibi")):
        what = "MPT is known with ALiBi and without qk_ln"
        raise UnsupportedError(f"{c.where}: attn_config: {what}")
    return iter(())


BLOOM = Family(
    tree=bloom,
    base="transformer",
    cls="BloomForCausalLM",
    heads=LEGACY_HEADS,
    blocks=("h.*",),
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
    "bloom": ModelType(
        BLOOM,
        computes=("not_rotary", "raw_scores", "lingering_scores", "own_gelu"),
        training=TrainingFacts(net="eager.bloom", lora=("query_key_value",)),
        transformers=TransformersFacts(
            caches=(4, 44), last_logits=(5, 0), sdpa=NEVER, plain_loss=(4, 48)
        ),
        vllm=VllmFacts(every_stage="both"),
    ),
    "mpt": ModelType(
        MPT,
        computes=("not_rotary", "wide_biases", "lingering_scores", "no_cache"),
        training=TrainingFacts(net="eager.mpt", lora=("Wqkv",)),
        transformers=TransformersFacts(
            caches=(4, 55), last_logits=(5, 0), sdpa=NEVER, plain_loss=(4, 48)
        ),
    ),
}

"""OPT, XGLM and BioGPT: decoders of fairseq, with learned or computed positions.

    OPT     positions (P + 2) x D, learned; 350M has a narrow embedding W, project_in, project_out
    XGLM    positions computed into a buffer (P + 2) x D
    BioGPT  OPT with a norm after all layers; `output_projection` V x D

Source: transformers 5.23 models/{opt,xglm,biogpt}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    Decoder,
    DecoderNames,
    Submodule,
    Submodules,
    alike,
    multi_head,
    normed,
    submodule,
    tree,
    ungated,
)
from weighbridge.models.arch.heads import LEGACY_HEADS, DecoderFamily, labels, lm_called
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.windows import layer_kinds

OFFSET = 2  # rows before position 0: both classes' `offset`


def attention(width: int, heads: int, *, bias: bool, path: str = "self_attn") -> Submodule:
    names = ("k_proj", "v_proj", "q_proj", "out_proj")
    return submodule(
        *(linear(f"{path}.{name}", width, width, bias=bias) for name in names),
        mixer=multi_head(heads, width),
    )


def opt_layer(c: Config) -> Submodules:
    width, bias = c.num("hidden_size"), c.flag("enable_bias")
    scaled = c.flag("layer_norm_elementwise_affine")
    return (
        attention(width, c.num("num_attention_heads"), bias=bias),
        ungated("", width, c.num("ffn_dim"), names=("fc1", "fc2"), bias=bias),
        normed(width, *(("self_attn_layer_norm", "final_layer_norm") if scaled else ()), bias=True),
    )


def narrow(c: Config) -> int:
    """Return the width of the embedding and the head, which may be below the hidden size."""
    return c.num("word_embed_proj_dim", default=c.num("hidden_size"))


def opt(c: Config) -> Decoder:
    """Return OPT's decoder. Its final norm, if there is one, is created before the layers."""
    width, slim = c.num("hidden_size"), narrow(c)
    last = c.flag("do_layer_norm_before") and not c.flag("_remove_final_layer_norm")
    scaled = last and c.flag("layer_norm_elementwise_affine")
    rows = c.num("max_position_embeddings") + OFFSET
    first = [
        *embedding("decoder.embed_tokens", c.num("vocab_size"), slim),
        *embedding("decoder.embed_positions", rows, width),
    ]
    if slim != width:
        first += linear("decoder.project_out", slim, width)
        first += linear("decoder.project_in", width, slim)
    if scaled:
        first += layer_norm("decoder.final_layer_norm", width)
    return Decoder(
        width=width,
        first=tuple(first),
        layers=alike(c, lambda: opt_layer(c)),
        last=(),
        path="decoder.layers.",
        kinds=layer_kinds,
    )


def opt_lm(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}lm_head", c.num("vocab_size"), narrow(c))


def opt_score(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}score", labels(c), narrow(c))


def opt_spans(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}qa_outputs", 2, narrow(c))


def xglm_layer(c: Config) -> Submodules:
    width, heads = c.num("hidden_size"), c.num("attention_heads", "num_attention_heads")
    over = attention(width, heads, bias=True, path="encoder_attn")._replace(mixer=None)
    norm_of_it = normed(width, "encoder_attn_layer_norm", bias=True)
    return (
        attention(width, heads, bias=True),
        *((over, norm_of_it) if c.flag("add_cross_attention") else ()),
        normed(width, "self_attn_layer_norm", bias=True),
        ungated("", width, c.num("ffn_dim"), names=("fc1", "fc2"), bias=True),
        normed(width, "final_layer_norm", bias=True),
    )


def xglm(c: Config) -> Decoder:
    return tree(
        c, alike(c, lambda: xglm_layer(c)), DecoderNames(final="layer_norm", norm_bias=True)
    )


def xglm_positions(c: Config, prefix: str) -> Iterator[Buffer]:
    rows = c.num("max_position_embeddings") + OFFSET
    yield Buffer(f"{prefix}embed_positions.weights", (rows, c.num("hidden_size")), "")


def biogpt_layer(c: Config) -> Submodules:
    width = c.num("hidden_size")
    return (
        attention(width, c.num("num_attention_heads"), bias=True),
        normed(width, "self_attn_layer_norm", bias=True),
        ungated("", width, c.num("intermediate_size"), names=("fc1", "fc2"), bias=True),
        normed(width, "final_layer_norm", bias=True),
    )


def biogpt(c: Config) -> Decoder:
    width, rows = c.num("hidden_size"), c.num("max_position_embeddings") + OFFSET
    names = DecoderNames(final="layer_norm", norm_bias=True)
    decoder = tree(c, alike(c, lambda: biogpt_layer(c)), names, kinds=layer_kinds)
    return decoder._replace(first=(*decoder.first, *embedding("embed_positions", rows, width)))


OPT = Family(
    tree=opt,
    cls="OPTForCausalLM",
    heads={
        "ForCausalLM": opt_lm,
        "ForSequenceClassification": opt_score,
        "ForQuestionAnswering": opt_spans,
    },
    blocks=("decoder.layers.*",),
)
XGLM = DecoderFamily(tree=xglm, cls="XGLMForCausalLM", buffers=xglm_positions)
BIOGPT = Family(
    tree=biogpt,
    base="biogpt",
    cls="BioGptForCausalLM",
    heads={**LEGACY_HEADS, "ForCausalLM": lm_called("output_projection", "biogpt.embed_tokens")},
    blocks=(),
)

TYPES = {
    "biogpt": ModelType(BIOGPT, computes=("not_rotary", "own_softmax")),
    "opt": ModelType(OPT, computes=("not_rotary", "frees_fed"), gguf="none"),
    "xglm": ModelType(XGLM, computes=("not_rotary", "own_softmax")),
}

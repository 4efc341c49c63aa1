"""OPT and XGLM: decoders of fairseq, with learned or computed positions.

    OPT   positions (P + 2) x D, learned; 350M has a narrow embedding W and project_in, project_out
    XGLM  positions computed into a buffer (P + 2) x D

Source: transformers 5.23 models/{opt,xglm}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS, labels

OFFSET = 2  # rows before position 0: both classes' `offset`


def attention(path: str, width: int, *, bias: bool) -> Iterator[Param]:
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield from linear(f"{path}.{name}", width, width, bias=bias)


def mlp(c: Config, at: str, *, bias: bool) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("ffn_dim")
    yield from linear(f"{at}fc1", inner, width, bias=bias)
    yield from linear(f"{at}fc2", width, inner, bias=bias)


def opt_layer(c: Config, at: str) -> Iterator[Param]:
    width, bias = c.num("hidden_size"), c.flag("enable_bias")
    yield from attention(f"{at}self_attn", width, bias=bias)
    yield from mlp(c, at, bias=bias)
    if c.flag("layer_norm_elementwise_affine"):
        yield from norm(f"{at}self_attn_layer_norm", width, bias=True)
        yield from norm(f"{at}final_layer_norm", width, bias=True)


def narrow(c: Config) -> int:
    """The width of embedding and head."""
    return c.num("word_embed_proj_dim", default=c.num("hidden_size"))


def opt(c: Config, at: str) -> Iterator[Param]:
    c.skip("num_attention_heads")
    at, width, slim = f"{at}decoder.", c.num("hidden_size"), narrow(c)
    yield from embedding(f"{at}embed_tokens", c.num("vocab_size"), slim)
    yield from embedding(f"{at}embed_positions", c.num("max_position_embeddings") + OFFSET, width)
    if slim != width:
        yield from linear(f"{at}project_out", slim, width)
        yield from linear(f"{at}project_in", width, slim)
    last = c.flag("do_layer_norm_before") and not c.flag("_remove_final_layer_norm")
    if last and c.flag("layer_norm_elementwise_affine"):
        yield from norm(f"{at}final_layer_norm", width, bias=True)
    for i in range(c.layers("num_hidden_layers")):
        yield from opt_layer(c, f"{at}layers.{i}.")


def opt_lm(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}lm_head", c.num("vocab_size"), narrow(c))


def opt_score(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}score", labels(c), narrow(c))


def opt_spans(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}qa_outputs", 2, narrow(c), bias=True)


def xglm_layer(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from attention(f"{at}self_attn", width, bias=True)
    if c.flag("add_cross_attention"):
        yield from attention(f"{at}encoder_attn", width, bias=True)
        yield from norm(f"{at}encoder_attn_layer_norm", width, bias=True)
    yield from norm(f"{at}self_attn_layer_norm", width, bias=True)
    yield from mlp(c, at, bias=True)
    yield from norm(f"{at}final_layer_norm", width, bias=True)


def xglm(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{at}embed_tokens", c.num("vocab_size"), width)
    for i in range(c.layers("num_hidden_layers")):
        yield from xglm_layer(c, f"{at}layers.{i}.")
    yield from norm(f"{at}layer_norm", width, bias=True)


def xglm_positions(c: Config, at: str) -> Iterator[Buffer]:
    rows = c.num("max_position_embeddings") + OFFSET
    yield Buffer(f"{at}embed_positions.weights", (rows, c.num("hidden_size")), "")


OPT = Family(
    body=opt,
    cls="OPTForCausalLM",
    heads={
        "ForCausalLM": opt_lm,
        "ForSequenceClassification": opt_score,
        "ForQuestionAnswering": opt_spans,
    },
    blocks=("decoder.layers.*",),
)
XGLM = Family(body=xglm, cls="XGLMForCausalLM", heads=DECODER_HEADS, buffers=xglm_positions)

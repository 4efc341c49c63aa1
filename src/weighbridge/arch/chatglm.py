"""ChatGLM (remote code): the first 6B, and the design of ChatGLM2, ChatGLM3, CodeGeeX2, GLM-4-9B.

    first   query_key_value 3 D x D, dense, two-layer MLP, biases and LayerNorms; lm_head is tied
    later   query_key_value (N + 2 K) H x D, h_to_4h 2 F x D, RMSNorms, output_layer V x D

Configs name the class `ChatGLMModel` and their code hands out the one with the head, so that is
what the name means here: checkpoints hold everything below "transformer.".
Source: THUDM/chatglm{,2,3}-6b modeling_chatglm.py (remote code), as the weight maps show it.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import labels

# Halves of a head's numbers are rotated by one frequency each, over half the head (2D positions).
ROTATED = 4


def first(c: Config) -> bool:
    """The 6B of March 2023 has this key, all later ones `ffn_hidden_size`."""
    return c.has("inner_hidden_size")


def first_layer(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("inner_hidden_size")
    yield from norm(f"{at}input_layernorm", width, bias=True)
    yield from linear(f"{at}attention.query_key_value", 3 * width, width, bias=True)
    yield from linear(f"{at}attention.dense", width, width, bias=True)
    yield from norm(f"{at}post_attention_layernorm", width, bias=True)
    yield from linear(f"{at}mlp.dense_h_to_4h", inner, width, bias=True)
    yield from linear(f"{at}mlp.dense_4h_to_h", width, inner, bias=True)


def first_body(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{at}word_embeddings", c.num("vocab_size"), width)
    for i in range(c.layers("num_layers")):
        yield from first_layer(c, f"{at}layers.{i}.")
    yield from norm(f"{at}final_layernorm", width, bias=True)


def channels(c: Config) -> int:
    default = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    return c.num("kv_channels", default=default)


def later_layer(c: Config, at: str) -> Iterator[Param]:
    width, inner, heads = (
        c.num("hidden_size"),
        c.num("ffn_hidden_size"),
        c.num("num_attention_heads"),
    )
    groups = c.num("multi_query_group_num") if c.flag("multi_query_attention") else heads
    queries, keys = heads * channels(c), groups * channels(c)
    bias, centred = c.flag("add_bias_linear"), not c.flag("rmsnorm", default=True)
    yield from norm(f"{at}input_layernorm", width, bias=centred)
    yield from linear(
        f"{at}self_attention.query_key_value",
        queries + 2 * keys,
        width,
        bias=bias or c.flag("add_qkv_bias"),
    )
    yield from linear(f"{at}self_attention.dense", width, queries, bias=bias)
    yield from norm(f"{at}post_attention_layernorm", width, bias=centred)
    yield from linear(f"{at}mlp.dense_h_to_4h", 2 * inner, width, bias=bias)
    yield from linear(f"{at}mlp.dense_4h_to_h", width, inner, bias=bias)


def later_body(c: Config, at: str) -> Iterator[Param]:
    width, rows = c.num("hidden_size"), c.num("padded_vocab_size", "vocab_size")
    yield from embedding(f"{at}embedding.word_embeddings", rows, width)
    for i in range(c.layers("num_layers")):
        yield from later_layer(c, f"{at}encoder.layers.{i}.")
    if c.flag("post_layer_norm", default=True):
        centred = not c.flag("rmsnorm", default=True)
        yield from norm(f"{at}encoder.final_layernorm", width, bias=centred)
    yield from linear(f"{at}output_layer", rows, width)


def body(c: Config, at: str) -> Iterator[Param]:
    yield from (first_body if first(c) else later_body)(c, at)


def lm(c: Config, at: str) -> Iterator[Param]:
    if first(c):
        yield from linear(f"{at}lm_head", c.num("vocab_size"), c.num("hidden_size"))


def classify(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}classifier_head", labels(c), c.num("hidden_size"), bias=True)


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    """Stored in the checkpoint, in the model's dtype."""
    shape = (channels(c) // ROTATED,)
    if not first(c):
        yield Buffer(f"{at}rotary_pos_emb.inv_freq", shape, "", persistent=True)
        return
    for i in range(c.layers("num_layers")):
        path = f"{at}layers.{i}.attention.rotary_emb.inv_freq"
        yield Buffer(path, shape, "", persistent=True)


CHATGLM = Family(
    body=body,
    base="transformer",
    cls="ChatGLMForConditionalGeneration",
    heads={
        "ForConditionalGeneration": lm,
        "ChatGLMModel": lm,
        "ForSequenceClassification": classify,
    },
    buffers=buffers,
    blocks=lambda c: ("layers.*",) if first(c) else ("encoder.layers.*",),
    ties=True,
)

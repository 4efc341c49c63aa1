"""Gemma 3n (text): Gemma 3 with per-layer embeddings, AltUp, LAuReL and shared keys and values.

    embed_tokens_per_layer  V' x (L P): one table for all layers, P numbers a layer
    altup                   A copies of the stream, mixed by small Linears
    the last S layers hold no k, v: they reuse those of an earlier layer of their kind

Source: transformers 5.23 models/gemma3n/modeling_gemma3n.py (Gemma3nText*).
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.gemma import AROUND, scale
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import head_dim, layered_rotary
from weighbridge.arch.written import norms


def altup(c: Config, at: str) -> Iterator[Param]:
    width, copies = c.num("hidden_size"), c.num("altup_num_inputs")
    yield Param(f"{at}correct_output_scale", (width,), "other")
    yield from linear(f"{at}correction_coefs", copies, copies)
    yield from linear(f"{at}prediction_coefs", copies**2, copies)
    yield from linear(f"{at}modality_router", copies, width)
    yield from norm(f"{at}router_norm", width)


def laurel(c: Config, at: str) -> Iterator[Param]:
    width, rank = c.num("hidden_size"), c.num("laurel_rank")
    yield from linear(f"{at}linear_left", rank, width)
    yield from linear(f"{at}linear_right", width, rank)
    yield from norm(f"{at}post_laurel_norm", width)


def attention(c: Config, at: str, *, shared: bool) -> Iterator[Param]:
    width, size, bias = c.num("hidden_size"), head_dim(c), c.flag("attention_bias")
    queries, keys = c.num("num_attention_heads") * size, c.num("num_key_value_heads") * size
    yield from linear(f"{at}q_proj", queries, width, bias=bias)
    yield from norm(f"{at}q_norm", size)
    if not shared:
        yield from linear(f"{at}k_proj", keys, width, bias=bias)
        yield from linear(f"{at}v_proj", keys, width, bias=bias)
        yield from norm(f"{at}k_norm", size)
    yield from linear(f"{at}o_proj", width, queries, bias=bias)


def per_layer_input(c: Config, at: str) -> Iterator[Param]:
    """What a layer does with its slice of the per-layer embedding."""
    width, slim = c.num("hidden_size"), c.num("hidden_size_per_layer_input")
    yield from linear(f"{at}per_layer_input_gate", slim, width)
    yield from linear(f"{at}per_layer_projection", width, slim)
    yield from norm(f"{at}post_per_layer_input_norm", width)


def per_layer_embedding(c: Config, at: str) -> Iterator[Param]:
    """One table and one projection, as wide as all layers' slices together."""
    slim = c.num("hidden_size_per_layer_input")
    packed = c.layers("num_hidden_layers") * slim
    rows = c.num("vocab_size_per_layer_input")
    yield from embedding(f"{at}embed_tokens_per_layer", rows, packed)
    yield from linear(f"{at}per_layer_model_projection", packed, c.num("hidden_size"))
    yield from norm(f"{at}per_layer_projection_norm", slim)


def layer(c: Config, at: str, *, inner: int, shared: bool) -> Iterator[Param]:
    yield from attention(c, f"{at}self_attn.", shared=shared)
    yield from gated_mlp(f"{at}mlp", c.num("hidden_size"), inner)
    yield from norms(c, at, AROUND)
    yield from altup(c, f"{at}altup.")
    yield from laurel(c, f"{at}laurel.")
    yield from per_layer_input(c, at)


def body(c: Config, at: str) -> Iterator[Param]:
    width, count = c.num("hidden_size"), c.layers("num_hidden_layers")
    first_shared = count - c.num("num_kv_shared_layers")
    yield from embedding(f"{at}embed_tokens", c.num("vocab_size"), width)
    for i, inner in enumerate(c.per_layer("intermediate_size", count=count)):
        yield from layer(c, f"{at}layers.{i}.", inner=inner, shared=i >= first_shared)
    yield from norm(f"{at}norm", width)
    yield from per_layer_embedding(c, at)
    for i in range(c.num("altup_num_inputs") - 1):
        yield from linear(f"{at}altup_projections.{i}", width, width)
        yield from linear(f"{at}altup_unembed_projections.{i}", width, width)


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield scale(f"{at}embed_tokens")
    yield scale(f"{at}embed_tokens_per_layer")
    yield Buffer(f"{at}per_layer_projection_scale", (), "")
    yield Buffer(f"{at}per_layer_input_scale", (), "")
    for i in range(c.layers("num_hidden_layers")):
        yield Buffer(f"{at}layers.{i}.altup.router_input_scale", (), "")
    yield from layered_rotary(c, at, period=5)


GEMMA3N = Family(body=body, cls="Gemma3nForCausalLM", heads=DECODER_HEADS, buffers=buffers)

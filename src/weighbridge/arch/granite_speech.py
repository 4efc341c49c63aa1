"""Granite Speech: a Conformer with a CTC branch, a Q-Former over windows, a Granite.

    block: half MLP, attention with relative positions (one table a layer), convolution with a
    BatchNorm, half MLP, LayerNorm; in the middle the CTC output is fed back

Its LoRA adapter for speech is a file of its own. Source: transformers 5.23
models/granite_speech/modeling_granite_speech.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, embedding, linear
from weighbridge.arch.compose import (
    SIDE_BY_SIDE,
    TEXT,
    Inner,
    composite,
    nested,
    text_head,
)
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import sounds
from weighbridge.arch.model_types import Hearing, ModelType
from weighbridge.arch.vision import batchnorm_buffers, layernorm, nothing

ENCODER = Inner(path="encoder.", config="encoder_config", label="audio tower")
QFORMER = Inner(
    path="projector.qformer.",
    config="projector_config",
    label="projector",
)


def feed_forward(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_dim")
    inner = width * c.num("feedforward_mult")
    yield from layernorm(f"{at}pre_norm", width)
    yield from linear(f"{at}up_proj", inner, width, bias=True)
    yield from linear(f"{at}down_proj", width, inner, bias=True)


def attention(c: Config, at: str) -> Iterator[Param]:
    width, heads = c.num("hidden_dim"), max(1, c.num("num_heads"))
    size = c.num("dim_head", default=width // heads)
    yield from layernorm(f"{at}pre_norm", width)
    yield from linear(f"{at}to_q", heads * size, width)
    yield from linear(f"{at}to_kv", 2 * heads * size, width)
    yield from linear(f"{at}to_out", width, heads * size, bias=True)
    yield from embedding(f"{at}rel_pos_emb", 2 * c.num("max_pos_emb") + 1, size)


def inner_width(c: Config) -> int:
    return c.num("hidden_dim") * c.num("conv_expansion_factor")


def convolution(c: Config, at: str) -> Iterator[Param]:
    width, inner, kernel = c.num("hidden_dim"), inner_width(c), c.num("conv_kernel_size")
    yield from layernorm(f"{at}norm", width)
    yield from conv(f"{at}up_conv", (2 * inner, width, 1))
    yield from conv(f"{at}depth_conv.conv", (inner, 1, kernel), bias=False)
    yield from layernorm(f"{at}batch_norm", inner)
    yield from conv(f"{at}down_conv", (width, inner, 1))


def encoder(c: Config, at: str) -> Iterator[Param]:
    width, out = c.num("hidden_dim"), c.num("output_dim")
    yield from linear(f"{at}input_linear", width, c.num("input_dim"), bias=True)
    for i in range(c.layers("num_layers")):
        path = f"{at}layers.{i}."
        yield from feed_forward(c, f"{path}ff1.")
        yield from attention(c, f"{path}attn.")
        yield from convolution(c, f"{path}conv.")
        yield from feed_forward(c, f"{path}ff2.")
        yield from layernorm(f"{path}post_norm", width)
    yield from linear(f"{at}out", out, width, bias=True)
    yield from linear(f"{at}out_mid", width, out, bias=True)


def encoder_buffers(c: Config, at: str) -> Iterator[Buffer]:
    context = c.num("context_size")
    yield Buffer(f"{at}attention_dists", (context, context), "int64")
    for i in range(c.layers("num_layers")):
        yield from batchnorm_buffers(f"{at}layers.{i}.conv.batch_norm", inner_width(c))


def projector(c: Config, at: str) -> Iterator[Param]:
    width, out = nested(c, QFORMER).num("hidden_size"), nested(c, TEXT).num("hidden_size")
    queries = c.num("window_size") // max(1, c.num("downsample_rate"))
    yield Param(f"{at}projector.query", (1, queries, width), "other")
    yield from linear(f"{at}projector.linear", out, width, bias=True)


GRANITE_ENCODER = Family(
    body=encoder,
    base="",
    cls="GraniteSpeechCTCEncoder",
    heads={"Encoder": nothing},
    buffers=encoder_buffers,
    blocks=(),
)
GRANITE_SPEECH = composite(
    TEXT,
    ENCODER,
    QFORMER,
    own=projector,
    projectors=("projector.",),
    cls="GraniteSpeechForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head()},
    renames=SIDE_BY_SIDE,
)

TYPES = {
    "granite_speech": ModelType(
        GRANITE_SPEECH,
        language="text_config",
        hears=Hearing(sounds.granite_speech, tower="encoder_config"),
    ),
    "granite_speech_encoder": ModelType(GRANITE_ENCODER, no_cache="audio"),
}

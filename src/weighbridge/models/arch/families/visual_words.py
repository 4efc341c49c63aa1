"""Models that see in words of a visual vocabulary: Emu3 and Ovis 2.

    Emu3    a VQGAN for video, whose words are in the vocabulary of one Llama. Temporal blocks: 3-D
            convolutions with BatchNorm; norms of the decoder are modulated by the codes (conv_y and
            conv_b of each); attention has Linears
    Ovis 2  an AIMv2 (gated MLPs, RMSNorms) with a head over the visual words, which have an
            embedding table of their own

Source: transformers 5.23 models/{emu3,ovis2}/modeling_*.py.
"""

from collections.abc import Iterator
from itertools import pairwise

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    conv,
    embedding,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.models.arch.compose import Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families.clip import patch_kernel, side
from weighbridge.models.arch.families.llama import LLAMA
from weighbridge.models.arch.families.vqgan import Norm, latent, resnet, stages
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.vision import batchnorm_buffers, layernorm

TEXT = Inner(path="text_model.")
VQ = Inner(path="vqmodel.", config="vq_config", label="vision tower")
HALVES, MIDDLE = ("encoder", "decoder"), ("attn_1", "block_1", "block_2")
NAMES = (
    ("model.text_model.", "text_model.model."),
    ("lm_head.", "text_model.lm_head."),
    ("model.vqmodel.", "vqmodel."),
)


def modulated(c: Config) -> Norm:
    codes = c.num("embed_dim")

    def norm(path: str, width: int) -> Iterator[Param]:
        yield from layernorm(f"{path}.norm_layer", width)
        yield from conv(f"{path}.conv_y", (width, codes, 1, 1))
        yield from conv(f"{path}.conv_b", (width, codes, 1, 1))

    return norm


def attention(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the four projections of attention. Their width has a key of its own, `hidden_size`."""
    width = c.num("hidden_size")
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield from affine(f"{prefix}{name}", width, width)


def middle(c: Config, prefix: str, width: int, norm: Norm) -> Iterator[Param]:
    yield from resnet(f"{prefix}block_1.", width, width, norm)
    yield from attention(c, f"{prefix}attn_1.")
    yield from norm(f"{prefix}attn_norm", width)
    yield from resnet(f"{prefix}block_2.", width, width, norm)


def level(c: Config, prefix: str, i: int, widths: tuple[int, ...], norm: Norm) -> Iterator[Param]:
    """Yield residual blocks of these `widths`, with attention if the config lists level `i`."""
    for j, (into, width) in enumerate(pairwise(widths)):
        yield from resnet(f"{prefix}block.{j}.", into, width, norm)
        if i in c.nums("attn_resolutions"):
            yield from attention(c, f"{prefix}attn.{j}.")
            yield from norm(f"{prefix}attn_norms.{j}", width)


def temporal(prefix: str, width: int) -> Iterator[Param]:
    for i in (1, 2):
        yield from layernorm(f"{prefix}norm{i}", width)
        yield from conv(f"{prefix}conv{i}.conv", (width, width, 3, 3, 3))


def halvings(c: Config) -> int:
    return max(0, c.num("temporal_downsample_factor").bit_length() - 1)


def encoder(c: Config, prefix: str) -> Iterator[Param]:
    staged, out = stages(c), latent(c)
    yield from conv(f"{prefix}conv_in", (c.num("base_channels"), c.num("in_channels"), 3, 3))
    for i, s in enumerate(staged):
        path = f"{prefix}down_block.down.{i}."
        yield from level(c, path, i, (s.into, *(s.width,) * s.blocks), layernorm)
        if not s.last:
            yield from conv(f"{path}downsample.conv", (s.width, s.width, 3, 3))
    width = staged[-1].width
    yield from middle(c, f"{prefix}middle_block.", width, layernorm)
    yield from layernorm(f"{prefix}norm_out", width)
    yield from conv(f"{prefix}conv_out", (out, width, 3, 3))
    for i in range(halvings(c)):
        yield from conv(f"{prefix}time_conv.{i}.conv.conv", (out, out, 4, 3, 3))
    for i in range(c.layers("num_res_blocks")):
        yield from temporal(f"{prefix}time_res_stack.{i}.", out)


def decoder(c: Config, prefix: str) -> Iterator[Param]:
    staged, width, norm = stages(c), c.num("latent_channels"), modulated(c)
    for i in range(c.layers("num_res_blocks")):
        yield from temporal(f"{prefix}time_res_stack.{i}.", width)
    for i in range(halvings(c)):
        yield from conv(f"{prefix}time_conv.{i}.conv.conv", (width, width, 3, 3, 3))
    into = staged[-1].width
    yield from conv(f"{prefix}conv_in", (into, width, 3, 3))
    yield from middle(c, f"{prefix}middle_block.", into, norm)
    for i, s in reversed(list(enumerate(staged))):
        path = f"{prefix}up_block.up.{i}."
        yield from level(c, path, i, (into, *(s.width,) * (s.blocks + 1)), norm)
        into = s.width
        if i:
            yield from conv(f"{path}upsample.conv", (into, into, 3, 3))
    yield from norm(f"{prefix}norm_out", into)
    yield from conv(f"{prefix}conv_out", (c.num("out_channels"), into, 3, 3))


def vq(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("embed_dim"), c.num("latent_channels")
    yield from encoder(c, f"{prefix}encoder.")
    yield from decoder(c, f"{prefix}decoder.")
    yield from embedding(f"{prefix}quantize.embedding", c.num("codebook_size"), width)
    yield from conv(f"{prefix}quant_conv.conv", (width, inner, 3, 1, 1))
    yield from conv(f"{prefix}post_quant_conv.conv", (inner, width, 3, 1, 1))


def statistics(c: Config, prefix: str) -> Iterator[Buffer]:
    for half, width in (("encoder", latent(c)), ("decoder", c.num("latent_channels"))):
        for i in range(c.layers("num_res_blocks")):
            for j in (1, 2):
                yield from batchnorm_buffers(f"{prefix}{half}.time_res_stack.{i}.norm{j}", width)


EMU3_VQ = Family(
    body=vq,
    cls="Emu3VQVAEModel",
    buffers=statistics,
    blocks=(
        "quantize",
        *(f"{half}.middle_block.{name}" for half in HALVES for name in MIDDLE),
        *(f"{half}.time_res_stack.*" for half in HALVES),
        *(f"encoder.down_block.down.*.{name}.*" for name in ("block", "attn")),
        *(f"decoder.up_block.up.*.{name}.*" for name in ("block", "attn")),
    ),
)
EMU3 = composite(
    TEXT,
    VQ,
    cls="Emu3ForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
    renames=NAMES,
)


# Ovis 2

OVIS_TEXT = Inner(path="language_model.")
OVIS_VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower")


def layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield from linear(f"{prefix}attention.{name}", width, width, bias=c.flag("qkv_bias"))
    yield from gated_mlp(f"{prefix}ffn", width, inner, bias=c.flag("mlp_bias"))
    yield from norm(f"{prefix}rms_norm1", width)
    yield from norm(f"{prefix}rms_norm2", width)


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width, path = c.num("hidden_size"), f"{prefix}transformer."
    words = c.num("vocab_size") - c.num("num_visual_indicator_tokens")
    if words < 1:
        raise c.error("vocab_size", "must.larger")
    yield from conv(f"{path}embeddings.patch_embedding", patch_kernel(c, width))
    yield from embedding(f"{path}embeddings.position_embedding", side(c) ** 2, width)
    yield from norm(f"{path}embeddings.rms_norm", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{path}encoder.layers.{i}.")
    yield from norm(f"{path}rms_norm", width)
    yield from linear(f"{prefix}head_linear", words, width * c.num("hidden_stride") ** 2)
    yield from layernorm(f"{prefix}head_norm", words)


def ids(c: Config, prefix: str) -> Iterator[Buffer]:
    name = f"{prefix}transformer.embeddings.position_ids"
    yield Buffer(name, (1, side(c) ** 2), "int64")


def table(c: Config, prefix: str) -> Iterator[Param]:
    rows = nested(c, OVIS_VISION).num("vocab_size")
    yield from embedding(f"{prefix}visual_embeddings_table", rows, c.num("hidden_size"))


def head(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}lm_head", c.num("vocab_size"), c.num("hidden_size"))


OVIS2_VISION = Family(
    body=vision,
    cls="Ovis2VisionModel",
    buffers=ids,
    blocks=("transformer.encoder.layers.*.attention",),
)
OVIS2 = composite(
    OVIS_TEXT,
    OVIS_VISION,
    own=table,
    projectors=("visual_embeddings_table.",),
    cls="Ovis2ForConditionalGeneration",
    heads={"ForConditionalGeneration": head},
)

TYPES = {
    "emu3": ModelType(EMU3, language="text_config"),
    "emu3_text_model": ModelType(LLAMA),
    "emu3_vqgan": ModelType(EMU3_VQ, no_cache="image", encodes="pyramid"),
    "ovis2": ModelType(OVIS2, language="text_config", sees=Sight(images.ovis2)),
    "ovis2_vision": ModelType(OVIS2_VISION, no_cache="image"),
}

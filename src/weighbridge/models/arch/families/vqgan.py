"""VQGAN, and the models that write images with it: Chameleon and Janus.

VQGAN, with which Chameleon, Emu3 and Janus turn images into tokens and back.

    down: a stage for each multiplier m: R residual blocks of width m B, then half the resolution
    residual block: norm, 3 x 3, norm, 3 x 3, a 1 x 1 shortcut where the width changes

Source: transformers 5.23 models/{chameleon,janus}/modeling_*.py.

Chameleon: images are words, made by a VQGAN, in the vocabulary of one Llama.

Queries and keys have a LayerNorm of its own for every head. Source: transformers 5.23
models/chameleon/modeling_chameleon.py.

Janus: a SigLIP tower to understand images, a VQGAN to draw them, one Llama.

    aligner, generation_aligner: Linear to D, then D x D for each further layer
    generation_head: Linear, then over the codes of the VQGAN

Source: transformers 5.23 models/janus/modeling_janus.py.
"""

from collections.abc import Callable, Iterator

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    conv,
    embedding,
    gated_mlp,
    linear,
)
from weighbridge.models.arch.compose import TEXT, Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import below, stack, two_norms
from weighbridge.models.arch.families.clip import patch_kernel, side
from weighbridge.models.arch.families.llama import LlamaSwitches
from weighbridge.models.arch.families.llama import attention as llama_attention
from weighbridge.models.arch.heads import DECODER_HEADS
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight, differs
from weighbridge.models.arch.rotary import head_dim, rotary
from weighbridge.models.arch.vision import layernorm, scaled, sizes

Norm = Callable[[str, int], Iterator[Param]]


class VqganStage(NamedTuple):
    """A stage of R residual blocks, the first from `into` to `width` channels. `last`: it has the
    lowest resolution."""

    into: int
    width: int
    blocks: int
    last: bool


def stages(c: Config) -> list[VqganStage]:
    base, staged = c.num("base_channels"), []
    multipliers = sizes(c, "channel_multiplier")
    into = base
    for i, m in enumerate(multipliers):
        last = i == len(multipliers) - 1
        staged.append(VqganStage(into, m * base, c.layers("num_res_blocks"), last))
        into = m * base
    return staged


def resnet(prefix: str, into: int, width: int, norm: Norm = layernorm) -> Iterator[Param]:
    yield from norm(f"{prefix}norm1", into)
    yield from conv(f"{prefix}conv1", (width, into, 3, 3))
    yield from norm(f"{prefix}norm2", width)
    yield from conv(f"{prefix}conv2", (width, width, 3, 3))
    if into != width:
        yield from conv(f"{prefix}nin_shortcut", (width, into, 1, 1))


def attention(prefix: str, width: int) -> Iterator[Param]:
    yield from layernorm(f"{prefix}norm", width)
    for name in ("q", "k", "v", "proj_out"):
        yield from conv(f"{prefix}{name}", (width, width, 1, 1))


def middle(prefix: str, width: int, *, attends: bool) -> Iterator[Param]:
    yield from resnet(f"{prefix}block_1.", width, width)
    if attends:
        yield from attention(f"{prefix}attn_1.", width)
    yield from resnet(f"{prefix}block_2.", width, width)


def ends(prefix: str, width: int, out: int) -> Iterator[Param]:
    yield from layernorm(f"{prefix}norm_out", width)
    yield from conv(f"{prefix}conv_out", (out, width, 3, 3))


def latent(c: Config) -> int:
    return c.num("latent_channels") * (2 if c.flag("double_latent") else 1)


def attended(c: Config, level: int, last: bool) -> bool:
    """Return whether a level has attention: at Chameleon's resolutions, or Janus's lowest."""
    if not differs(c.model_type, "named_resolutions"):
        return last
    resolution = c.num("resolution") >> level
    return c.word("attn_type") == "vanilla" and resolution in c.nums("attn_resolutions")


def encoder(c: Config, prefix: str) -> Iterator[Param]:
    staged = stages(c)
    yield from conv(f"{prefix}conv_in", (c.num("base_channels"), c.num("in_channels"), 3, 3))
    for i, stage in enumerate(staged):
        path = f"{prefix}down.{i}."
        for j in range(stage.blocks):
            into = stage.width if j else stage.into
            yield from resnet(f"{path}block.{j}.", into, stage.width)
            if attended(c, i, stage.last):
                yield from attention(f"{path}attn.{j}.", stage.width)
        if not stage.last:
            yield from conv(f"{path}downsample.conv", (stage.width, stage.width, 3, 3))
    width = staged[-1].width
    yield from middle(
        f"{prefix}mid.", width, attends=c.word("attn_type", default="vanilla") == "vanilla"
    )
    yield from ends(prefix, width, latent(c))


def decoder(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the decoder: the encoder's stages in reverse order, each with one block more."""
    staged = stages(c)[::-1]
    into = staged[0].width
    yield from conv(f"{prefix}conv_in", (into, c.num("latent_channels"), 3, 3))
    yield from middle(f"{prefix}mid.", into, attends=True)
    for i, stage in enumerate(staged):
        path = f"{prefix}up.{i}."
        for j in range(stage.blocks + 1):
            yield from resnet(f"{path}block.{j}.", into, stage.width)
            into = stage.width
            if stage.last:
                yield from attention(f"{path}attn.{j}.", into)
        if i < len(staged) - 1:
            yield from conv(f"{path}upsample.conv", (into, into, 3, 3))
    yield from ends(prefix, into, c.num("out_channels"))


def codebook(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("embed_dim"), c.num("latent_channels")
    yield from embedding(f"{prefix}quantize.embedding", c.num("num_embeddings"), width)
    yield from conv(f"{prefix}quant_conv", (width, inner, 1, 1))
    yield from conv(f"{prefix}post_quant_conv", (inner, width, 1, 1))


def encoding(c: Config, prefix: str) -> Iterator[Param]:
    yield from encoder(c, f"{prefix}encoder.")
    yield from codebook(c, prefix)


def both(c: Config, prefix: str) -> Iterator[Param]:
    yield from encoding(c, prefix)
    yield from decoder(c, f"{prefix}decoder.")


MIDDLE = ("mid.attn_1", "mid.block_1", "mid.block_2")
DOWN = ("quantize", "encoder.down.*.block.*", *(f"encoder.{name}" for name in MIDDLE))
UP = ("decoder.up.*.block.*", "decoder.up.*.attn.*", *(f"decoder.{name}" for name in MIDDLE))


def chameleon_blocks(c: Config) -> tuple[str, ...]:
    staged = enumerate(stages(c))
    attends = any(attended(c, i, stage.last) for i, stage in staged)
    return (*DOWN, "encoder.down.*.attn.*") if attends else DOWN


CHAMELEON_VQ = Family(body=encoding, cls="ChameleonVQVAEModel", blocks=chameleon_blocks)
JANUS_VQ = Family(body=both, cls="JanusVQVAEModel", blocks=(*DOWN, "encoder.down.*.attn.*", *UP))


VQ = Inner(path="vqmodel.", config="vq_config", label="vision tower")


def head_norms(c: Config, prefix: str) -> Iterator[Param]:
    heads = c.num("num_attention_heads")
    kv_heads = c.num("num_key_value_heads", default=heads)
    for name, count in (("q_norm", heads), ("k_norm", kv_heads)):
        for kind in ("weight", "bias"):
            yield Param(f"{prefix}{name}.{kind}", (count, head_dim(c)), "norm")


def text(c: Config, prefix: str) -> Iterator[Param]:
    bias, mlp_bias = c.flag("attention_bias"), c.flag("mlp_bias")

    def layer(c: Config, prefix: str, _: int) -> Iterator[Param]:
        width, inner = c.num("hidden_size"), c.num("intermediate_size")
        yield from below(prefix, llama_attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias)))
        yield from head_norms(c, f"{prefix}self_attn.")
        yield from gated_mlp(f"{prefix}mlp", width, inner, bias=mlp_bias)
        yield from two_norms(c, prefix)

    yield from stack(c, prefix, layer)


CHAMELEON = composite(
    VQ,
    own=text,
    held=rotary,
    cls="ChameleonForConditionalGeneration",
    heads={"ForConditionalGeneration": DECODER_HEADS["ForCausalLM"]},
    own_blocks=("layers.*",),
)


VISION = Inner(path="vision_model.", config="vision_config", label="vision tower")
JANUS_WRITER = Inner(path="vqmodel.", config="vq_config", label="vision tower")


def layer(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    inner, bias = scaled(c, width, "mlp_ratio"), c.enabled("attention_bias")
    yield from layernorm(f"{prefix}layer_norm1", width)
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from linear(f"{prefix}self_attn.{name}", width, width, bias=bias)
    yield from affine(f"{prefix}self_attn.projection_layer", width, width)
    for name in ("q_norm", "k_norm") if c.flag("use_qk_norm") else ():
        yield from layernorm(f"{prefix}self_attn.{name}", width)
    yield from layernorm(f"{prefix}layer_norm2", width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)


def vision(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from conv(f"{prefix}embeddings.patch_embedding", patch_kernel(c, width))
    yield from embedding(f"{prefix}embeddings.position_embedding", side(c) ** 2, width)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{prefix}encoder.layers.{i}.")
    yield from layernorm(f"{prefix}post_layernorm", width)


def ids(c: Config, prefix: str) -> Iterator[Buffer]:
    yield Buffer(f"{prefix}embeddings.position_ids", (1, side(c) ** 2), "int64")


def aligner(prefix: str, into: int, out: int, depth: int) -> Iterator[Param]:
    yield from affine(f"{prefix}fc1", out, into)
    for i in range(depth - 1):
        yield from affine(f"{prefix}hidden_layers.{i}", out, out)


def own(c: Config, prefix: str) -> Iterator[Param]:
    tower, vq = nested(c, VISION), nested(c, JANUS_WRITER)
    codes, width, out = vq.num("num_embeddings"), vq.num("embed_dim"), vq.num("projection_dim")
    into = tower.num("hidden_size")
    yield from aligner(
        f"{prefix}aligner.", into, tower.num("projection_dim"), tower.layers("depth")
    )
    yield from embedding(f"{prefix}generation_embeddings", codes, width)
    depth = vq.layers("num_hidden_layers")
    yield from aligner(f"{prefix}generation_aligner.", width, out, depth)
    seen = vq.num("image_token_embed_dim")
    yield from affine(f"{prefix}generation_head.proj_out", out, seen)
    yield from affine(f"{prefix}generation_head.vision_head", codes, out)


JANUS_VISION = Family(
    body=vision, cls="JanusVisionModel", buffers=ids, blocks=("encoder.layers.*",)
)
JANUS = composite(
    TEXT,
    VISION,
    JANUS_WRITER,
    own=own,
    projectors=("aligner.", "generation_"),
    cls="JanusForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head()},
)


TYPES = {
    "chameleon_vqgan": ModelType(
        CHAMELEON_VQ, no_cache="image", encodes="pyramid", computes=("named_resolutions",)
    ),
    "janus_vqgan": ModelType(JANUS_VQ, no_cache="image", encodes="pyramid"),
    "chameleon": ModelType(CHAMELEON, layers="usual", sees=Sight(images.always_1026)),
    "janus": ModelType(
        JANUS, language="text_config", sees=Sight(images.native, within="vision_model")
    ),
    "janus_vision_model": ModelType(JANUS_VISION, no_cache="image"),
}

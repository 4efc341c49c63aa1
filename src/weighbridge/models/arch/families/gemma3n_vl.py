"""Gemma 3n whole, and MobileNetV5, which is its tower.

Gemma 3n whole: MobileNetV5 for images, a Conformer for sound, the nested decoder of gemma.py.

    ear: two strided convolutions with a norm over channels, L layers of (half MLP, chunked
    attention with relative positions, convolution, half MLP)
    each modality has a small vocabulary, two norms and one Linear into the language model

Source: transformers 5.23 models/gemma3n/modeling_gemma3n.py.

MobileNetV5-300M, the tower of Gemma 3n: fused, inverted and attention blocks in four stages.

    inverted block: depthwise a x a (or none), pointwise to e times the width, depthwise k x k
    (or none), pointwise back; attention: N query heads of size d, one key and value head
    at the end the last two stages' outputs side by side go through one more inverted block

Every convolution is followed by an RMSNorm without bias. Source: timm 1.0.31
timm/models/mobilenetv5.py, _gen_mobilenet_v5 (300m) and MobileNetV5MultiScaleFusionAdapter.
"""

from collections.abc import Iterator

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import Buffer, Family, Param, conv, embedding, linear, norm
from weighbridge.models.arch.compose import Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images, sounds
from weighbridge.models.arch.model_types import (
    Hearing,
    ModelType,
    Sight,
)
from weighbridge.models.arch.vision import nothing

TEXT = Inner(path="language_model.")
VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower", whole=True)
AUDIO = Inner(path="audio_tower.", config="audio_config", label="audio tower")


def pairs(c: Config, name: str, default: int) -> list[int]:
    """Return the frequency parts of a list of two [time, frequency] pairs."""
    listed = c.many(name) or [[default, default]] * 2
    if len(listed) != 2 or not all(isinstance(p, list | tuple) and len(p) == 2 for p in listed):
        raise c.error(name, "must.pairs", listed=listed)
    return [int(p[1]) for p in listed]


def subsampling(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the two strided convolutions of the audio tower, and a Linear to its width. Frequencies
    are padded by one on either side."""
    bins, into = c.num("input_feat_size"), 1
    kernels, strides = pairs(c, "sscp_conv_kernel_size", 3), pairs(c, "sscp_conv_stride_size", 2)
    for i, out in enumerate(c.per_layer("sscp_conv_channel_size", count=2)):
        kernel = (c.many("sscp_conv_kernel_size") or [[3, 3]] * 2)[i]
        yield from conv(f"{prefix}conv_{i}.conv", (out, into, *map(int, kernel)), bias=False)
        yield from norm(f"{prefix}conv_{i}.norm", out)
        bins, into = (bins + 2 - kernels[i]) // max(1, strides[i]) + 1, out
    yield from linear(f"{prefix}input_proj_linear", c.num("hidden_size"), into * bins)


def half(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from norm(f"{prefix}pre_layer_norm", width)
    yield from linear(f"{prefix}ffw_layer_1", 4 * width, width)
    yield from linear(f"{prefix}ffw_layer_2", width, 4 * width)
    yield from norm(f"{prefix}post_layer_norm", width)


def attention(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    size = width // max(1, c.num("conf_num_attention_heads"))
    yield from norm(f"{prefix}pre_attn_norm", width)
    yield Param(f"{prefix}attn.per_dim_scale", (size,), "other")
    yield from linear(f"{prefix}attn.relative_position_embedding.pos_proj", width, width)
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from linear(f"{prefix}attn.{name}", width, width)
    yield from linear(f"{prefix}post", width, width)
    yield from norm(f"{prefix}post_norm", width)


def convolution(c: Config, prefix: str) -> Iterator[Param]:
    width, kernel = c.num("hidden_size"), c.num("conf_conv_kernel_size")
    yield from norm(f"{prefix}pre_layer_norm", width)
    yield from linear(f"{prefix}linear_start", 2 * width, width)
    yield from conv(f"{prefix}depthwise_conv1d", (width, 1, kernel), bias=False)
    yield from norm(f"{prefix}conv_norm", width)
    yield from linear(f"{prefix}linear_end", width, width)


def audio(c: Config, prefix: str) -> Iterator[Param]:
    yield from subsampling(c, f"{prefix}subsample_conv_projection.")
    for i in range(c.layers("conf_num_hidden_layers")):
        path = f"{prefix}conformer.{i}."
        yield from half(c, f"{path}ffw_layer_start.")
        yield from attention(c, f"{path}attention.")
        yield from convolution(c, f"{path}lconv1d.")
        yield from half(c, f"{path}ffw_layer_end.")
        yield from norm(f"{path}norm", c.num("hidden_size"))


CLIPPED = ("ffw_layer_start", "attention", "lconv1d", "ffw_layer_end")


def audio_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the audio tower's buffers: clipping scalars, the mask of a chunk, and time scales for
    half of the width."""
    chunk, future = c.num("conf_attention_chunk_size"), c.num("conf_attention_context_right")
    past = max(0, c.num("conf_attention_context_left") - 1)
    for i in range(c.layers("conf_num_hidden_layers")):
        path = f"{prefix}conformer.{i}."
        inside = f"{path}attention.attn."
        for name in (*(f"{part}.gradient_clipping" for part in CLIPPED), "gradient_clipping"):
            yield Buffer(f"{path}{name}", (), "")
        times = (1, 1, c.num("hidden_size") // 2)
        name = f"{inside}relative_position_embedding.inv_timescales"
        yield Buffer(name, times, "float32")
        yield Buffer(f"{inside}q_scale", (), "")
        mask = (chunk, chunk + past + future)
        yield Buffer(f"{inside}local_causal_valid_mask", mask, "bool")
        yield Buffer(f"{inside}softcap", (), "float32")


def embedder(c: Config, prefix: str, out: int) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from embedding(f"{prefix}embedding", c.num("vocab_size"), width)
    yield from norm(f"{prefix}hard_embedding_norm", width)
    yield from norm(f"{prefix}soft_embedding_norm", width)
    yield from linear(f"{prefix}embedding_projection", out, width)


def embedders(c: Config, prefix: str) -> Iterator[Param]:
    out = nested(c, TEXT).num("hidden_size")
    yield from embedder(nested(c, VISION), f"{prefix}embed_vision.", out)
    yield from embedder(nested(c, AUDIO), f"{prefix}embed_audio.", out)


GEMMA3N_AUDIO = Family(
    body=audio,
    base="",
    cls="Gemma3nAudioEncoder",
    heads={"Encoder": nothing},
    blocks=(),
    buffers=audio_buffers,
)
GEMMA3N = composite(
    TEXT,
    VISION,
    AUDIO,
    own=embedders,
    projectors=("embed_vision.", "embed_audio."),
    cls="Gemma3nForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
)


class FusedConvs(NamedTuple):
    expansion: int


class Inverted(NamedTuple):
    start: int  # kernel of the depthwise convolution at the start; 0: none
    middle: int  # kernel of the depthwise convolution in the middle; 0: none
    expansion: int


class MobileAttention(NamedTuple):
    heads: int
    size: int
    shortened: bool  # keys and values of every second row and column


Block = FusedConvs | Inverted | MobileAttention
STEM, FUSION = 64, 2048
STAGES: tuple[tuple[int, tuple[Block, ...]], ...] = (  # width, blocks
    (128, (FusedConvs(4),) * 3),
    (256, (Inverted(3, 5, 6), *(Inverted(5, 0, 4), Inverted(3, 0, 4)) * 2)),
    (
        640,
        (
            Inverted(5, 5, 6),
            *(Inverted(5, 0, 4),) * 7,
            Inverted(0, 0, 1),
            *(MobileAttention(12, 64, True), Inverted(0, 0, 2)) * 14,
        ),
    ),
    (1280, (Inverted(5, 5, 6), *(MobileAttention(16, 96, False), Inverted(0, 0, 2)) * 19)),
)


def normed(prefix: str, shape: tuple[int, ...]) -> Iterator[Param]:
    yield from conv(f"{prefix}.conv", shape, bias=False)
    yield from norm(f"{prefix}.bn", shape[0])


def fused(prefix: str, into: int, out: int, block: FusedConvs) -> Iterator[Param]:
    inner = into * block.expansion
    yield from conv(f"{prefix}conv_exp", (inner, into, 3, 3), bias=False)
    yield from norm(f"{prefix}bn1", inner)
    yield from conv(f"{prefix}conv_pwl", (out, inner, 1, 1), bias=False)
    yield from norm(f"{prefix}bn2", out)


def inverted(prefix: str, into: int, out: int, block: Inverted) -> Iterator[Param]:
    inner = into * block.expansion
    if block.start:
        yield from normed(f"{prefix}dw_start", (into, 1, block.start, block.start))
    yield from normed(f"{prefix}pw_exp", (inner, into, 1, 1))
    if block.middle:
        yield from normed(f"{prefix}dw_mid", (inner, 1, block.middle, block.middle))
    yield from normed(f"{prefix}pw_proj", (out, inner, 1, 1))


def mobilenetv5_attention(prefix: str, width: int, block: MobileAttention) -> Iterator[Param]:
    inner = block.heads * block.size
    yield from norm(f"{prefix}norm", width)
    yield from conv(f"{prefix}attn.query.proj", (inner, width, 1, 1), bias=False)
    for name in ("key", "value"):
        if block.shortened:
            yield from conv(f"{prefix}attn.{name}.down_conv", (width, 1, 3, 3), bias=False)
            yield from norm(f"{prefix}attn.{name}.norm", width)
        yield from conv(f"{prefix}attn.{name}.proj", (block.size, width, 1, 1), bias=False)
    yield from conv(f"{prefix}attn.output.proj", (width, inner, 1, 1), bias=False)


def block(prefix: str, into: int, out: int, block: Block) -> Iterator[Param]:
    if isinstance(block, FusedConvs):
        yield from fused(prefix, into, out, block)
        return
    yield from (
        mobilenetv5_attention(prefix, out, block)
        if isinstance(block, MobileAttention)
        else inverted(prefix, into, out, block)
    )
    yield Param(f"{prefix}layer_scale.gamma", (out,), "other")


def tower(prefix: str) -> Iterator[Param]:
    yield from conv(f"{prefix}conv_stem.conv", (STEM, 3, 3, 3))
    yield from norm(f"{prefix}conv_stem.bn", STEM)
    into = STEM
    for i, (width, blocks) in enumerate(STAGES):
        for j, b in enumerate(blocks):
            yield from block(f"{prefix}blocks.{i}.{j}.", into, width, b)
            into = width
    joined = STAGES[-2][0] + STAGES[-1][0]
    yield from inverted(f"{prefix}msfa.ffn.", joined, FUSION, Inverted(0, 0, 2))
    yield from norm(f"{prefix}msfa.norm", FUSION)


def vision(c: Config, prefix: str) -> Iterator[Param]:
    name = c.word("architecture", default="mobilenetv5_300m_enc")
    if name != "mobilenetv5_300m_enc":
        raise c.error("architecture", "is.unknown", known="mobilenetv5_300m_enc", kind=name)
    yield from tower(f"{prefix}timm_model.")


MOBILENETV5 = Family(body=vision, cls="TimmWrapperModel", blocks=("timm_model.blocks.*.*",))


TYPES = {
    "gemma3n": ModelType(
        GEMMA3N,
        language="text_config",
        sees=Sight(images.always_256),
        hears=Hearing(sounds.gemma3n),
        positions="stretched",
    ),
    "gemma3n_audio": ModelType(
        GEMMA3N_AUDIO, no_cache="audio", heads_key="conf_num_attention_heads"
    ),
    "gemma3n_vision": ModelType(MOBILENETV5, no_cache="image", encodes="pyramid"),
}

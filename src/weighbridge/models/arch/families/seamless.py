"""SeamlessM4T and v2: text or speech in, text or speech out, of any language to any.

    shared V x D; text_encoder and text_decoder of M2M-100's shape; speech_encoder: a Conformer
    t2u_model   text to units: an encoder, and a decoder (v2: of convolutions, all units at once)
    vocoder     units to waves: HiFi-GAN

A class holds the parts that its name needs. Sizes of t2u_model are those keys with "t2u_".
Source: transformers 5.23 models/{seamless_m4t,seamless_m4t_v2}/modeling_*.py.
"""

from collections.abc import Iterable, Iterator

from weighbridge.base.records import frozen_record, replace
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    conv,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import sounds
from weighbridge.models.arch.model_types import Hearing, ModelType
from weighbridge.models.arch.vision import batchnorm_buffers

SPARE = 2  # rows of positions beyond the configured number
UNIT_KERNEL = 7  # SeamlessM4Tv2TextToUnitDecoderLayer
POSITIONS = {"relative", "rotary", "relative_key"}


@frozen_record
class SeamlessVariant:
    """Switches in which v2 differs: chunked speech, units in parallel."""

    parallel: bool


# Text


def attention(prefix: str, width: int) -> Iterator[Param]:
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield from affine(f"{prefix}.{name}", width, width)
    yield from layer_norm(f"{prefix}_layer_norm", width)


def layer(prefix: str, width: int, inner: int, *, crosses: bool) -> Iterator[Param]:
    yield from attention(f"{prefix}self_attn", width)
    if crosses:
        yield from attention(f"{prefix}cross_attention", width)
    yield from affine(f"{prefix}ffn.fc1", inner, width)
    yield from affine(f"{prefix}ffn.fc2", width, inner)
    yield from layer_norm(f"{prefix}ffn_layer_norm", width)


def stack(c: Config, prefix: str, keys: str, *, crosses: bool) -> Iterator[Param]:
    """Yield the layers of one half and its last norm. `keys` is the prefix of the config's keys
    ("t2u_encoder_")."""
    width = c.num("hidden_size")
    for i in range(c.layers(f"{keys}layers")):
        yield from layer(f"{prefix}layers.{i}.", width, c.num(f"{keys}ffn_dim"), crosses=crosses)
    yield from layer_norm(f"{prefix}layer_norm", width)


def words(c: Config, prefix: str) -> Iterator[Param]:
    yield from embedding(f"{prefix}shared", c.num("vocab_size"), c.num("hidden_size"))


def view(c: Config, path: str, prefix: str) -> Iterator[Param]:
    owner = f"{prefix}shared.weight" if c.enabled("tie_word_embeddings") else ""
    shape = (c.num("vocab_size"), c.num("hidden_size"))
    yield Param(f"{path}embed_tokens.weight", shape, "embedding", tied=owner)


def text_encoder(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Param]:
    yield from view(c, f"{prefix}text_encoder.", prefix)
    yield from stack(c, f"{prefix}text_encoder.", "encoder_", crosses=False)


def text_decoder(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Param]:
    """Yield the text decoder and the `lm_head`, which every class has."""
    yield from view(c, f"{prefix}text_decoder.", prefix)
    yield from stack(c, f"{prefix}text_decoder.", "decoder_", crosses=True)
    yield from head(c, f"{prefix}lm_head", c.num("vocab_size"), f"{prefix}shared.weight")


def head(c: Config, path: str, rows: int, owner: str) -> Iterator[Param]:
    ties = c.enabled("tie_word_embeddings")
    yield Param(f"{path}.weight", (rows, c.num("hidden_size")), tied=owner if ties else "")


# Speech in


def position_kind(c: Config) -> str:
    kind = c.word("position_embeddings_type")
    if kind not in POSITIONS:
        known = ", ".join(sorted(POSITIONS))
        raise c.error("position_embeddings_type", "is.unknown", kind=kind, known=known)
    return kind


def head_size(c: Config) -> int:
    return c.num("hidden_size") // max(1, c.num("speech_encoder_attention_heads"))


def conformer_attention(c: Config, prefix: str, *, positions: str) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), c.num("speech_encoder_attention_heads")
    for name in ("linear_q", "linear_k", "linear_v", "linear_out"):
        yield from affine(f"{prefix}{name}", width, width)
    if positions == "relative":
        yield from linear(f"{prefix}linear_pos", width, width)
        for name in ("pos_bias_u", "pos_bias_v"):
            yield Param(f"{prefix}{name}", (heads, head_size(c)), "other")
    if positions == "relative_key":
        sides = c.num("left_max_position_embeddings") + c.num("right_max_position_embeddings")
        yield from embedding(f"{prefix}distance_embedding", sides + 1, head_size(c))


def speech_ffn(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("speech_encoder_intermediate_size")
    yield from affine(f"{prefix}.intermediate_dense", inner, width)
    yield from affine(f"{prefix}.output_dense", width, inner)


def convolutions(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Param]:
    width, kernel = c.num("hidden_size"), c.num("conv_depthwise_kernel_size")
    yield from layer_norm(f"{prefix}layer_norm", width)
    yield from conv(f"{prefix}pointwise_conv1", (2 * width, width, 1), bias=False)
    yield from conv(f"{prefix}depthwise_conv", (width, 1, kernel), bias=False)
    name = "depthwise_layer_norm" if kind.parallel else "batch_norm"
    yield from layer_norm(f"{prefix}{name}", width)
    yield from conv(f"{prefix}pointwise_conv2", (width, width, 1), bias=False)


def conformer_layer(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Param]:
    width = c.num("hidden_size")
    for half in ("ffn1", "ffn2"):
        yield from layer_norm(f"{prefix}{half}_layer_norm", width)
        yield from speech_ffn(c, f"{prefix}{half}")
    yield from layer_norm(f"{prefix}self_attn_layer_norm", width)
    yield from conformer_attention(c, f"{prefix}self_attn.", positions=position_kind(c))
    yield from convolutions(c, f"{prefix}conv_module.", kind)
    yield from layer_norm(f"{prefix}final_layer_norm", width)


def adapter_layer(c: Config, prefix: str) -> Iterator[Param]:
    """Yield a layer of the adapter, which shortens the sequence with gated convolutions in and next
    to attention."""
    width, kernel = c.num("hidden_size"), c.num("adaptor_kernel_size")
    for name in ("residual", "self_attn"):
        yield from layer_norm(f"{prefix}{name}_layer_norm", width)
        yield from conv(f"{prefix}{name}_conv", (2 * width, width, kernel))
    yield from conformer_attention(c, f"{prefix}self_attn.", positions="")
    yield from layer_norm(f"{prefix}ffn_layer_norm", width)
    yield from speech_ffn(c, f"{prefix}ffn")


def speech_encoder(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Param]:
    path, width = f"{prefix}speech_encoder.", c.num("hidden_size")
    bins = c.num("feature_projection_input_dim")
    yield from layer_norm(f"{path}feature_projection.layer_norm", bins)
    yield from affine(f"{path}feature_projection.projection", width, bins)
    for i in range(c.layers("speech_encoder_layers")):
        yield from conformer_layer(c, f"{path}encoder.layers.{i}.", kind)
    yield from layer_norm(f"{path}encoder.layer_norm", width)
    yield from speech_ffn(c, f"{path}intermediate_ffn")
    if c.flag("add_adapter"):
        for i in range(c.layers("num_adapter_layers")):
            yield from adapter_layer(c, f"{path}adapter.layers.{i}.")
    yield from layer_norm(f"{path}inner_layer_norm", width)


# Speech out


def variance_predictor(prefix: str, width: int, inner: int, kernel: int) -> Iterator[Param]:
    """Yield the duration predictor of a unit: two convolutions with norms, then one output."""
    yield from conv(f"{prefix}conv1", (inner, width, kernel))
    yield from layer_norm(f"{prefix}ln1", inner)
    yield from conv(f"{prefix}conv2", (inner, inner, kernel))
    yield from layer_norm(f"{prefix}ln2", inner)
    yield from affine(f"{prefix}proj", 1, inner)


def unit_decoder(c: Config, prefix: str) -> Iterator[Param]:
    """Yield v2's unit decoder: character embeddings, a duration predictor, and convolutions of
    kernel 7 instead of MLPs."""
    width = c.num("hidden_size")
    for name in ("pos_emb_alpha_char", "pos_emb_alpha"):
        yield Param(f"{prefix}{name}", (1,), "other")
    yield from embedding(f"{prefix}embed_char", c.num("char_vocab_size"), width)
    yield from variance_predictor(
        f"{prefix}duration_predictor.",
        c.num("t2u_variance_predictor_embed_dim"),
        c.num("t2u_variance_predictor_hidden_dim"),
        c.num("t2u_variance_predictor_kernel_size"),
    )
    for i in range(c.layers("t2u_decoder_layers")):
        path = f"{prefix}layers.{i}."
        yield from attention(f"{path}self_attn", width)
        for name in ("conv1", "conv2"):
            yield from conv(f"{path}{name}", (width, width, UNIT_KERNEL))
        yield from layer_norm(f"{path}conv_layer_norm", width)
    yield from layer_norm(f"{prefix}layer_norm", width)


def units(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Param]:
    path, rows = f"{prefix}t2u_model.model.", c.num("t2u_vocab_size")
    yield from stack(c, f"{path}encoder.", "t2u_encoder_", crosses=False)
    yield from embedding(f"{path}decoder.embed_tokens", rows, c.num("hidden_size"))
    if kind.parallel:
        yield from unit_decoder(c, f"{path}decoder.")
    else:
        yield from stack(c, f"{path}decoder.", "t2u_decoder_", crosses=True)
    yield from head(c, f"{prefix}t2u_model.lm_head", rows, f"{path}decoder.embed_tokens.weight")


def residual_blocks(c: Config, prefix: str, first: int, width: int) -> Iterator[Param]:
    """Yield one residual block per kernel size, numbered from `first`, with two convolutions per
    dilation."""
    dilations = c.many("resblock_dilation_sizes")
    for i, kernel in enumerate(c.nums("resblock_kernel_sizes")):
        if i >= len(dilations) or not isinstance(dilations[i], list | tuple):
            raise c.error("resblock_dilation_sizes", "has.no_list", i=i)
        for j in range(len(dilations[i])):
            for name in ("convs1", "convs2"):
                path = f"{prefix}resblocks.{first + i}.{name}.{j}"
                yield from conv(path, (width, width, kernel))


def hifi_gan(c: Config, prefix: str, inputs: int) -> Iterator[Param]:
    """Yield the HiFi-GAN vocoder. Each upsampling halves the channels; its transposed kernels are
    [in, out, kernel]."""
    width, kernels = c.num("upsample_initial_channel"), c.nums("upsample_kernel_sizes")
    yield from conv(f"{prefix}conv_pre", (width, inputs, 7))
    for i, kernel in enumerate(kernels[: len(c.nums("upsample_rates"))]):
        half = width // 2
        yield Param(f"{prefix}upsampler.{i}.weight", (width, half, kernel), "conv")
        yield Param(f"{prefix}upsampler.{i}.bias", (half,), "bias")
        yield from residual_blocks(c, prefix, i * len(c.nums("resblock_kernel_sizes")), half)
        width = half
    yield from conv(f"{prefix}conv_post", (1, width, 7))


def vocoder(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Param]:
    path, width = f"{prefix}vocoder.", c.num("unit_embed_dim")
    language, speaker = c.num("lang_embed_dim"), c.num("spkr_embed_dim")
    kernel = c.num("variance_predictor_kernel_size")
    yield from variance_predictor(f"{path}dur_predictor.", width, width, kernel)
    yield from embedding(f"{path}unit_embedding", c.num("unit_hifi_gan_vocab_size"), width)
    yield from embedding(f"{path}speaker_embedding", c.num("vocoder_num_spkrs"), speaker)
    yield from embedding(f"{path}language_embedding", c.num("vocoder_num_langs"), language)
    yield from hifi_gan(c, f"{path}hifi_gan.", width + language + speaker)


# Buffers


def sines(c: Config, path: str, key: str) -> Iterator[Buffer]:
    yield Buffer(f"{path}.weights", (c.num(key) + SPARE, c.num("hidden_size")), "")


def text_encoder_buffers(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Buffer]:
    yield from sines(c, f"{prefix}text_encoder.embed_positions", "max_position_embeddings")


def text_decoder_buffers(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Buffer]:
    yield from sines(c, f"{prefix}text_decoder.embed_positions", "max_position_embeddings")


def unit_buffers(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Buffer]:
    names = ("embed_char_positions", "embed_positions") if kind.parallel else ("embed_positions",)
    for name in names:
        yield from sines(
            c, f"{prefix}t2u_model.model.decoder.{name}", "t2u_max_position_embeddings"
        )


def speech_buffers(c: Config, prefix: str, kind: SeamlessVariant) -> Iterator[Buffer]:
    """Yield the buffers of v1's speech encoder: positions, and running means of its convolutions;
    none for v2."""
    if kind.parallel:
        return
    path, width = f"{prefix}speech_encoder.encoder.", c.num("hidden_size")
    if position_kind(c) == "relative":
        shape = (1, 2 * c.num("max_source_positions") - 1, width)
        yield Buffer(f"{path}embed_positions.pe", shape, "")
    if position_kind(c) == "rotary":
        half = (head_size(c) + 1) // 2
        yield Buffer(f"{path}embed_positions.inv_freq", (half,), "", persistent=True)
    for i in range(c.layers("speech_encoder_layers")):
        yield from batchnorm_buffers(f"{path}layers.{i}.conv_module.batch_norm", width)


def no_buffers(c: Config, prefix: str, kind: SeamlessVariant) -> Iterable[Buffer]:
    return ()


# Which parts stand in which class


PARTS = {
    "text_encoder": (text_encoder, text_encoder_buffers),
    "speech_encoder": (speech_encoder, speech_buffers),
    "text_decoder": (text_decoder, text_decoder_buffers),
    "t2u_model": (units, unit_buffers),
    "vocoder": (vocoder, no_buffers),
}
CLASSES = {
    "ForTextToText": ("text_encoder", "text_decoder"),
    "ForSpeechToText": ("speech_encoder", "text_decoder"),
    "ForTextToSpeech": ("text_encoder", "text_decoder", "t2u_model", "vocoder"),
    "ForSpeechToSpeech": ("speech_encoder", "text_decoder", "t2u_model", "vocoder"),
}
BLOCKS = {
    "text_encoder": ("text_encoder.layers.*",),
    "speech_encoder": ("speech_encoder.encoder.layers.*",),
    "text_decoder": ("text_decoder.layers.*",),
    "t2u_model": ("t2u_model.model.encoder.layers.*", "t2u_model.model.decoder.layers.*"),
    "vocoder": (),
}
# Heads only split a projection, and a class reads no size of a part that it lacks.
STACKS = ("encoder_", "decoder_", "t2u_encoder_", "t2u_decoder_")
IDLE = (
    *(f"{keys}{size}" for keys in STACKS for size in ("layers", "ffn_dim", "attention_heads")),
    "num_hidden_layers",
    "speech_encoder_layers",
    "speech_encoder_attention_heads",
    "speech_encoder_intermediate_size",
    "feature_projection_input_dim",
    "num_adapter_layers",
    "t2u_vocab_size",
    "char_vocab_size",
    "t2u_variance_predictor_embed_dim",
    "t2u_variance_predictor_hidden_dim",
    "unit_hifi_gan_vocab_size",
    "unit_embed_dim",
    "lang_embed_dim",
    "spkr_embed_dim",
)


def nothing(c: Config, prefix: str) -> Iterator[Param]:
    """Yield no parameters: the class adds none to its parts."""
    yield from ()


def holding(kind: SeamlessVariant, names: tuple[str, ...], cls: str, ending: str = "") -> Family:
    def body(c: Config, prefix: str) -> Iterator[Param]:
        c.skip(*IDLE)
        yield from words(c, prefix)
        for name in names:
            yield from PARTS[name][0](c, prefix, kind)

    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        for name in names:
            yield from PARTS[name][1](c, prefix, kind)

    heads: dict[str, ParamRule] = {ending: nothing} if ending else {}
    blocks = tuple(pattern for name in names for pattern in BLOCKS[name])
    return Family(body=body, base="", cls=cls, heads=heads, buffers=buffers, blocks=blocks)


def seamless(kind: SeamlessVariant, stem: str) -> Family:
    whole = holding(kind, tuple(PARTS), f"{stem}Model")
    return replace(
        whole,
        classes={
            ending: holding(kind, names, f"{stem}{ending}", ending)
            for ending, names in CLASSES.items()
        },
    )


SEAMLESS = seamless(SeamlessVariant(parallel=False), "SeamlessM4T")
SEAMLESS_V2 = seamless(SeamlessVariant(parallel=True), "SeamlessM4Tv2")

TYPES = {
    "seamless_m4t": ModelType(
        SEAMLESS,
        layers="beside_text",
        hears=Hearing(sounds.seamless, tower="", within="speech_encoder.encoder"),
        heads_key="speech_encoder_attention_heads",
    ),
    "seamless_m4t_v2": ModelType(
        SEAMLESS_V2,
        layers="beside_text",
        hears=Hearing(sounds.seamless, tower="", within="speech_encoder.encoder"),
        heads_key="speech_encoder_attention_heads",
    ),
}

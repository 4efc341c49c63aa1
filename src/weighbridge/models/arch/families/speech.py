"""Speech to text, and text to speech: SpeechT5, Whisper and Speech2Text.

SpeechT5 is one encoder-decoder between four pairs of ends. A class holds the prenets that its name
says, the base model none:

    prenets   speech: wav2vec 2.0's front, or Linears over mel bins with a speaker; text: words
    wrapped   L layers D x D, F x D; positions relative to 2M steps in the encoder
    postnets  mel bins through five convolutions; or words again

Whisper and Speech2Text hear through convolutions before a pair of stacks like BART's:

    Whisper      two convolutions of kernel 3 over the mel bins; the sines of the encoder and the
                 learned positions of the decoder are both parameters; keys have no bias
    Speech2Text  a row of gated convolutions, each halving; positions are computed

Source: transformers 5.23 models/{speecht5,whisper,speech_to_text}/modeling_*.py.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    conv,
    embedding,
    layer_norm,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families.bart import BLOCKS, BartVariant, sines, tower
from weighbridge.models.arch.families.wav2vec2 import (
    extractor,
    mask,
    position_convolution,
    projection,
)
from weighbridge.models.arch.heads import Buffers, causal_lm, joined, labels
from weighbridge.models.arch.inputs import sounds
from weighbridge.models.arch.model_types import (
    Hearing,
    ModelType,
)
from weighbridge.models.arch.vision import batchnorm_buffers

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Layer

ENDS_ONLY = (
    "speech_decoder_prenet_layers",
    "speech_decoder_postnet_layers",
    "speaker_embedding_dim",
)
IDLE = ("decoder_attention_heads", "vocab_size", "conv_dim", *ENDS_ONLY)
PADDED = 3  # rows of sines before the first position, beside the number of the padding token


def attention(prefix: str, width: int) -> Iterator[Param]:
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield from affine(f"{prefix}.{name}", width, width)


def feed_forward(c: Config, prefix: str, inner: int) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from affine(f"{prefix}feed_forward.intermediate_dense", inner, width)
    yield from affine(f"{prefix}feed_forward.output_dense", width, inner)
    yield from layer_norm(f"{prefix}final_layer_norm", width)


def encoder(c: Config, prefix: str) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), max(1, c.num("encoder_attention_heads"))
    for i in range(c.layers("encoder_layers")):
        path = f"{prefix}layers.{i}."
        yield from attention(f"{path}attention", width)
        yield from layer_norm(f"{path}layer_norm", width)
        yield from feed_forward(c, path, c.num("encoder_ffn_dim"))
    rows = 2 * c.num("encoder_max_relative_position")
    yield from embedding(f"{prefix}embed_positions.pe_k", rows, width // heads)
    yield from layer_norm(f"{prefix}layer_norm", width)


def decoder(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    for i in range(c.layers("decoder_layers")):
        path = f"{prefix}layers.{i}."
        for name in ("self_attn", "encoder_attn"):
            yield from attention(f"{path}{name}", width)
            yield from layer_norm(f"{path}{name}_layer_norm", width)
        yield from feed_forward(c, path, c.num("decoder_ffn_dim"))


def model(c: Config, prefix: str) -> Iterator[Param]:
    c.skip(*IDLE)
    yield from encoder(c, f"{prefix}encoder.wrapped_encoder.")
    yield from decoder(c, f"{prefix}decoder.wrapped_decoder.")


def speech_in(c: Config, prefix: str) -> Iterator[Param]:
    path = f"{prefix}encoder.prenet."
    yield from extractor(c, f"{path}feature_encoder.")
    yield from projection(c, path)
    yield from mask(c, path)
    yield from position_convolution(c, path)


def text_in(c: Config, prefix: str) -> Iterator[Param]:
    path = f"{prefix}encoder.prenet."
    yield from embedding(f"{path}embed_tokens", c.num("vocab_size"), c.num("hidden_size"))
    yield Param(f"{path}encode_positions.alpha", (), "other")


def text_out(c: Config, prefix: str) -> Iterator[Param]:
    path = f"{prefix}decoder.prenet."
    yield from embedding(f"{path}embed_tokens", c.num("vocab_size"), c.num("hidden_size"))


def speech_out(c: Config, prefix: str) -> Iterator[Param]:
    path, width = f"{prefix}decoder.prenet.", c.num("hidden_size")
    inputs, units = c.num("num_mel_bins"), c.num("speech_decoder_prenet_units")
    for i in range(c.layers("speech_decoder_prenet_layers")):
        yield from affine(f"{path}layers.{i}", units, inputs)
        inputs = units
    yield from affine(f"{path}final_layer", width, units)
    yield Param(f"{path}encode_positions.alpha", (), "other")
    speaker = c.num("speaker_embedding_dim") + width
    yield from affine(f"{path}speaker_embeds_layer", width, speaker)


def postnet_widths(c: Config) -> list[int]:
    """Return the channels before, between and after the postnet's convolutions, with mel bins at
    both ends."""
    between = max(0, c.layers("speech_decoder_postnet_layers") - 1)
    bins = c.num("num_mel_bins")
    return [bins, *[c.num("speech_decoder_postnet_units")] * between, bins]


def postnet(c: Config, prefix: str) -> Iterator[Param]:
    path, width = f"{prefix}speech_decoder_postnet.", c.num("hidden_size")
    steps, kernel = c.num("reduction_factor"), c.num("speech_decoder_postnet_kernel")
    yield from affine(f"{path}feat_out", c.num("num_mel_bins") * steps, width)
    yield from affine(f"{path}prob_out", steps, width)
    widths = postnet_widths(c)
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        yield from conv(f"{path}layers.{i}.conv", (outputs, inputs, kernel), bias=False)
        yield from layer_norm(f"{path}layers.{i}.batch_norm", outputs)


def words(c: Config, prefix: str) -> Iterator[Param]:
    ties = c.enabled("tie_word_embeddings")
    owner = f"{prefix}speecht5.decoder.prenet.embed_tokens.weight" if ties else ""
    shape = (c.num("vocab_size"), c.num("hidden_size"))
    yield Param(f"{prefix}text_decoder_postnet.lm_head.weight", shape, tied=owner)


def scaled_sines(path: str, key: str) -> Buffers:
    """Return a rule for a buffer of sines, whose rows begin after the padding token."""

    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        rows = c.num(key) + c.num("pad_token_id", default=1) + PADDED
        yield Buffer(f"{prefix}{path}.weights", (rows, c.num("hidden_size")), "")

    return buffers


def scaled(path: str, key: str) -> Buffers:
    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        shape = (1, c.num(key), c.num("hidden_size"))
        yield Buffer(f"{prefix}{path}.encode_positions.pe", shape, "")

    return buffers


def postnet_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    for i, width in enumerate(postnet_widths(c)[1:]):
        path = f"{prefix.removesuffix('speecht5.')}speech_decoder_postnet.layers.{i}.batch_norm"
        yield from batchnorm_buffers(path, width)


SPEECH, TEXT = "max_speech_positions", "max_text_positions"
HEARD = scaled_sines("encoder.prenet.pos_sinusoidal_embed", SPEECH)
READ = scaled("encoder.prenet", TEXT)
WRITTEN = scaled_sines("decoder.prenet.embed_positions", TEXT)
SPOKEN = scaled("decoder.prenet", SPEECH)


def between(ending: str, body: ParamRule, head: ParamRule, *kept_buffers: Buffers) -> Family:
    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        for part in kept_buffers:
            yield from part(c, prefix)

    return Family(
        body=joined(model, body), base="speecht5", heads={ending: head}, buffers=buffers, blocks=()
    )


ENDS = {
    "ForSpeechToText": between(
        "ForSpeechToText", joined(speech_in, text_out), words, HEARD, WRITTEN
    ),
    "ForTextToSpeech": between(
        "ForTextToSpeech", joined(text_in, speech_out), postnet, READ, SPOKEN, postnet_buffers
    ),
    "ForSpeechToSpeech": between(
        "ForSpeechToSpeech", joined(speech_in, speech_out), postnet, HEARD, SPOKEN, postnet_buffers
    ),
}
SPEECHT5 = Family(body=model, base="speecht5", cls="SpeechT5Model", classes=ENDS, blocks=())


# Whisper and Speech2Text

POSITIONS = ("max_source_positions", "max_target_positions")
WHISPER_KIND = BartVariant(final_norm=True, k_bias=False, positions=POSITIONS)
S2T_KIND = BartVariant(spare=2, in_buffer=True, final_norm=True, positions=POSITIONS)


def whisper_encoder(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("d_model")
    yield from conv(f"{prefix}encoder.conv1", (width, c.num("num_mel_bins"), 3))
    yield from conv(f"{prefix}encoder.conv2", (width, width, 3))
    yield from tower(c, prefix, WHISPER_KIND, "encoder")


def whisper_decoder(c: Config, prefix: str) -> Iterator[Param]:
    yield from embedding(f"{prefix}decoder.embed_tokens", c.num("vocab_size"), c.num("d_model"))
    yield from tower(c, prefix, WHISPER_KIND, "decoder")


def proj_out(c: Config, prefix: str) -> Iterator[Param]:
    ties = c.enabled("tie_word_embeddings")
    owner = f"{prefix}model.decoder.embed_tokens.weight" if ties else ""
    yield Param(f"{prefix}proj_out.weight", (c.num("vocab_size"), c.num("d_model")), tied=owner)


def audio_classifier(c: Config, prefix: str) -> Iterator[Param]:
    inner = c.num("classifier_proj_size")
    if c.flag("use_weighted_layer_sum"):
        yield Param(f"{prefix}layer_weights", (c.num("num_hidden_layers") + 1,), "other")
    yield from affine(f"{prefix}projector", inner, c.num("hidden_size"))
    yield from affine(f"{prefix}classifier", labels(c), inner)


def subsampler(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the subsampling convolutions. Their outputs are gated, so the next one has half as many
    inputs."""
    kernels, last = c.nums("conv_kernel_sizes"), c.num("num_conv_layers") - 1
    inputs = c.num("input_feat_per_channel") * c.num("input_channels")
    for i, kernel in enumerate(kernels):
        outputs = c.num("conv_channels") if i < last else 2 * c.num("d_model")
        yield from conv(f"{prefix}encoder.conv.conv_layers.{i}", (outputs, inputs, kernel))
        inputs = c.num("conv_channels") // 2


def speech_to_text(c: Config, prefix: str) -> Iterator[Param]:
    yield from subsampler(c, prefix)
    yield from tower(c, prefix, S2T_KIND, "encoder")
    yield from embedding(f"{prefix}decoder.embed_tokens", c.num("vocab_size"), c.num("d_model"))
    yield from tower(c, prefix, S2T_KIND, "decoder")


WHISPER = Family(
    body=joined(whisper_encoder, whisper_decoder),
    cls="WhisperForConditionalGeneration",
    heads={"ForConditionalGeneration": proj_out},
    classes={
        "ForCausalLM": Family(
            body=whisper_decoder, heads={"ForCausalLM": proj_out}, blocks=BLOCKS[1:]
        ),
        "ForAudioClassification": Family(
            body=whisper_encoder,
            base="",
            heads={"ForAudioClassification": audio_classifier},
            blocks=BLOCKS[:1],
        ),
    },
    blocks=BLOCKS,
)
SPEECH_TO_TEXT = Family(
    body=speech_to_text,
    cls="Speech2TextForConditionalGeneration",
    heads={"ForConditionalGeneration": causal_lm},
    buffers=sines(S2T_KIND, "encoder", "decoder"),
    blocks=BLOCKS[:1],
)


def whisper_layers(c: Config) -> "tuple[Layer, ...]":
    """Return Whisper's decoder layers, with cross-attention to 30 seconds of sound: always 1,500
    frames after the convolutions."""

    from weighbridge.models.arch import cache_layers

    length = c.num("max_source_positions")
    count = c.layers("decoder_layers")
    return cache_layers.pairs(c, count, cache_layers.bart_sizes(c), "audio", length)


TYPES = {
    "speecht5": ModelType(
        SPEECHT5,
        layers="beside_sound",
        hears=Hearing(sounds.waveform, tower="", within="wrapped_encoder"),
        heads_key="encoder_attention_heads",
        computes=("own_softmax",),
    ),
    "whisper": ModelType(
        WHISPER,
        layers=whisper_layers,
        hears=Hearing(sounds.whisper, tower="", within="encoder"),
        heads_key="encoder_attention_heads",
        width_key="d_model",
        computes=("not_rotary", "laid_heads", "unbiased_logits", "own_items", "own_softmax"),
        gguf="none",
    ),
    "speech_to_text": ModelType(
        SPEECH_TO_TEXT,
        layers="beside_sound",
        hears=Hearing(sounds.speech_to_text, tower="", within="encoder"),
        heads_key="encoder_attention_heads",
        width_key="d_model",
        computes=("own_softmax",),
        gguf="none",
    ),
}

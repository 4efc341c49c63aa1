"""Whisper and Speech2Text: sound in, through convolutions, to a BART-like pair of stacks.

    Whisper      two convolutions of kernel 3 over the mel bins; the sines of the encoder and the
                 learned positions of the decoder are both parameters; keys have no bias
    Speech2Text  a row of gated convolutions, each halving; positions are computed

Source: transformers 5.23 models/{whisper,speech_to_text}/modeling_*.py.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.arch.blueprint import Family, Param, conv, embedding, linear
from weighbridge.arch.config import Config
from weighbridge.arch.encoder_heads import joined
from weighbridge.arch.families.bart import BLOCKS, BartVariant, sines, tower
from weighbridge.arch.heads import causal_lm, labels
from weighbridge.arch.inputs import sounds
from weighbridge.arch.model_types import NEVER, Hearing, ModelType, TrainingFacts, TransformersFacts

if TYPE_CHECKING:
    from weighbridge.arch.mixers import Layer

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
    ties = c.flag("tie_word_embeddings", default=True)
    owner = f"{prefix}model.decoder.embed_tokens.weight" if ties else ""
    yield Param(f"{prefix}proj_out.weight", (c.num("vocab_size"), c.num("d_model")), tied=owner)


def audio_classifier(c: Config, prefix: str) -> Iterator[Param]:
    inner = c.num("classifier_proj_size")
    if c.flag("use_weighted_layer_sum"):
        yield Param(f"{prefix}layer_weights", (c.num("num_hidden_layers") + 1,), "other")
    yield from linear(f"{prefix}projector", inner, c.num("hidden_size"), bias=True)
    yield from linear(f"{prefix}classifier", labels(c), inner, bias=True)


def subsampler(c: Config, prefix: str) -> Iterator[Param]:
    """Each convolution's output is gated, so the next one sees half of its channels."""
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


def decoder_layers(c: Config) -> "tuple[Layer, ...]":
    """Return layers that attend to what they wrote and to a sound of 30 seconds, always: 1,500
    frames after the convolutions."""

    from weighbridge.arch import cache_layers

    length = c.num("max_source_positions")
    count = c.layers("decoder_layers")
    return cache_layers.pairs(c, count, cache_layers.bart_sizes(c), "audio", length)


TYPES = {
    "whisper": ModelType(
        WHISPER,
        layers=decoder_layers,
        hears=Hearing(sounds.whisper, tower="", within="encoder"),
        heads_key="encoder_attention_heads",
        width_key="d_model",
        computes=("not_rotary", "laid_heads", "unbiased_logits", "own_items", "own_softmax"),
        gguf="none",
        training=TrainingFacts(net="bart.whisper", frozen="encoder.embed_positions"),
        transformers=TransformersFacts(caches=(4, 43), last_logits=NEVER),
    ),
    "speech_to_text": ModelType(
        SPEECH_TO_TEXT,
        layers="beside_sound",
        hears=Hearing(sounds.speech_to_text, tower="", within="encoder"),
        heads_key="encoder_attention_heads",
        width_key="d_model",
        computes=("own_softmax",),
        gguf="none",
        transformers=TransformersFacts(caches=(4, 55)),
    ),
}

"""Models of any encoder and any decoder: encoder-decoder, vision- (TrOCR, Donut, captioning) and
speech-.

    the base model of `encoder` + the causal language model of `decoder`
    + enc_to_dec_proj, where their widths differ and the decoder does not say that it takes both

Each half is described by its family; nothing is tied between them.

Source: transformers 5.23
models/{encoder_decoder,vision_encoder_decoder,speech_encoder_decoder}/modeling_*.py.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from weighbridge.models.arch.blueprint import Family, Param, affine
from weighbridge.models.arch.compose import Inner, Label, composite
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images, sounds
from weighbridge.models.arch.model_types import Hearing, ModelType, Sight

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Layer, Source


def width(c: Config, *, output: bool = False) -> int:
    """Return the hidden size; a pyramid (Swin) doubles embed_dim at each stage but the first."""
    if output and (output_width := c.maybe("output_hidden_size")):
        return output_width
    depths = c.many("depths")
    if depths and c.maybe("embed_dim"):
        return c.num("embed_dim") << (len(depths) - 1)
    return c.num("hidden_size")


def bridge(c: Config, prefix: str, *, output: bool) -> Iterator[Param]:
    encoder, decoder = c.sub("encoder"), c.sub("decoder")
    target = width(decoder)
    if width(encoder, output=output) == target or decoder.maybe("cross_attention_hidden_size"):
        return
    yield from affine(f"{prefix}enc_to_dec_proj", target, width(encoder))


def plain_bridge(c: Config, prefix: str) -> Iterator[Param]:
    yield from bridge(c, prefix, output=False)


def speech_bridge(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the projection from a speech encoder to the decoder. It is there if the adapter's
    output width differs, but takes the encoder's width."""
    yield from bridge(c, prefix, output=True)


def untied(c: Config) -> bool:
    """Return False: the decoder ties its embedding; the model around it has none to tie."""
    return False


def pair(label: Label, cls: str, *, speech: bool = False) -> Family:
    return composite(
        Inner(path="encoder.", config="encoder", label=label),
        Inner(path="decoder.", config="decoder", head="ForCausalLM"),
        own=speech_bridge if speech else plain_bridge,
        projectors=("enc_to_dec_proj.",),
        cls=cls,
        ties=untied,
    )


TEXT = pair("language model", "EncoderDecoderModel")
VISION = pair("vision tower", "VisionEncoderDecoderModel")
SPEECH = pair("audio tower", "SpeechEncoderDecoderModel", speech=True)


def decoder_layers(c: Config, source: "Source") -> "tuple[Layer, ...]":
    """Return the decoder's layers, each with a cross-attention of its self-attention's sizes."""

    from weighbridge.models.arch import cache_layers

    return cache_layers.beside_encoder(c.sub("decoder"), source)


TYPES = {
    "encoder-decoder": ModelType(
        TEXT, layers=partial(decoder_layers, source="text"), encoder="encoder"
    ),
    "vision-encoder-decoder": ModelType(
        VISION,
        layers=partial(decoder_layers, source="image"),
        sees=Sight(images.native, tower="encoder"),
        encoder="encoder",
    ),
    "speech-encoder-decoder": ModelType(
        SPEECH,
        layers=partial(decoder_layers, source="audio"),
        hears=Hearing(sounds.waveform, tower="encoder"),
        encoder="encoder",
    ),
}

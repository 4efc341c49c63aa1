"""Qwen2.5-Omni and Qwen3-Omni: a thinker that hears and sees, a talker, a voice.

    thinker = audio tower + image tower + language model; talker = a decoder over speech codes
    that reads the thinker's states; the voice is in omni_wave.py

Checkpoints have the thinker's parts side by side. Sources: transformers 5.23
models/{qwen2_5_omni,qwen3_omni_moe}/modeling_*.py and conversion_mapping.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch import windows
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
from weighbridge.models.arch.compose import Inner, composite, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import below, gated, two_norms
from weighbridge.models.arch.families.audio_lm import layer
from weighbridge.models.arch.families.llama import QWEN2, LlamaSwitches, attention
from weighbridge.models.arch.families.qwen_moe import QWEN3_MOE, moe_and_shared, qwen3_attention
from weighbridge.models.arch.families.qwen_vl import rotary as vision_rotary
from weighbridge.models.arch.families.qwen_vl import vision2_5, vision3
from weighbridge.models.arch.inputs import images, sounds
from weighbridge.models.arch.model_types import Hearing, ModelType, Sight
from weighbridge.models.arch.rotary import rotary
from weighbridge.models.arch.vision import layernorm, nothing

# Towers


def audio2_5(c: Config, prefix: str) -> Iterator[Param]:
    width, out = c.num("d_model"), c.num("output_dim")
    yield from conv(f"{prefix}conv1", (width, c.num("num_mel_bins"), 3))
    yield from conv(f"{prefix}conv2", (width, width, 3))
    yield from embedding(f"{prefix}audio_bos_eos_token", 2, out)
    for i in range(c.layers("encoder_layers")):
        yield from layer(c, f"{prefix}layers.{i}.", width, c.num("encoder_ffn_dim"))
    yield from layernorm(f"{prefix}ln_post", width)
    yield from affine(f"{prefix}proj", out, width)


def audio3(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Qwen3-Omni's audio tower: three strided 2-D convolutions, not two 1-D ones; keys have a
    bias."""
    width, channels, bins = c.num("d_model"), c.num("downsample_hidden_size"), c.num("num_mel_bins")
    for i, into in enumerate((1, channels, channels), 1):
        yield from conv(f"{prefix}conv2d{i}", (channels, into, 3, 3))
        bins = (bins + 1) // 2
    yield from linear(f"{prefix}conv_out", width, channels * bins)
    for i in range(c.layers("encoder_layers")):
        path = f"{prefix}layers.{i}."
        yield from layer(c, path, width, c.num("encoder_ffn_dim"))
        yield Param(f"{path}self_attn.k_proj.bias", (width,), "bias")
    yield from layernorm(f"{prefix}ln_post", width)
    yield from affine(f"{prefix}proj1", width, width)
    yield from affine(f"{prefix}proj2", c.num("output_dim"), width)


def sines(c: Config, prefix: str) -> Iterator[Buffer]:
    shape = (c.num("max_source_positions"), c.num("d_model"))
    yield Buffer(f"{prefix}positional_embedding.positional_embedding", shape, "")


def split_vision(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Qwen2.5-VL's tower with separate projections to queries, keys and values."""
    width = c.num("hidden_size")
    for p in vision2_5(c, prefix):
        head, fused, kind = p.name.partition("attn.qkv.")
        if not fused:
            yield p
        for name in ("q", "k", "v") if fused else ():
            yield p._replace(name=f"{head}attn.{name}.{kind}", shape=(width, *p.shape[1:]))


MERGERS = {"linear_fc1": "mlp.0", "linear_fc2": "mlp.2", "norm": "ln_q"}


def vision3_omni(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Qwen3-VL's tower under older names of its mergers."""
    for p in vision3(c, prefix):
        head, merger, tail = p.name.partition("merger")
        if not merger:
            yield p
            continue
        path, module, kind = tail.rsplit(".", 2)
        name = f"{head.removesuffix('deepstack_')}merger{path}.{MERGERS[module]}.{kind}"
        yield p._replace(name=name)


# Talkers


def talker2_5(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Qwen2.5-Omni's talker; its embeddings have the thinker's width, not the layers'."""
    width, read = c.num("hidden_size"), c.num("embedding_size")
    yield from affine(f"{prefix}thinker_to_talker_proj", width, read)
    yield from embedding(f"{prefix}model.embed_tokens", c.num("vocab_size"), read)
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}model.layers.{i}."
        yield from below(path, attention(c, LlamaSwitches(qkv_bias=True)))
        yield from gated_mlp(f"{path}mlp", width, c.num("intermediate_size"))
        yield from two_norms(c, path)
    yield from norm(f"{prefix}model.norm", width)
    yield from linear(f"{prefix}codec_head", c.num("vocab_size"), width)


def talker2_5_rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from rotary(c, f"{prefix}model.")


def talker_parts(c: Config) -> tuple[Config, Config]:
    return (c.sub("text_config"), c.sub("code_predictor_config"))


def predictor(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Qwen3-Omni's code predictor: an embedding and a head per code group but the first."""
    width, groups = c.num("hidden_size"), c.layers("num_code_groups")
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}model.layers.{i}."
        yield from below(path, qwen3_attention(c), gated("mlp", width, c.num("intermediate_size")))
        yield from two_norms(c, path)
    yield from norm(f"{prefix}model.norm", width)
    for i in range(groups - 1):
        yield from embedding(f"{prefix}model.codec_embedding.{i}", c.num("vocab_size"), width)
        yield from linear(f"{prefix}lm_head.{i}", c.num("vocab_size"), width)


def talker3(c: Config, prefix: str) -> Iterator[Param]:
    text, codes = talker_parts(c)
    width, inner = text.num("hidden_size"), text.num("intermediate_size")
    yield from embedding(f"{prefix}model.codec_embedding", text.num("vocab_size"), width)
    for i in range(text.layers("num_hidden_layers")):
        path = f"{prefix}model.layers.{i}."
        yield from below(path, qwen3_attention(text), moe_and_shared(text))
        yield from two_norms(text, path)
    yield from norm(f"{prefix}model.norm", width)
    read = c.num("thinker_hidden_size", default=2048)
    for name in ("text_projection", "hidden_projection"):
        yield from affine(f"{prefix}{name}.linear_fc1", inner, read)
        yield from affine(f"{prefix}{name}.linear_fc2", width, inner)
    yield from linear(f"{prefix}codec_head", text.num("vocab_size"), width)
    yield from predictor(codes, f"{prefix}code_predictor.")


def talker3_rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    text, codes = talker_parts(c)
    yield from rotary(text, f"{prefix}model.")
    yield from rotary(codes, f"{prefix}code_predictor.model.")


# Wholes

PARTS = ("audio_tower", "visual")


def names(prefix: str) -> tuple[tuple[str, str], ...]:
    model = f"{prefix}model."
    beside = [(f"{model}{part}.", f"{prefix}{part}.") for part in PARTS]
    return ((f"{model}language_model.", model), *beside)


def thinker_of(name: str) -> Family:
    text = Inner(path="language_model.")
    audio = Inner(path="audio_tower.", config="audio_config", label="audio tower", whole=True)
    vision = Inner(path="visual.", config="vision_config", label="vision tower", whole=True)
    return composite(
        text,
        audio,
        vision,
        projectors=("visual.merger.", "visual.merger_list."),
        cls=f"{name}ThinkerForConditionalGeneration",
        heads={"ForConditionalGeneration": text_head(text)},
        renames=names(""),
    )


def omni(name: str, voice: Inner, *, whole: bool = False) -> Family:
    thinker = Inner(
        path="thinker.",
        config="thinker_config",
        head="ForConditionalGeneration",
    )
    talker = Inner(
        path="talker.",
        config="talker_config",
        label="audio tower",
        whole=whole,
        when="enable_audio_output",
    )
    heads = {"ForConditionalGeneration": nothing}
    cls = f"{name}ForConditionalGeneration"
    labels = (
        ("thinker.model.audio_tower.", "audio tower"),
        ("thinker.model.visual.", "vision tower"),
        ("thinker.model.visual.merger.", "projector"),
        ("thinker.model.visual.merger_list.", "projector"),
    )
    return composite(
        thinker,
        talker,
        voice,
        labels=labels,
        base="",
        cls=cls,
        heads=heads,
        renames=names("thinker."),
    )


AUDIO2_5 = Family(
    body=audio2_5, base="", cls="Qwen2_5OmniAudioEncoder", heads={"Encoder": nothing}, buffers=sines
)
AUDIO3 = Family(
    body=audio3, base="", cls="Qwen3OmniMoeAudioEncoder", heads={"Encoder": nothing}, buffers=sines
)
VISION2_5 = Family(
    body=split_vision,
    base="",
    cls="Qwen2_5OmniVisionEncoder",
    heads={"Encoder": nothing},
    buffers=vision_rotary("hidden_size"),
    blocks=("blocks.*",),
)
VISION3 = Family(
    body=vision3_omni,
    base="",
    cls="Qwen3OmniMoeVisionEncoder",
    heads={"Encoder": nothing},
    buffers=vision_rotary("hidden_size"),
    blocks=("blocks.*",),
)
TALKER2_5 = Family(
    body=talker2_5,
    base="",
    cls="Qwen2_5OmniTalkerForConditionalGeneration",
    heads={"ForConditionalGeneration": nothing},
    buffers=talker2_5_rotary,
    blocks=("model.layers.*",),
)
TALKER3 = Family(
    body=talker3,
    base="",
    cls="Qwen3OmniMoeTalkerForConditionalGeneration",
    heads={"ForConditionalGeneration": nothing},
    buffers=talker3_rotary,
    blocks=("model.layers.*", "code_predictor"),
)
THINKER2_5 = thinker_of("Qwen2_5Omni")
THINKER3 = thinker_of("Qwen3OmniMoe")
QWEN2_5_OMNI = omni(
    "Qwen2_5Omni",
    Inner(
        path="token2wav.",
        config="token2wav_config",
        label="audio tower",
        whole=True,
        when="enable_audio_output",
    ),
    whole=True,
)
QWEN3_OMNI_MOE = omni(
    "Qwen3OmniMoe",
    Inner(
        path="code2wav.", config="code2wav_config", label="audio tower", when="enable_audio_output"
    ),
)

TYPES = {
    "qwen2_5_omni": ModelType(QWEN2_5_OMNI, language="thinker_config", seen_by="thinker_config"),
    "qwen2_5_omni_audio_encoder": ModelType(AUDIO2_5, no_cache="audio"),
    "qwen2_5_omni_talker": ModelType(TALKER2_5, layers="usual", windows=windows.upper),
    "qwen2_5_omni_text": ModelType(QWEN2, windows=windows.upper),
    "qwen2_5_omni_thinker": ModelType(
        THINKER2_5,
        language="text_config",
        sees=Sight(images.one_frame),
        hears=Hearing(sounds.qwen2_5_omni, within="audio_tower"),
    ),
    "qwen2_5_omni_vision_encoder": ModelType(
        VISION2_5, no_cache="image", encoder_heads="window_of_pixels"
    ),
    "qwen3_omni_moe": ModelType(
        QWEN3_OMNI_MOE,
        language="thinker_config",
        holds={
            "talker_config": "qwen3_omni_moe_talker",
            "code2wav_config": "qwen3_omni_moe_code2wav",
        },
        seen_by="thinker_config",
    ),
    "qwen3_omni_moe_audio_encoder": ModelType(AUDIO3, no_cache="audio"),
    "qwen3_omni_moe_talker": ModelType(
        TALKER3,
        language="text_config",
        holds={
            "text_config": "qwen3_omni_moe_talker_text",
            "code_predictor_config": "qwen3_omni_moe_talker_code_predictor",
        },
    ),
    "qwen3_omni_moe_text": ModelType(QWEN3_MOE, windows=windows.everywhere),
    "qwen3_omni_moe_thinker": ModelType(
        THINKER3,
        language="text_config",
        sees=Sight(images.one_frame_heard),
        hears=Hearing(sounds.qwen3_omni, within="audio_tower"),
    ),
    "qwen3_omni_moe_vision_encoder": ModelType(VISION3, no_cache="image"),
}

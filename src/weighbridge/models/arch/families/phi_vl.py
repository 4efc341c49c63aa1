"""Phi-3 Vision and Phi-4 Multimodal: embeddings of images and sound beside those of words.

    Phi-3 Vision: CLIP L/14 at 336 (fixed in its code), 2 x 2 patches together, an MLP
    Phi-4: a SigLIP tower with its pooling head, a Conformer with convolutions 8 times down, and
    an MLP for each; its own release keeps a LoRA for images and one for sound in every layer

Sources: transformers 5.23 models/phi4_multimodal/modeling_phi4_multimodal.py;
microsoft/Phi-3.5-vision-instruct modeling_phi3_v.py; microsoft/Phi-4-multimodal-instruct
modeling_phi4mm.py, speech_conformer_encoder.py.
"""

from collections.abc import Callable, Iterator

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    conv,
    embedding,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families.clip import (
    clip_ids,
    clip_vision,
    layers,
    patch_kernel,
    pooling,
    side,
)
from weighbridge.models.arch.families.phi import PHI3
from weighbridge.models.arch.heads import DecoderFamily, causal_lm
from weighbridge.models.arch.inputs import images, sounds
from weighbridge.models.arch.model_types import Hearing, ModelType, Sight
from weighbridge.models.arch.vision import layernorm

# CLIP_VIT_LARGE_PATCH14_336_CONFIG in modeling_phi3_v.py
CLIP = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}

CLIP_WIDTH = 1024
# What Phi-4's own code says of its SigLIP tower and of its Conformer, which no config describes
SO400M = {"hidden_size": 1152, "num_attention_heads": 16, "image_size": 448, "patch_size": 14}
CONFORMER = {"hidden_size": 1024, "num_attention_heads": 16}
Towers = Callable[[Config], tuple[Config, Config]]


def text(c: Config, prefix: str) -> Iterator[Param]:
    yield from PHI3.tensors(c, prefix)


def text_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    buffers = PHI3.buffers
    yield from buffers(c, prefix) if buffers else ()


def phi3_vision(c: Config, prefix: str) -> Iterator[Param]:
    path, width = f"{prefix}vision_embed_tokens.", c.num("hidden_size")
    merged = 4 * CLIP_WIDTH
    yield from text(c, prefix)
    yield from clip_vision(Config(CLIP, model_type=c.held("tower")), f"{path}img_processor.")
    yield Param(f"{path}glb_GN", (1, 1, merged), "other")
    yield Param(f"{path}sub_GN", (1, 1, 1, merged), "other")
    yield from affine(f"{path}img_projection.0", width, merged)
    yield from affine(f"{path}img_projection.2", width, width)


def phi3_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from text_buffers(c, prefix)
    yield from clip_ids(
        Config(CLIP, model_type=c.held("tower")), f"{prefix}vision_embed_tokens.img_processor."
    )


class PhiVlNames(NamedTuple):
    """Names of tensors in which transformers and Phi-4's own code differ."""

    image_up: str
    image_down: str
    whole: str
    tile: str
    sound: tuple[str, str, str, str]
    mlp: tuple[str, str]
    heads: tuple[str, str, str, str]


NATIVE = PhiVlNames(
    "img_projection_up",
    "img_projection_down",
    "global_img_feature_extensor",
    "sub_img_feature_extensor",
    (
        "up_proj_for_speech",
        "down_proj_for_speech",
        "up_proj_for_vision_speech",
        "down_proj_for_vision_speech",
    ),
    ("gate_up_proj", "down_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
)
OWN = PhiVlNames(
    "img_projection.0",
    "img_projection.2",
    "glb_GN",
    "sub_GN",
    (
        "audio_projection.speech.0",
        "audio_projection.speech.2",
        "audio_projection.vision.0",
        "audio_projection.vision.2",
    ),
    ("net.0.linear", "net.2"),
    ("linear_q", "linear_k", "linear_v", "linear_out"),
)


def image(c: Config, prefix: str, width: int, names: PhiVlNames) -> Iterator[Param]:
    """Yield Phi-4's image tower and projector from the tower's config `c`. The pooling head is
    created but not used."""
    text_width = c.num("hidden_size")
    path = f"{prefix}img_processor."
    yield from conv(f"{path}embeddings.patch_embedding", patch_kernel(c, text_width))
    yield from embedding(f"{path}embeddings.position_embedding", side(c) ** 2, text_width)
    yield from layers(c, path)
    yield from layernorm(f"{path}post_layernorm", text_width)
    yield from pooling(c, f"{path}head.")
    yield from affine(f"{prefix}{names.image_up}", width, text_width)
    yield from affine(f"{prefix}{names.image_down}", width, width)
    yield Param(f"{prefix}{names.whole}", (1, 1, text_width), "other")
    yield Param(f"{prefix}{names.tile}", (1, 1, 1, text_width), "other")


def subsampling(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the Conformer's subsampling: a strided convolution, then pairs of depthwise and
    pointwise ones, and a Linear."""
    channels, width = c.num("nemo_conv_channels"), c.num("hidden_size")
    bins, steps = c.num("input_size"), halvings(c)
    yield from conv(f"{prefix}conv.0", (channels, 1, 3, 3))
    for i in range(steps - 1):
        yield from conv(f"{prefix}conv.{2 + 3 * i}", (channels, 1, 3, 3))
        yield from conv(f"{prefix}conv.{3 + 3 * i}", (channels, channels, 1, 1))
    for _ in range(steps):
        bins = (bins - 1) // 2 + 1
    yield from affine(f"{prefix}out", width, channels * bins)


def halvings(c: Config) -> int:
    return max(1, c.num("time_reduction").bit_length() - 1)


def feed_forward(c: Config, prefix: str, names: PhiVlNames) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from layernorm(f"{prefix}layer_norm", width)
    yield from affine(f"{prefix}{names.mlp[0]}", 2 * inner, width)
    yield from affine(f"{prefix}{names.mlp[1]}", width, inner)


def convolution(c: Config, prefix: str) -> Iterator[Param]:
    width, out, kernel = c.num("hidden_size"), c.num("ext_pw_out_channel"), c.num("kernel_size")
    inner = width * c.num("depthwise_multiplier")
    yield from layernorm(f"{prefix}layer_norm", width)
    yield from conv(f"{prefix}glu.ext_pw_conv_1d", (2 * out, width, 1))
    yield Param(f"{prefix}glu.b1", (1, out, 1), "other")
    yield Param(f"{prefix}glu.b2", (1, out, 1), "other")
    yield from conv(f"{prefix}dw_sep_conv_1d.dw_conv", (inner, 1, kernel))
    separable = c.num("depthwise_separable_out_channel")
    yield from conv(f"{prefix}dw_sep_conv_1d.pw_conv", (separable, inner, 1))
    yield from conv(f"{prefix}ext_pw_conv_1d", (out, width, 1))


def conformer(c: Config, prefix: str, names: PhiVlNames) -> Iterator[Param]:
    width = c.num("hidden_size")
    buckets = c.num("bias_max_distance") * (1 if c.flag("bias_symmetric") else 2)
    yield from subsampling(c, f"{prefix}embed.")
    table = f"{prefix}relative_attention_bias_layer.bias_values"
    yield from embedding(table, buckets, c.num("num_attention_heads"))
    for i in range(c.layers("num_blocks")):
        path = f"{prefix}encoders.{i}."
        yield from feed_forward(c, f"{path}feed_forward_in.", names)
        for name in names.heads:
            yield from affine(f"{path}self_attn.{name}", width, width)
        yield from convolution(c, f"{path}conv.")
        yield from feed_forward(c, f"{path}feed_forward_out.", names)
        yield from layernorm(f"{path}layer_norm_att", width)
        yield from layernorm(f"{path}layer_norm", width)


def sound(c: Config, prefix: str, width: int, names: PhiVlNames) -> Iterator[Param]:
    """Yield the Conformer and two projections: for sound alone, and for sound with images."""
    into = c.num("hidden_size") * c.num("downsample_rate")
    yield from conformer(c, f"{prefix}encoder.", names)
    for name, inputs in zip(names.sound, (into, width, into, width), strict=True):
        yield from affine(f"{prefix}{name}", width, inputs)


def towers(c: Config) -> tuple[Config, Config]:
    return (c.sub("vision_config"), c.sub("audio_config"))


OWN_KEYS = {  # of `audio_processor.config`, and what transformers calls them
    "attention_dim": "hidden_size",
    "attention_heads": "num_attention_heads",
    "linear_units": "intermediate_size",
    "depthwise_seperable_out_channel": "depthwise_separable_out_channel",
}


def own_towers(c: Config) -> tuple[Config, Config]:
    """Return the configs of the image and the sound tower. Phi-4's own config has other keys for
    the Conformer, and none for the image tower."""
    sizes = c.sub("audio_processor").sub("config")
    keys = {OWN_KEYS.get(key, key): value for key, value in sizes.raw.items()}
    bias = sizes.sub("relative_attention_bias_args")
    keys["bias_max_distance"] = bias.num("t5_bias_max_distance", default=1000)
    keys["nemo_conv_channels"] = sizes.sub("nemo_conv_settings").num("conv_channels", default=1024)
    audio = Config(keys, where=sizes.where, model_type=c.held("audio"))
    return Config({}, where=c.where, model_type=c.held("vision")), audio


def multimodal(names: PhiVlNames, language: ParamRule, towers: Towers) -> ParamRule:
    def body(c: Config, prefix: str) -> Iterator[Param]:
        (vision, audio), path = towers(c), f"{prefix}embed_tokens_extend."
        width = c.num("hidden_size")
        yield from language(c, prefix)
        yield from image(vision, f"{path}image_embed.", width, names)
        yield from sound(audio, f"{path}audio_embed.", width, names)

    return body


def with_means(towers: Towers) -> Callable[[Config, str], Iterator[Buffer]]:
    """Return a rule for the buffers: those of the text model, and the stored mean and deviation of
    the mel bins."""

    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        yield from text_buffers(c, prefix)
        bins = (towers(c)[1].num("input_size"),)
        path = f"{prefix}embed_tokens_extend.audio_embed.encoder.encoder_embedding."
        for name in ("global_mean", "global_invstd"):
            yield Buffer(f"{path}{name}", bins, "", persistent=True)

    return buffers


ADAPTED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def adapted(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the language model with LoRAs for images and for sound on each layer's Linears."""
    ranks = {name: c.sub(f"{name}_lora").num("r", default=0) for name in ("vision", "speech")}
    for p in text(c, prefix):
        module, _, kind = p.name.rpartition(".")
        if kind != "weight" or module.rpartition(".")[2] not in ADAPTED:
            yield p
            continue
        yield p._replace(name=f"{module}.base_layer.weight")
        for name, rank in ranks.items():
            yield from linear(f"{module}.lora_A.{name}", rank, p.shape[1])
            yield from linear(f"{module}.lora_B.{name}", p.shape[0], rank)


PARTS = (
    ("vision_embed_tokens.", "projector"),
    ("vision_embed_tokens.img_processor.", "vision tower"),
    ("embed_tokens_extend.", "projector"),
    ("embed_tokens_extend.image_embed.img_processor.", "vision tower"),
    ("embed_tokens_extend.audio_embed.encoder.", "audio tower"),
)
PHI3_V = Family(
    body=phi3_vision,
    cls="Phi3VForCausalLM",
    heads={"ForCausalLM": causal_lm},
    buffers=phi3_buffers,
    blocks=("layers.*",),
    parts=PARTS,
)
PHI4_MULTIMODAL = DecoderFamily(
    body=multimodal(NATIVE, text, towers),
    cls="Phi4MultimodalForCausalLM",
    buffers=with_means(towers),
    blocks=("layers.*",),
    parts=PARTS,
)
PHI4MM = DecoderFamily(
    body=multimodal(OWN, adapted, own_towers),
    cls="Phi4MMForCausalLM",
    buffers=with_means(own_towers),
    blocks=("layers.*",),
    parts=PARTS,
)

TYPES = {
    "phi3_v": ModelType(
        PHI3_V,
        layers="usual",
        holds={"tower": "clip_vision_model"},
        sees=Sight(images.phi3_v, in_code=CLIP),
        windows=windows.everywhere,
        gguf="phi3",
    ),
    "phi4_multimodal": ModelType(
        PHI4_MULTIMODAL,
        layers="usual",
        holds={"tower": "siglip_vision_model"},
        sees=Sight(images.phi4, in_code=SO400M),
        hears=Hearing(sounds.phi4, in_code=CONFORMER),
        windows=windows.everywhere,
        gguf="phi3",
    ),
    "phi4mm": ModelType(
        PHI4MM,
        layers="usual",
        holds={
            "tower": "siglip_vision_model",
            "vision": "phi4_multimodal_vision",
            "audio": "phi4_multimodal_audio",
        },
        sees=Sight(images.phi4, in_code=SO400M),
        hears=Hearing(sounds.phi4, in_code=CONFORMER),
        windows=windows.everywhere,
        gguf="phi3",
    ),
}

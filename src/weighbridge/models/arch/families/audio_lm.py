"""Language models that hear: Qwen2-Audio, Ultravox, Voxtral, Granite Speech.

Whisper-like ears for language models: Qwen2-Audio, Voxtral, Ultravox.

    ear: convolutions of kernel 3 over M mel bins, P positions, L layers of (q, k, v, out; fc1,
    fc2; two LayerNorms), LayerNorm; keys have no bias

Sources: transformers 5.23 models/{qwen2_audio,voxtral,whisper}/modeling_*.py;
fixie-ai/ultravox-v0_6-llama-3_1-8b ultravox_model.py.

Granite Speech: a Conformer with a CTC branch, a Q-Former over windows, a Granite.

    block: half MLP, attention with relative positions (one table a layer), convolution with a
    BatchNorm, half MLP, LayerNorm; in the middle the CTC output is fed back

Its LoRA adapter for speech is a file of its own. Source: transformers 5.23
models/granite_speech/modeling_granite_speech.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    conv,
    embedding,
    linear,
    norm,
)
from weighbridge.models.arch.compose import SIDE_BY_SIDE, TEXT, Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import sounds
from weighbridge.models.arch.model_types import Hearing, ModelType
from weighbridge.models.arch.vision import batchnorm_buffers, layernorm, nothing

AUDIO = Inner(path="audio_tower.", config="audio_config", label="audio tower")
PROJECTOR = "multi_modal_projector."


def layer(c: Config, prefix: str, width: int, inner: int) -> Iterator[Param]:
    yield from linear(f"{prefix}self_attn.k_proj", width, width)
    for name in ("v_proj", "q_proj", "out_proj"):
        yield from affine(f"{prefix}self_attn.{name}", width, width)
    yield from layernorm(f"{prefix}self_attn_layer_norm", width)
    yield from affine(f"{prefix}fc1", inner, width)
    yield from affine(f"{prefix}fc2", width, inner)
    yield from layernorm(f"{prefix}final_layer_norm", width)


def layers(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("d_model"), c.num("encoder_ffn_dim")
    for i in range(c.layers("encoder_layers")):
        yield from layer(c, f"{prefix}layers.{i}.", width, inner)


def whisper_encoder(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("d_model")
    yield from conv(f"{prefix}conv1", (width, c.num("num_mel_bins"), 3))
    yield from conv(f"{prefix}conv2", (width, width, 3))
    yield from embedding(f"{prefix}embed_positions", c.num("max_source_positions"), width)
    yield from layers(c, prefix)
    yield from layernorm(f"{prefix}layer_norm", width)


def one_layer(c: Config, prefix: str) -> Iterator[Param]:
    into, out = nested(c, AUDIO).num("d_model"), nested(c, TEXT).num("hidden_size")
    yield from affine(f"{prefix}{PROJECTOR}linear", out, into)


def two_layers(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Voxtral's projector: two Linears over frames stacked to the tower's MLP width."""
    into, out = nested(c, AUDIO).num("intermediate_size"), nested(c, TEXT).num("hidden_size")
    yield from linear(f"{prefix}{PROJECTOR}linear_1", out, into)
    yield from linear(f"{prefix}{PROJECTOR}linear_2", out, out)


def family_of(name: str, projector: ParamRule) -> Family:
    return composite(
        TEXT,
        AUDIO,
        own=projector,
        projectors=(PROJECTOR,),
        cls=f"{name}ForConditionalGeneration",
        heads={"ForConditionalGeneration": text_head()},
        renames=SIDE_BY_SIDE,
    )


ENCODER = Family(body=whisper_encoder, base="", cls="Qwen2AudioEncoder", heads={"Encoder": nothing})
QWEN2_AUDIO = family_of("Qwen2Audio", one_layer)
VOXTRAL = family_of("Voxtral", two_layers)

# Ultravox: a whole language model, most often named by `text_model_id` and not described.

ULTRAVOX_TEXT = Inner(path="language_model.", head="ForCausalLM")


def ultravox_projector(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Ultravox's projector, by default a SwiGLU whose first Linear gives value and gate. Its
    second norm is in the middle since version 0.5, after the second Linear before."""
    inner, out = c.num("hidden_size"), nested(c, ULTRAVOX_TEXT).num("hidden_size")
    into = nested(c, AUDIO).num("d_model") * c.num("stack_factor", default=8)
    half = inner // 2 if c.word("projector_act", default="swiglu") == "swiglu" else inner
    middle = c.flag("projector_ln_mid")
    yield from norm(f"{prefix}{PROJECTOR}ln_pre", into)
    yield from linear(f"{prefix}{PROJECTOR}linear_1", inner, into)
    yield from linear(f"{prefix}{PROJECTOR}linear_2", out, half)
    if middle:
        yield from norm(f"{prefix}{PROJECTOR}ln_mid", half)
    else:
        yield from norm(f"{prefix}{PROJECTOR}ln_post", out)


def described(c: Config, prefix: str) -> Iterator[Param]:
    if not c.has("text_config"):
        raise c.error("text_config", "is.missing_text", text=c.word("text_model_id") or "nothing")
    yield from ultravox_projector(c, prefix)


ULTRAVOX = composite(
    ULTRAVOX_TEXT,
    Inner(path="audio_tower.", config="audio_config", label="audio tower", fixed=True),
    own=described,
    projectors=(PROJECTOR,),
    cls="UltravoxModel",
)


GRANITE_TOWER = Inner(path="encoder.", config="encoder_config", label="audio tower")
QFORMER = Inner(path="projector.qformer.", config="projector_config", label="projector")


def feed_forward(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_dim")
    inner = width * c.num("feedforward_mult")
    yield from layernorm(f"{prefix}pre_norm", width)
    yield from affine(f"{prefix}up_proj", inner, width)
    yield from affine(f"{prefix}down_proj", width, inner)


def attention(c: Config, prefix: str) -> Iterator[Param]:
    width, heads = c.num("hidden_dim"), max(1, c.num("num_heads"))
    size = c.num("dim_head", default=width // heads)
    yield from layernorm(f"{prefix}pre_norm", width)
    yield from linear(f"{prefix}to_q", heads * size, width)
    yield from linear(f"{prefix}to_kv", 2 * heads * size, width)
    yield from affine(f"{prefix}to_out", width, heads * size)
    yield from embedding(f"{prefix}rel_pos_emb", 2 * c.num("max_pos_emb") + 1, size)


def inner_width(c: Config) -> int:
    return c.num("hidden_dim") * c.num("conv_expansion_factor")


def convolution(c: Config, prefix: str) -> Iterator[Param]:
    width, inner, kernel = c.num("hidden_dim"), inner_width(c), c.num("conv_kernel_size")
    yield from layernorm(f"{prefix}norm", width)
    yield from conv(f"{prefix}up_conv", (2 * inner, width, 1))
    yield from conv(f"{prefix}depth_conv.conv", (inner, 1, kernel), bias=False)
    yield from layernorm(f"{prefix}batch_norm", inner)
    yield from conv(f"{prefix}down_conv", (width, inner, 1))


def encoder(c: Config, prefix: str) -> Iterator[Param]:
    width, out = c.num("hidden_dim"), c.num("output_dim")
    yield from affine(f"{prefix}input_linear", width, c.num("input_dim"))
    for i in range(c.layers("num_layers")):
        path = f"{prefix}layers.{i}."
        yield from feed_forward(c, f"{path}ff1.")
        yield from attention(c, f"{path}attn.")
        yield from convolution(c, f"{path}conv.")
        yield from feed_forward(c, f"{path}ff2.")
        yield from layernorm(f"{path}post_norm", width)
    yield from affine(f"{prefix}out", out, width)
    yield from affine(f"{prefix}out_mid", width, out)


def encoder_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    context = c.num("context_size")
    yield Buffer(f"{prefix}attention_dists", (context, context), "int64")
    for i in range(c.layers("num_layers")):
        yield from batchnorm_buffers(f"{prefix}layers.{i}.conv.batch_norm", inner_width(c))


def projector(c: Config, prefix: str) -> Iterator[Param]:
    width, out = nested(c, QFORMER).num("hidden_size"), nested(c, TEXT).num("hidden_size")
    queries = c.num("window_size") // max(1, c.num("downsample_rate"))
    yield Param(f"{prefix}projector.query", (1, queries, width), "other")
    yield from affine(f"{prefix}projector.linear", out, width)


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
    GRANITE_TOWER,
    QFORMER,
    own=projector,
    projectors=("projector.",),
    cls="GraniteSpeechForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head()},
    renames=SIDE_BY_SIDE,
)


TYPES = {
    "qwen2_audio": ModelType(
        QWEN2_AUDIO, language="text_config", hears=Hearing(sounds.qwen2_audio)
    ),
    "qwen2_audio_encoder": ModelType(ENCODER, no_cache="audio"),
    "ultravox": ModelType(
        ULTRAVOX,
        language="text_config",
        holds={"text_config": "llama", "audio_config": "qwen2_audio_encoder"},
        hears=Hearing(sounds.ultravox),
    ),
    "voxtral": ModelType(VOXTRAL, language="text_config", hears=Hearing(sounds.voxtral)),
    "voxtral_encoder": ModelType(ENCODER, no_cache="audio"),
    "granite_speech": ModelType(
        GRANITE_SPEECH,
        language="text_config",
        hears=Hearing(sounds.granite_speech, tower="encoder_config"),
    ),
    "granite_speech_encoder": ModelType(GRANITE_ENCODER, no_cache="audio"),
}

"""Whisper-like ears for language models: Qwen2-Audio, Voxtral, Ultravox.

    ear: convolutions of kernel 3 over M mel bins, P positions, L layers of (q, k, v, out; fc1,
    fc2; two LayerNorms), LayerNorm; keys have no bias

Sources: transformers 5.23 models/{qwen2_audio,voxtral,whisper}/modeling_*.py;
fixie-ai/ultravox-v0_6-llama-3_1-8b ultravox_model.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param, ParamRule, conv, embedding, linear, norm
from weighbridge.arch.compose import (
    SIDE_BY_SIDE,
    TEXT,
    Inner,
    composite,
    nested,
    text_head,
)
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import sounds
from weighbridge.arch.model_types import Hearing, ModelType
from weighbridge.arch.vision import layernorm, nothing

AUDIO = Inner(
    path="audio_tower.",
    config="audio_config",
    label="audio tower",
)
PROJECTOR = "multi_modal_projector."


def layer(c: Config, at: str, width: int, inner: int) -> Iterator[Param]:
    yield from linear(f"{at}self_attn.k_proj", width, width)
    for name in ("v_proj", "q_proj", "out_proj"):
        yield from linear(f"{at}self_attn.{name}", width, width, bias=True)
    yield from layernorm(f"{at}self_attn_layer_norm", width)
    yield from linear(f"{at}fc1", inner, width, bias=True)
    yield from linear(f"{at}fc2", width, inner, bias=True)
    yield from layernorm(f"{at}final_layer_norm", width)


def layers(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("d_model"), c.num("encoder_ffn_dim")
    for i in range(c.layers("encoder_layers")):
        yield from layer(c, f"{at}layers.{i}.", width, inner)


def whisper_encoder(c: Config, at: str) -> Iterator[Param]:
    width = c.num("d_model")
    yield from conv(f"{at}conv1", (width, c.num("num_mel_bins"), 3))
    yield from conv(f"{at}conv2", (width, width, 3))
    yield from embedding(f"{at}embed_positions", c.num("max_source_positions"), width)
    yield from layers(c, at)
    yield from layernorm(f"{at}layer_norm", width)


def one_layer(c: Config, at: str) -> Iterator[Param]:
    into, out = nested(c, AUDIO).num("d_model"), nested(c, TEXT).num("hidden_size")
    yield from linear(f"{at}{PROJECTOR}linear", out, into, bias=True)


def two_layers(c: Config, at: str) -> Iterator[Param]:
    """Voxtral stacks frames until they are as wide as the tower's feed-forward."""
    into, out = nested(c, AUDIO).num("intermediate_size"), nested(c, TEXT).num("hidden_size")
    yield from linear(f"{at}{PROJECTOR}linear_1", out, into)
    yield from linear(f"{at}{PROJECTOR}linear_2", out, out)


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

ULTRAVOX_TEXT = Inner(
    path="language_model.", config="text_config", label="language model", head="ForCausalLM"
)


def ultravox_projector(c: Config, at: str) -> Iterator[Param]:
    """SwiGLU: value and gate come out of the first Linear; the second norm is in the middle since
    version 0.5, after the second Linear before."""
    inner, out = c.num("hidden_size"), nested(c, ULTRAVOX_TEXT).num("hidden_size")
    into = nested(c, AUDIO).num("d_model") * c.num("stack_factor", default=8)
    half = inner // 2 if c.word("projector_act", default="swiglu") == "swiglu" else inner
    middle = c.flag("projector_ln_mid")
    yield from norm(f"{at}{PROJECTOR}ln_pre", into)
    yield from linear(f"{at}{PROJECTOR}linear_1", inner, into)
    yield from linear(f"{at}{PROJECTOR}linear_2", out, half)
    if middle:
        yield from norm(f"{at}{PROJECTOR}ln_mid", half)
    else:
        yield from norm(f"{at}{PROJECTOR}ln_post", out)


def described(c: Config, at: str) -> Iterator[Param]:
    if not c.has("text_config"):
        text = c.word("text_model_id", default="nothing")
        raise c.error("text_config", f"is missing: weigh the language model, {text}, by itself")
    yield from ultravox_projector(c, at)


ULTRAVOX = composite(
    ULTRAVOX_TEXT,
    Inner(
        path="audio_tower.",
        config="audio_config",
        label="audio tower",
        fixed=True,
    ),
    own=described,
    projectors=(PROJECTOR,),
    cls="UltravoxModel",
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
}

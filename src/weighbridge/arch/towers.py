"""The encoders of images and sounds before a language model: widths, layers, positions, tokens.

    widths and layers   off the tower's tensors;    heads   from its own config
    positions, tokens   of one image or sound, as the family's processor makes them (`inputs/`)

Where the user names no size, an image is IMAGE and a sound SECONDS; a tower of one size resizes
what it is given, and one of any size has a largest beyond which nothing grows, so that a huge image
tells the most that it can take.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

from weighbridge.arch import encoders
from weighbridge.arch.blueprint import Blueprint, Param
from weighbridge.arch.body import Dense, Tower
from weighbridge.arch.config import Config
from weighbridge.arch.feeds import feeds, joined
from weighbridge.arch.inputs import images, sounds
from weighbridge.arch.inputs.images import Seen
from weighbridge.arch.inputs.sizes import Size
from weighbridge.arch.stacks import Stack, sort

IMAGE = Size(1024, 1024)
SECONDS = 30.0
SEES = re.compile("vision|visual")  # in paths, of classes whose parts have no labels
LABELS = {"image": "vision tower", "audio": "audio tower"}

CLIP_336 = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
SO400M = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
}
CONFORMER = {"hidden_size": 1024, "num_attention_heads": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one model type sees or hears. `key` is its tower's config, "" the model's own."""

    rule: images.Rule | sounds.Rule
    kind: Literal["image", "audio"] = "image"
    key: str = "vision_config"
    model_type: str = ""  # of the tower, where neither class nor config names one
    known: Mapping[str, Any] | None = None  # the config, where the model has none
    within: str = ""  # in the paths of its tensors, where others have its label
    bare: bool = False  # no tower


def sees(rule: images.Rule, model_type: str = "", known: Mapping[str, Any] | None = None) -> Look:
    return Look(rule=rule, model_type=model_type, known=known)


def counted(tokens: int) -> Look:
    return Look(rule=images.fixed(tokens))


def hears(
    rule: sounds.Rule, key: str = "audio_config", model_type: str = "", within: str = ""
) -> Look:
    return Look(rule=rule, kind="audio", key=key, model_type=model_type, within=within)


CLIP, VIT = "clip_vision_model", images.native
QWEN2 = images.merged(56 * 56, 28 * 28 * 16384)
QWEN3 = images.merged(256 * 256, 4096 * 4096, patch=16)
QWEN3_OMNI = images.merged(56 * 56, 28 * 28 * 16384, patch=16)
GLM = images.merged(112 * 112 // 2, 28 * 28 * 6144)  # an image counts as two frames
BLIP2 = images.queries("num_query_tokens", 32)
PERCEIVED = images.inner_queries("perceiver_config", "resampler_n_latents", 64)
PHI_SOUND = Look(rule=sounds.phi4, kind="audio", known=CONFORMER)
ALONE = Look(rule=VIT, key="")
WAVES = hears(sounds.waveform, "")

# model type -> its towers
LOOKS: Mapping[str, tuple[Look, ...]] = {
    **dict.fromkeys(("llava", "vipllava"), (sees(images.patches_alone, CLIP),)),
    **dict.fromkeys(
        ("llava_next", "llava_next_video", "llava_onevision"), (sees(images.llava_next, CLIP),)
    ),
    "paligemma": (sees(VIT, "siglip_vision_model"),),
    "gemma3": (sees(images.queries("mm_tokens_per_image", 256), "siglip_vision_model"),),
    "gemma3n": (counted(256), hears(sounds.gemma3n)),
    "gemma4": (sees(images.gemma4), hears(sounds.gemma4)),
    "mistral3": (sees(images.pixtral),),
    "aya_vision": (sees(images.aya),),
    "cohere2_vision": (sees(images.cohere2),),
    "lfm2_vl": (sees(images.lfm2),),
    "internvl": (sees(images.internvl),),
    "internvl_chat": (sees(images.internvl, "intern_vit_6b"),),
    "qwen2_vl": (sees(QWEN2, "qwen2_vl_vision"),),
    "qwen2_5_vl": (sees(QWEN2, "qwen2_5_vl_vision"),),
    "qwen3_vl": (sees(QWEN3, "qwen3_vl_vision"),),
    "qwen3_vl_moe": (sees(QWEN3, "qwen3_vl_moe_vision"),),
    "qwen3_5": (sees(QWEN3, "qwen3_5_vision"),),
    "qwen3_5_moe": (sees(QWEN3, "qwen3_5_moe_vision"),),
    "qwen2_5_omni_thinker": (sees(QWEN2), hears(sounds.qwen2_5_omni, within="audio_tower")),
    "qwen3_omni_moe_thinker": (sees(QWEN3_OMNI), hears(sounds.qwen3_omni, within="audio_tower")),
    **dict.fromkeys(("glm4v", "glm4v_moe", "glm46v"), (sees(GLM, "glm4v_vision"),)),
    **dict.fromkeys(
        ("ernie4_5_vl_moe", "ernie4_5_moe_vl"),
        (sees(images.merged(56 * 56, 28 * 28 * 6177), "ernie4_5_vl_moe_vision"),),
    ),
    "paddleocr_vl": (sees(images.merged(147_384, 2_822_400), "paddleocr_vl_vision"),),
    "kimi_vl": (sees(images.kimi(4096), "moonvit"),),
    "kimi_k25": (sees(images.kimi(16384)),),
    "idefics": (sees(PERCEIVED, "idefics_vision"),),
    "idefics2": (sees(images.idefics2, "idefics2_vision"),),
    "idefics3": (sees(images.idefics3, "idefics3_vision"),),
    "smolvlm": (sees(images.idefics3, "smolvlm_vision"),),
    "llama4": (sees(images.llama4),),
    "mllama": (sees(images.mllama),),
    "blip": (sees(VIT, "blip_vision_model"),),
    "blip-2": (sees(BLIP2, "blip_2_vision_model"),),
    "instructblip": (sees(BLIP2, "instructblip_vision_model"),),
    "git": (sees(VIT, "git_vision_model"),),
    "kosmos-2": (sees(images.queries("latent_query_num", 64), "kosmos_2_vision_model"),),
    "florence2": (counted(577),),
    "fuyu": (Look(rule=images.fuyu, key="", bare=True),),
    "chameleon": (counted(1026),),
    "aria": (sees(images.aria),),
    "ovis2": (sees(images.ovis2),),
    "janus": (Look(rule=VIT, within="vision_model"),),
    "phi3_v": (sees(images.phi3_v, known=CLIP_336),),
    **dict.fromkeys(("phi4_multimodal", "phi4mm"), (sees(images.phi4, known=SO400M), PHI_SOUND)),
    "minicpmv": (sees(images.minicpmv, known=SO400M),),
    **dict.fromkeys(("clip", "siglip", "chinese_clip"), (sees(VIT),)),
    "siglip2": (sees(images.siglip2),),
    "sam": (sees(VIT, "sam_vision_model"),),
    "vision-encoder-decoder": (Look(rule=VIT, key="encoder"),),
    # sounds
    "whisper": (hears(sounds.whisper, "", within="encoder"),),
    "speech_to_text": (hears(sounds.speech_to_text, "", within="encoder"),),
    "qwen2_audio": (hears(sounds.qwen2_audio),),
    "voxtral": (hears(sounds.voxtral),),
    "ultravox": (hears(sounds.ultravox, model_type="whisper"),),
    "granite_speech": (hears(sounds.granite_speech, "encoder_config"),),
    **dict.fromkeys(
        ("seamless_m4t", "seamless_m4t_v2"),
        (hears(sounds.seamless, "", within="speech_encoder.encoder"),),
    ),
    "speech-encoder-decoder": (hears(sounds.waveform, "encoder"),),
    "speecht5": (hears(sounds.waveform, "", within="wrapped_encoder"),),
    # towers by themselves
    **dict.fromkeys(("vit", "deit", "beit", "dinov2", "dinov2_with_registers"), (ALONE,)),
    **dict.fromkeys(("dinov3_vit", "clip_vision_model", "siglip_vision_model"), (ALONE,)),
    **dict.fromkeys(("chinese_clip_vision_model", "git_vision_model"), (ALONE,)),
    **dict.fromkeys(("wav2vec2", "wav2vec2-conformer", "hubert", "wavlm"), (WAVES,)),
    **dict.fromkeys(("unispeech", "unispeech-sat"), (WAVES,)),
}


def reads_samples(model_type: str) -> bool:
    """Whether a class begins with convolutions over the samples of a sound."""
    return any(look.rule is sounds.waveform for look in LOOKS.get(model_type, ()))


# Models that hold the one that sees -> the key of its config, its type where that names none
INSIDE = {
    "qwen2_5_omni": ("thinker_config", "qwen2_5_omni_thinker"),
    "qwen3_omni_moe": ("thinker_config", "qwen3_omni_moe_thinker"),
    "colpali": ("vlm_config", "paligemma"),
    "colqwen2": ("vlm_config", "qwen2_vl"),
}


def towers(
    plan: Blueprint,
    config: Config | None,
    *,
    image_size: tuple[int, int] | None = None,
    audio_seconds: float | None = None,
) -> tuple[Tower, ...]:
    """Return the towers that the model has; none for a model of text, or where no rule is known."""
    found, rest = sort(plan)
    return of_stacks(found, rest, config, image_size=image_size, audio_seconds=audio_seconds)


def of_stacks(
    found: Sequence[Stack],
    rest: Sequence[Param],
    config: Config | None,
    *,
    image_size: tuple[int, int] | None = None,
    audio_seconds: float | None = None,
) -> tuple[Tower, ...]:
    if config is None:
        return ()
    if config.model_type in INSIDE:
        key, model_type = INSIDE[config.model_type]
        config = config.sub(key, model_type=model_type)
    image = Size(*image_size) if image_size is not None else IMAGE
    given = {"image": image, "audio": SECONDS if audio_seconds is None else audio_seconds}
    pairs = ((look, _own(found, look)) for look in LOOKS.get(config.model_type, ()))
    return tuple(
        _tower(own, rest, config, look, given[look.kind]) for look, own in pairs if own or look.bare
    )


def _own(found: Sequence[Stack], look: Look) -> Sequence[Stack]:
    """The tower's stacks; none where the class is the language model alone."""
    inside = [s for s in found if look.within in s.path]
    if not look.key:
        return [s for s in inside if "decoder" not in s.path]
    labelled = [s for s in inside if s.part == LABELS[look.kind]]
    return labelled or [s for s in inside if SEES.search(s.path) and look.kind == "image"]


def _config(config: Config, look: Look) -> Config:
    if look.known is not None:
        return Config(look.known)
    return config.sub(look.key, model_type=look.model_type) if look.key else config


def _tower(
    found: Sequence[Stack], rest: Sequence[Param], config: Config, look: Look, given: Any
) -> Tower:
    own = _config(config, look)
    seen: Seen = look.rule(config, own, given)
    layers = joined(found)
    if look.bare or own.model_type in encoders.PYRAMIDS or not layers:
        return _described_by_counts(look, seen)
    dense = [f for f in feeds(layers[0]) if isinstance(f, Dense)]
    widest = max(dense, key=lambda f: f.width)
    attention = encoders.mixers(own, len(layers))[0]
    return Tower(
        kind=look.kind,
        hidden=widest.inputs,
        heads=attention.heads,
        head_dim=attention.key_dim,
        layers=len(layers),
        feed=replace(widest, inputs=0),
        positions=seen.positions,
        tokens=seen.tokens,
        window=seen.window,
        patch=_patch(rest) if look.kind == "image" else 0,
    )


def _described_by_counts(look: Look, seen: Seen) -> Tower:
    return Tower(
        kind=look.kind,
        hidden=0,
        heads=0,
        head_dim=0,
        layers=0,
        feed=Dense(width=0),
        positions=seen.positions,
        tokens=seen.tokens,
    )


def _patch(rest: Sequence[Param]) -> int:
    """Inputs of what embeds a patch, be it a convolution or a linear."""
    first = (p for p in rest if "patch" in p.name and p.kind in ("conv", "linear"))
    return next((prod(p.shape[1:]) for p in first), 0)

"""Models that hold a language model: which nested config is its own."""

from collections.abc import Mapping

from weighbridge.arch import deepseek_vl, minicpmv
from weighbridge.arch.compose import Inner, nested
from weighbridge.arch.config import Config
from weighbridge.arch.layers import layers
from weighbridge.arch.mixers import Layer


def part(key: str = "text_config", model_type: str = "", *, flat: bool = False) -> Inner:
    return Inner(path="", config=key, label="language model", model_type=model_type, flat=flat)


WITHIN: Mapping[str, Inner] = {
    **dict.fromkeys(("aya_vision", "cohere2_vision", "gemma3", "internvl", "llava"), part()),
    **dict.fromkeys(("llava_next", "llava_next_video", "llava_onevision", "mistral3"), part()),
    **dict.fromkeys(("paligemma", "vipllava", "lfm2_vl", "gemma3n", "gemma4"), part()),
    "gemma4_unified": part(),
    **dict.fromkeys(("llama4", "aria", "qwen2_audio", "ultravox", "voxtral"), part()),
    **dict.fromkeys(("granite_speech", "florence2", "janus", "emu3"), part()),
    **dict.fromkeys(("blip-2", "instructblip", "idefics2", "idefics3", "smolvlm"), part()),
    "ovis2": part(model_type="qwen2"),
    "qwen2_vl": part(model_type="qwen2_vl_text", flat=True),
    "qwen2_5_vl": part(model_type="qwen2_5_vl_text", flat=True),
    "qwen3_vl": part(model_type="qwen3_vl_text"),
    "qwen3_vl_moe": part(model_type="qwen3_vl_moe_text"),
    "qwen3_5": part(model_type="qwen3_5_text"),
    "qwen3_5_moe": part(model_type="qwen3_5_moe_text"),
    **{name: part(model_type=f"{name}_text") for name in ("glm4v", "glm4v_moe")},
    "glm46v": part(model_type="glm4v_text"),
    "kimi_vl": part(model_type="deepseek_v3"),
    "kimi_k25": part(model_type="deepseek_v3"),
    "internvl_chat": part("llm_config"),
    "fuyu": part(model_type="persimmon", flat=True),
    **dict.fromkeys(
        ("ernie4_5_vl_moe", "ernie4_5_moe_vl"), part(model_type="ernie4_5_vl_moe_text", flat=True)
    ),
    "paddleocr_vl": part(model_type="paddleocr_vl_text", flat=True),
    "llava_llama": part(model_type="llama", flat=True),
    "llava_mistral": part(model_type="mistral", flat=True),
    "llava_qwen": part(model_type="qwen2", flat=True),
    "qwen2_5_omni": part("thinker_config", "qwen2_5_omni_thinker"),
    "qwen3_omni_moe": part("thinker_config", "qwen3_omni_moe_thinker"),
    "qwen2_5_omni_thinker": part(model_type="qwen2_5_omni_text"),
    "qwen3_omni_moe_thinker": part(model_type="qwen3_omni_moe_text"),
    "qwen3_omni_moe_talker": part(),
}


FLAT = {"llava": "LlavaLlamaForCausalLM"}  # its authors' class, which keeps Llama's own keys


def of_part(c: Config) -> tuple[Layer, ...]:
    name = "llava_llama" if FLAT.get(c.model_type) == c.cls else c.model_type
    return layers(nested(c, WITHIN[name]))


def of_minicpmv(c: Config) -> tuple[Layer, ...]:
    """Return the layers of MiniCPM-V's language model, which its `version` tells."""
    return layers(nested(c, minicpmv.language(c)))


def of_deepseek_vl(c: Config) -> tuple[Layer, ...]:
    return layers(deepseek_vl.language(c))

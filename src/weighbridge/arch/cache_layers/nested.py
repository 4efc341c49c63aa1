"""Models that hold a language model: which nested config is its own."""

from weighbridge.arch import deepseek_vl, minicpmv
from weighbridge.arch.compose import Inner, nested
from weighbridge.arch.config import Config
from weighbridge.arch.layers import layers
from weighbridge.arch.mixers import Layer

# LLaVA's authors' class, which keeps Llama's own keys
FLAT = "LlavaLlamaForCausalLM"


def _held(c: Config, key: str = "text_config", *, flat: bool = False) -> tuple[Layer, ...]:
    return layers(nested(c, Inner(path="", config=key, label="language model", flat=flat)))


def of_part(c: Config) -> tuple[Layer, ...]:
    return _held(c)


def of_flat(c: Config) -> tuple[Layer, ...]:
    """Return the layers of a language model whose keys may be among the outer ones."""
    return _held(c, flat=True)


def of_llava(c: Config) -> tuple[Layer, ...]:
    return _held(c, flat=c.cls == FLAT)


def of_llm(c: Config) -> tuple[Layer, ...]:
    return _held(c, "llm_config")


def of_thinker(c: Config) -> tuple[Layer, ...]:
    return _held(c, "thinker_config")


def of_minicpmv(c: Config) -> tuple[Layer, ...]:
    """Return the layers of MiniCPM-V's language model, which its `version` tells."""
    return layers(nested(c, minicpmv.language(c)))


def of_deepseek_vl(c: Config) -> tuple[Layer, ...]:
    return layers(deepseek_vl.language(c))

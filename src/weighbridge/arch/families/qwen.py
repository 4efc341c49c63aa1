"""Qwen 1 (remote code): GPT-2's names around a Llama-like layer.

    c_attn 3 N H x D with bias, c_proj; w1, w2 (F / 2) x D, mlp.c_proj D x F / 2; two RMSNorms

`intermediate_size` counts both halves of the gated MLP. Early configs use Megatron's names.
Source: Qwen/Qwen-7B modeling_qwen.py (remote code), as the weight maps show it.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import alike
from weighbridge.arch.heads import labels
from weighbridge.arch.model_types import MlxFacts, ModelType, TrainingFacts
from weighbridge.arch.modules import Decoder, Submodules, fused_gqa, normed, submodule
from weighbridge.arch.parts import Attention, Dense
from weighbridge.arch.windows import layer_kinds
from weighbridge.errors import UnsupportedError


def width_of(c: Config) -> int:
    return c.num("hidden_size", "n_embd")


def vocabulary(c: Config) -> int:
    return c.num("vocab_size", "padded_vocab_size")


def layer(c: Config) -> Submodules:
    width, bias = width_of(c), not c.flag("no_bias", default=True)
    heads = c.num("num_attention_heads", "n_head")
    inner = c.num("intermediate_size", "ffn_hidden_size") // 2
    size = c.num("kv_channels", default=width // max(1, heads))
    a = Attention(heads=heads, kv_heads=heads, key_dim=size, value_dim=size)
    return (
        normed(width, "ln_1"),
        fused_gqa("attn.", width, a, bias=(True, bias), names=("c_attn", "c_proj")),
        normed(width, "ln_2"),
        submodule(  # what w2 gives is activated, w1 comes first in the class
            linear("mlp.w1", inner, width, bias=bias, role="up"),
            linear("mlp.w2", inner, width, bias=bias, role="gate"),
            linear("mlp.c_proj", width, inner, bias=bias, role="down"),
            feed=Dense(width=inner),
        ),
    )


def qwen(c: Config) -> Decoder:
    width = width_of(c)
    return Decoder(
        width=width,
        first=tuple(embedding("wte", vocabulary(c), width)),
        layers=alike(c, lambda: layer(c), "num_hidden_layers", "n_layer"),
        last=tuple(norm("ln_f", width)),
        path="h.",
        kinds=layer_kinds,
    )


def lm(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}lm_head", vocabulary(c), width_of(c))


def score(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}score", labels(c), width_of(c))


def no_images(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield no buffers, and refuse Qwen-VL: its layers are known, its image tower is not."""
    if c.has("visual"):
        raise UnsupportedError(f"{c.where}: visual: Qwen-VL's image tower is not in our tables")
    return iter(())


QWEN = Family(
    tree=qwen,
    buffers=no_images,
    base="transformer",
    cls="QWenLMHeadModel",
    heads={"LMHeadModel": lm, "ForCausalLM": lm, "ForSequenceClassification": score},
    blocks=("h.*",),
)

TYPES = {
    "qwen": ModelType(
        QWEN, training=TrainingFacts(net="decoders.qwen"), mlx=MlxFacts(has_class=True)
    ),
}

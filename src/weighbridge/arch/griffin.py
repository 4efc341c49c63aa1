"""RecurrentGemma (Griffin): two layers of a gated linear recurrence to one of local attention.

    recurrence of width R in N blocks: linear_x and linear_y R x D, convolution R x k, two gates of
    N (R/N)^2 weights, R decays, linear_out D x R; the MLP is F/2 wide

Source: transformers 5.23 models/recurrent_gemma/modeling_recurrent_gemma.py.
"""

from collections.abc import Iterator

from weighbridge.arch.attention import Attention
from weighbridge.arch.blueprint import Buffer, Family, Param, conv, linear
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import DecoderNames, tree
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import kv_heads
from weighbridge.arch.mixers import GatedRecurrence
from weighbridge.arch.model_types import MlxFacts, ModelType, TrainingFacts, TransformersFacts
from weighbridge.arch.modules import (
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    gated,
    gqa,
    normed,
    submodule,
)
from weighbridge.arch.rotary import frequencies, share


def recurrence(c: Config) -> Submodule:
    width, heads, at = c.num("hidden_size"), c.num("num_attention_heads"), "temporal_block."
    own = GatedRecurrence(width=c.num("lru_width", default=width), kernel=c.num("conv1d_width"))
    wide, size = own.width, own.width // max(1, heads)
    return submodule(
        linear(f"{at}linear_y", wide, width, bias=True),
        linear(f"{at}linear_x", wide, width, bias=True),
        linear(f"{at}linear_out", width, wide, bias=True),
        conv(f"{at}conv_1d", (wide, 1, own.kernel)),
        [Param(f"{at}rg_lru.recurrent_param", (wide,), "other")],
        (
            Param(f"{at}rg_lru.{gate}_gate_{name}", shape, "other")
            for gate in ("input", "recurrent")
            for name, shape in (("weight", (heads, size, size)), ("bias", (heads, size)))
        ),
        mixer=own,
    )


def head_size(c: Config) -> int:
    return c.num("hidden_size") // max(1, c.num("num_attention_heads"))


def attention(c: Config) -> Submodule:
    """Attention is always local."""
    heads, bias = c.num("num_attention_heads"), c.flag("attention_bias")
    a = Attention(
        heads=heads,
        kv_heads=kv_heads(c),
        key_dim=head_size(c),
        value_dim=head_size(c),
        window=c.num("attention_window_size"),
    )
    return gqa("temporal_block.", c.num("hidden_size"), a, bias=(bias, True))


def pattern(c: Config) -> list[str]:
    """block_types, over and over."""
    found = [str(kind) for kind in c.many("block_types")] or ["recurrent", "recurrent", "attention"]
    return [found[i % len(found)] for i in range(c.layers("num_hidden_layers"))]


def recurrent_gemma(c: Config) -> Decoder:
    def layer(kind: str) -> Submodules:
        width, inner = c.num("hidden_size"), c.num("intermediate_size") // 2
        mixer = recurrence(c) if kind == "recurrent" else attention(c)
        mlp = gated("mlp_block", width, inner, bias=True)
        return (mixer, mlp, normed(width, "temporal_pre_norm", "channel_pre_norm"))

    return tree(c, by_kind(pattern(c), layer), DecoderNames(final="final_norm"))


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    """A rotary module in each layer that attends, and the scale of the embedding."""
    yield Buffer(f"{at}normalizer", (), "bfloat16")
    rotated = int(head_size(c) * share(c, "partial_rotary_factor", default=0.5))
    for i, kind in enumerate(pattern(c)):
        if kind != "recurrent":
            yield from frequencies(f"{at}layers.{i}.temporal_block.rotary_emb.", rotated)


RECURRENT_GEMMA = Family(
    tree=recurrent_gemma,
    cls="RecurrentGemmaForCausalLM",
    heads=DECODER_HEADS,
    buffers=buffers,
)

TYPES = {
    "recurrent_gemma": ModelType(
        RECURRENT_GEMMA,
        gguf="none",
        training=TrainingFacts(net="griffin.griffin"),
        transformers=TransformersFacts(last_logits=(5, 0), sdpa=(5, 1), wide_loss=(5, 0)),
        mlx=MlxFacts(has_class=True, own_caches=True, windows="always"),
    ),
}

"""GPT-2 and GPT-BigCode (StarCoder, SantaCoder), which is GPT-2 with one key-value head.

    wte V x D, wpe P x D, L layers of (c_attn, c_proj; c_fc, c_proj; two LayerNorms), ln_f

GPT-2's weights are Conv1D: [in, out]. transformers 4 kept a causal mask of P x P booleans in every
layer (models/gpt2/modeling_gpt2.py @ 4.57.1: `bias`, `masked_bias`); 5 keeps none. GPT-BigCode has
one mask in all. Source: transformers 5.23 models/{gpt2,gpt_bigcode}/modeling_*.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from weighbridge.arch.blueprint import Buffer, Family, Param, conv1d, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import alike
from weighbridge.arch.heads import LEGACY_HEADS, causal_lm
from weighbridge.arch.model_types import (
    MlxFacts,
    ModelType,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
)
from weighbridge.arch.modules import Decoder, Submodule, Submodules, multi_head, normed, submodule
from weighbridge.arch.parts import Attention, Dense
from weighbridge.arch.windows import layer_kinds

Module = Callable[..., Iterator[Param]]  # (path, outputs, inputs, *, bias)


def attention(module: Module, width: int, attention: Attention) -> Submodule:
    rows = (
        width + 2 * attention.kv_heads * attention.key_dim
        if attention.kv_heads < attention.heads
        else 3 * width
    )
    return submodule(
        module("attn.c_attn", rows, width, bias=True),
        module("attn.c_proj", width, width, bias=True),
        mixer=attention,
    )


def cross_attention(module: Module, width: int) -> Submodule:
    """Keys and values come from an encoder, queries from here."""
    return submodule(
        module("crossattention.c_attn", 2 * width, width, bias=True),
        module("crossattention.q_attn", width, width, bias=True),
        module("crossattention.c_proj", width, width, bias=True),
        norm("ln_cross_attn", width, bias=True),
    )


def layer(c: Config, module: Module, heads: Attention) -> Submodules:
    width = c.num("n_embd")
    inner = c.num("n_inner", default=4 * width)
    return (
        normed(width, "ln_1", bias=True),
        attention(module, width, heads),
        normed(width, "ln_2", bias=True),
        *((cross_attention(module, width),) if c.flag("add_cross_attention") else ()),
        submodule(
            module("mlp.c_fc", inner, width, bias=True),
            module("mlp.c_proj", width, inner, bias=True),
            feed=Dense(width=inner, gated=False),
        ),
    )


def decoder(c: Config, module: Module, attention: Attention) -> Decoder:
    width = c.num("n_embd")
    c.skip("n_ctx")
    return Decoder(
        width=width,
        first=(
            *embedding("wte", c.num("vocab_size"), width),
            *embedding("wpe", c.num("n_positions"), width),
        ),
        layers=alike(c, lambda: layer(c, module, attention), "n_layer"),
        last=tuple(norm("ln_f", width, bias=True)),
        path="h.",
        kinds=layer_kinds,
    )


def gpt2(c: Config) -> Decoder:
    return decoder(c, conv1d, multi_head(c.num("n_head"), c.num("n_embd")))


def gpt_bigcode(c: Config) -> Decoder:
    """One key-value head for all queries, unless `multi_query` is off."""
    all_heads = multi_head(c.num("n_head"), c.num("n_embd"))
    one = replace(all_heads, kv_heads=1) if c.flag("multi_query", default=True) else all_heads
    return decoder(c, linear, one)


def masks(c: Config, prefix: str) -> Iterator[Buffer]:
    side = c.num("n_positions")
    for i in range(c.layers("n_layer")):
        yield Buffer(f"{prefix}h.{i}.attn.bias", (1, 1, side, side), "bool", until=5)
        yield Buffer(f"{prefix}h.{i}.attn.masked_bias", (), "", until=5)


def one_mask(c: Config, prefix: str) -> Iterator[Buffer]:
    yield Buffer(f"{prefix}bias", (c.num("n_positions"), c.num("n_positions")), "bool")


def double_heads(c: Config, prefix: str) -> Iterator[Param]:
    """The language model, and a classifier of a summary (GPT2SequenceSummary)."""
    yield from causal_lm(c, prefix)
    if c.flag("summary_use_proj", default=True):
        width = c.num("n_embd")
        # The class sets num_labels to 1, whatever the config says.
        rows = 1 if c.flag("summary_proj_to_labels", default=True) else width
        yield from linear(f"{prefix}multiple_choice_head.summary", rows, width, bias=True)


GPT2 = Family(
    tree=gpt2,
    base="transformer",
    cls="GPT2LMHeadModel",
    heads={**LEGACY_HEADS, "DoubleHeadsModel": double_heads},
    buffers=masks,
    blocks=("h.*",),
)
GPT_BIGCODE = Family(
    tree=gpt_bigcode,
    base="transformer",
    cls="GPTBigCodeForCausalLM",
    heads=LEGACY_HEADS,
    buffers=one_mask,
    blocks=("h.*",),
)

TYPES = {
    "gpt2": ModelType(
        GPT2,
        computes=("not_rotary", "own_softmax", "holds_attended"),
        training=TrainingFacts(net="gpt.gpt2", dropouts="pdrop", lora=("c_attn",)),
        transformers=TransformersFacts(
            caches=(4, 53), last_logits=(4, 53), sdpa=(4, 42), plain_loss=(4, 48)
        ),
        vllm=VllmFacts(every_stage="both", tied_head="freed"),
        mlx=MlxFacts(has_class=True),
    ),
    "gpt_bigcode": ModelType(
        GPT_BIGCODE,
        computes=("not_rotary", "wide_scores", "holds_attended"),
        gguf="starcoder",
        training=TrainingFacts(net="gpt.gpt2", dropouts="pdrop", lora=("c_attn",)),
        transformers=TransformersFacts(caches=(4, 55), last_logits=(5, 0), plain_loss=(4, 48)),
        mlx=MlxFacts(has_class=True),
    ),
}

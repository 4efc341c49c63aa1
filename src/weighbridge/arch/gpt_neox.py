"""GPT-NeoX, Pythia, GPT-NeoX Japanese and Persimmon: queries, keys and values in one Linear.

    embed_in V x D, L layers of (query_key_value 3 D x D, dense; h_to_4h, 4h_to_h; two LayerNorms),
    final_layer_norm, embed_out V x D

Checkpoints call the head `embed_out`. Japanese has no biases in its Linears; its last layer alone
has a bare `dense_bias`. Persimmon spells embedding and head as Llama does.
Source: transformers 5.23 models/{gpt_neox,gpt_neox_japanese,persimmon}/modeling_*.py.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Buffer, Family, Param, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import DecoderNames, alike, tree
from weighbridge.arch.heads import DECODER_HEADS, LEGACY_HEADS, lm_called
from weighbridge.arch.model_types import (
    NEVER,
    MlxFacts,
    ModelType,
    TrainingFacts,
    TransformersFacts,
)
from weighbridge.arch.modules import (
    Decoder,
    Submodules,
    normed,
    packed,
    submodule,
    ungated,
)
from weighbridge.arch.rotary import frequencies, head_dim, partly_rotary, share
from weighbridge.arch.windows import layer_kinds

TWO = ("input_layernorm", "post_attention_layernorm")
NAMES = DecoderNames(embed="embed_in", final="final_layer_norm", norm_bias=True)
MEGATRON = ("dense_h_to_4h", "dense_4h_to_h")


def layer(c: Config, path: str, inner: int, *, bias: bool, mlp_bias: bool) -> Submodules:
    width = c.num("hidden_size")
    return (
        packed(path, width, c.num("num_attention_heads"), bias=bias),
        ungated("mlp", width, inner, names=MEGATRON, bias=mlp_bias),
        normed(width, *TWO, bias=True),
    )


def neox(c: Config) -> Decoder:
    bias = c.flag("attention_bias")

    def one() -> Submodules:
        return layer(c, "attention.", c.num("intermediate_size"), bias=bias, mlp_bias=True)

    return tree(c, alike(c, one), NAMES, kinds=layer_kinds)


def japanese(c: Config) -> Decoder:
    width = c.num("hidden_size")
    inner = width * c.num("intermediate_multiple_size")
    one = alike(c, lambda: layer(c, "attention.", inner, bias=False, mlp_bias=False))
    found = tree(c, one, NAMES, kinds=layer_kinds)
    last = len(found.layers) - 1
    behind = Param(f"layers.{last}.attention.dense_bias", (width,), "bias")
    return found._replace(last=(*found.last, behind)) if found.layers else found


def persimmon_layer(c: Config) -> Submodules:
    inner, width = c.num("intermediate_size"), c.num("hidden_size")
    attention, *rest = layer(c, "self_attn.", inner, bias=True, mlp_bias=True)
    names = ("q_layernorm", "k_layernorm") if c.flag("qk_layernorm") else ()
    size = width // max(1, c.num("num_attention_heads"))
    norms = submodule(*(norm(f"self_attn.{name}", size, bias=True) for name in names))
    return (attention, norms, *rest)


def persimmon(c: Config) -> Decoder:
    names = DecoderNames(final="final_layernorm", norm_bias=True)
    return tree(c, alike(c, lambda: persimmon_layer(c)), names, kinds=layer_kinds)


def rotary(c: Config, at: str, *, part: float) -> Iterator[Buffer]:
    """`rotary_pct` is their name for the share that is rotated."""
    yield from frequencies(
        f"{at}rotary_emb.", int(head_dim(c) * share(c, "rotary_pct", default=part))
    )


def reward(c: Config, at: str) -> Iterator[Param]:
    """GPTNeoXRewardModel of Open-Assistant: one score (model_training/models/reward_model.py)."""
    yield from linear(f"{at}out_proj", 1, c.num("hidden_size"), bias=True)


GPT_NEOX = Family(
    tree=neox,
    base="gpt_neox",
    cls="GPTNeoXForCausalLM",
    heads={**LEGACY_HEADS, "ForCausalLM": lm_called("embed_out", "gpt_neox.embed_in")},
    buffers=partial(rotary, part=0.25),
)
GPT_NEOX_REWARD = Family(
    tree=neox,
    base="gpt_neox",
    cls="GPTNeoXRewardModel",
    heads={"RewardModel": reward},
    buffers=partial(rotary, part=0.25),
)
GPT_NEOX_JAPANESE = Family(
    tree=japanese,
    base="gpt_neox_japanese",
    cls="GPTNeoXJapaneseForCausalLM",
    heads={"ForCausalLM": lm_called("embed_out", "gpt_neox_japanese.embed_in")},
    buffers=partial(rotary, part=1.0),
)
PERSIMMON = Family(
    tree=persimmon,
    cls="PersimmonForCausalLM",
    heads=DECODER_HEADS,
    buffers=partly_rotary(0.5),
)

TYPES = {
    "gpt_neox": ModelType(
        GPT_NEOX,
        computes=("parallel",),
        gguf="gptneox",
        training=TrainingFacts(net="gpt.neox", lora=("query_key_value",), litgpt="parallel"),
        transformers=TransformersFacts(
            caches=(4, 45),
            last_logits=(4, 50),
            sdpa=(4, 42),
            rotary_tables=((4, 30), (4, 45)),
            plain_loss=(4, 49),
        ),
        mlx=MlxFacts(has_class=True),
    ),
    "gpt_neox_japanese": ModelType(
        GPT_NEOX_JAPANESE,
        transformers=TransformersFacts(caches=(4, 45), last_logits=(5, 0), sdpa=NEVER),
    ),
    "gpt_neox_reward_model": ModelType(GPT_NEOX_REWARD),
    "persimmon": ModelType(
        PERSIMMON,
        gguf="none",
        training=TrainingFacts(net="decoders.persimmon"),
        transformers=TransformersFacts(
            sdpa=(4, 53), rotary_tables=((4, 34), (4, 45)), plain_loss=(4, 48)
        ),
    ),
}

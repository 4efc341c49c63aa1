"""Heads of EAGLE 3: decoders of one or a few layers that read a larger model's hidden states.

    fc          D x (A D'), A of the model's layers side by side, of width D'; none without them
    layer 0     q, k and v have 2 D inputs: the embedding beside the hidden state; one norm more
    lm_head     of the words that the draft may propose

Their configs have Llama's model type, or Qwen's. Source: vllm 0.33
model_executor/models/llama_eagle3.py, transformers_utils/configs/speculators/algos.py; sglang
0.5.23 srt/models/llama_eagle3.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.models.arch.blueprint import Family, Param, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    by_kind,
    gated,
    gqa,
    normed,
    tree,
)
from weighbridge.models.arch.parts import Attention
from weighbridge.models.arch.rotary import head_dim, rotary

READ = 3  # layers of the target model whose hidden states the draft reads, if no config says


def of_model(c: Config) -> int:
    """Return the number of target-model layers whose hidden states the draft reads; 0 for none."""
    eagle: Mapping[str, Any] = c.get("eagle_config") or {}
    if not eagle.get("use_aux_hidden_state", True):
        return 0
    listed = eagle.get("eagle_aux_hidden_state_layer_ids") or c.many(
        "eagle_aux_hidden_state_layer_ids"
    )
    return c.num("num_aux_hidden_states", default=len(listed) or READ)


def attention(c: Config, *, both: bool) -> Submodule:
    """Return grouped-query attention. With `both`, its input is the embedding next to the hidden
    state, 2 D wide."""
    heads, size, width = c.num("num_attention_heads"), head_dim(c), c.num("hidden_size")
    kv_heads = c.num("num_key_value_heads", default=heads)
    mixer = Attention(heads=heads, kv_heads=kv_heads, key_dim=size, value_dim=size)
    bias = c.flag("attention_bias")
    usual = gqa("self_attn.", width, mixer, bias=(bias, False))
    if not both:
        return usual
    wide = (
        p._replace(shape=(p.shape[0], 2 * width)) if p.role != "o" and len(p.shape) == 2 else p
        for p in usual.params
    )
    return usual._replace(params=tuple(wide))


def eagle3(c: Config) -> Decoder:
    width, read = c.num("hidden_size"), of_model(c)

    def layer(number: int) -> tuple[Submodule, ...]:
        feed = gated("mlp", width, c.num("intermediate_size"))
        return (
            attention(c, both=number == 0),
            feed,
            normed(width, *BEFORE, *(("hidden_norm",) if number == 0 else ())),
        )

    base = tree(c, by_kind(range(c.layers("num_hidden_layers")), layer))
    return base._replace(last=(*base.last, *_hidden_state_projection(c, width, read)))


def _hidden_state_projection(c: Config, width: int, read: int) -> Iterator[Param]:
    """Yield the projection of the target layers' hidden states to the draft's width, and their
    norms if there are any."""
    if not read:
        return
    wide = c.num("target_hidden_size", default=width)
    yield from linear("fc", width, read * wide, role="whole")
    if c.flag("fc_norm"):
        for i in range(read):
            yield from norm(f"fc_norm.{i}", wide)


def proposed(c: Config, prefix: str) -> Iterator[Param]:
    words = c.num("draft_vocab_size", default=c.num("vocab_size"))
    yield from linear(f"{prefix}lm_head", words, c.num("hidden_size"))


EAGLE3 = Family(
    tree=eagle3,
    cls="LlamaForCausalLMEagle3",
    heads={"ForCausalLMEagle3": proposed, "ForCausalLM": proposed},
    buffers=rotary,
)
# Classes, whatever model type the config says
CLASSES: Mapping[str, Family] = dict.fromkeys(
    (
        *("LlamaForCausalLMEagle3", "Eagle3LlamaForCausalLM"),
        *("Qwen3ForCausalLMEagle3", "Eagle3Qwen3ForCausalLM"),
    ),
    EAGLE3,
)

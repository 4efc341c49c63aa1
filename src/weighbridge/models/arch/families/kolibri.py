"""Kolibri 1: experts in every layer, windows in four of five, four norms a layer.

    q, k, v, o with a norm of head size on queries and keys
    router E x D with a bias that balances, E experts of 3 D F, a shared MLP of 3 D F_s

Source: transformers 5.23 models/kolibri1/modeling_kolibri1.py, conversion_mapping.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import BEFORE, Decoder, Submodules, alike, normed, tree
from weighbridge.models.arch.families.llama import LlamaSwitches, attention
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.rotary import rotary
from weighbridge.models.arch.sparse import RoutedExperts, correction, every, moe, routed
from weighbridge.models.arch.windows import layer_kinds

FOUR = (*BEFORE, "post_attn_norm", "post_ffn_norm")  # as checkpoints call them


def choice(c: Config) -> RoutedExperts:
    return routed(c, "num_experts", "moe_intermediate_size")


def layer(c: Config) -> Submodules:
    """Return a layer: attention, experts with one shared MLP, and four norms."""
    width, e = c.num("hidden_size"), choice(c)
    shared = c.num("shared_expert_intermediate_size")
    return (
        attention(c, LlamaSwitches(qk_norm=True)),
        moe("mlp.", width, e, shared=shared),
        normed(width, *FOUR),
    )


def kolibri(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: layer(c)), kinds=layer_kinds)


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies and the correction bias of each router."""
    yield from rotary(c, prefix)
    yield from correction(prefix, every(c), "moe.router.expert_bias", choice(c).count)


KOLIBRI = DecoderFamily(tree=kolibri, cls="Kolibri1ForCausalLM", buffers=buffers)

TYPES = {"kolibri1": ModelType(KOLIBRI, windows=windows.period(5))}

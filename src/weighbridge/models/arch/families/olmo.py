"""OLMo 1 to 3: norms without weights; then norms after each block, and on all queries at once.

    OLMo 1      no norm has a parameter
    OLMo 2, 3   two norms after the blocks; q_norm over N H numbers, k_norm over K H

Source: transformers 5.23 models/{olmo,olmo2,olmo3}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import Decoder, DecoderNames, Submodule, alike, submodule, tree
from weighbridge.models.arch.families.llama import AFTER, LlamaSwitches, decoder, grouped, layer
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Attention
from weighbridge.models.arch.rotary import layered_rotary, rotary
from weighbridge.models.arch.windows import layer_kinds


def olmo(c: Config) -> Decoder:
    bias = c.flag("attention_bias")
    one = LlamaSwitches(qkv_bias=bias, o_bias=bias, norms=())
    return decoder(c, one, names=DecoderNames(final=""))


def wide_norms(attention: Attention, path: str = "self_attn.") -> Submodule:
    """Return a norm over all query heads at once, and one over all key heads."""
    sizes = {"q_norm": attention.heads, "k_norm": attention.kv_heads}
    return submodule(*(norm(path + name, n * attention.key_dim) for name, n in sizes.items()))


def olmo2(c: Config) -> Decoder:
    bias = c.flag("attention_bias")
    one = LlamaSwitches(qkv_bias=bias, o_bias=bias, norms=AFTER)
    layers = alike(c, lambda: (*layer(c, one), wide_norms(grouped(c))))
    return tree(c, layers, kinds=layer_kinds)


def olmo3_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from layered_rotary(c, prefix, period=4)


OLMO = DecoderFamily(tree=olmo, cls="OlmoForCausalLM", buffers=rotary)
OLMO2 = DecoderFamily(tree=olmo2, cls="Olmo2ForCausalLM", buffers=rotary)
OLMO3 = DecoderFamily(tree=olmo2, cls="Olmo3ForCausalLM", buffers=olmo3_buffers)

TYPES = {
    "olmo": ModelType(OLMO, computes=("wide_rotary",)),
    "olmo2": ModelType(OLMO2, computes=("wide_rotary",)),
    "olmo3": ModelType(OLMO3, windows=windows.period(4), computes=("wide_rotary",), gguf="olmo2"),
}

"""StableLM 2 and 3B, and `stablelm_epoch`, the same while its code was remote.

    Llama with LayerNorms, biases on q, k, v by choice, one norm when blocks run side by side, and
    (12B) one LayerNorm without bias for every head of queries and keys

Source: transformers 5.23 models/stablelm/modeling_stablelm.py.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Family, Param, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import BEFORE
from weighbridge.arch.rotary import partly_rotary
from weighbridge.arch.written import Switches, kv_heads, layer, stack


def one(c: Config, at: str) -> Iterator[Param]:
    names = BEFORE[:1] if c.flag("use_parallel_residual") else BEFORE
    yield from layer(c, at, Switches(qkv_bias=c.flag("use_qkv_bias"), norms=names, norm_bias=True))
    if c.flag("qk_layernorm"):
        heads = c.num("num_attention_heads")
        size = c.num("hidden_size") // max(1, heads)
        for name, count in (("q_layernorm", heads), ("k_layernorm", kv_heads(c))):
            for i in range(count):
                yield from norm(f"{at}self_attn.{name}.norms.{i}", size)


STABLELM = Family(
    body=partial(stack, one=one, norm_bias=True),
    cls="StableLmForCausalLM",
    heads=DECODER_HEADS,
    buffers=partly_rotary(0.25),
)

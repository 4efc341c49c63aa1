"""MiMo-7B: Qwen2 and, behind it, layers that predict the token after next.

    mtp layer: Qwen2's layer, and norms of token and hidden state, input_proj D x 2 D, a last norm

Source: XiaomiMiMo/MiMo-7B-* modeling_mimo.py (remote code), as their weight maps show it.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Family, Param, linear
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.written import Switches, layer, norms, stack

QWEN2 = Switches(qkv_bias=True)


def body(c: Config, at: str) -> Iterator[Param]:
    yield from stack(c, at, partial(layer, s=QWEN2))
    width = c.num("hidden_size")
    for i in range(c.layers("num_nextn_predict_layers", default=0)):
        here = f"{at}mtp_layers.{i}."
        yield from layer(c, here, QWEN2)
        yield from norms(c, here, ("token_layernorm", "hidden_layernorm", "final_layernorm"))
        yield from linear(f"{here}input_proj", width, 2 * width)


MIMO = Family(body=body, cls="MiMoForCausalLM", heads=DECODER_HEADS)

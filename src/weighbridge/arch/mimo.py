"""MiMo-7B: Qwen2 and, behind it, layers that predict the token after next.

    mtp layer: Qwen2's layer, and norms of token and hidden state, input_proj D x 2 D, a last norm

Source: XiaomiMiMo/MiMo-7B-* modeling_mimo.py (remote code), as their weight maps show it.
"""

from weighbridge.arch import windows
from weighbridge.arch.blueprint import Family, linear
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import LlamaSwitches, decoder, layer
from weighbridge.arch.model_types import MlxFacts, ModelType, VllmFacts
from weighbridge.arch.modules import Decoder, normed, submodule

QWEN2 = LlamaSwitches(qkv_bias=True)


def mimo(c: Config) -> Decoder:
    found, width = decoder(c, QWEN2), c.num("hidden_size")
    more = (
        *layer(c, QWEN2),
        normed(width, "token_layernorm", "hidden_layernorm", "final_layernorm"),
        submodule(linear("input_proj", width, 2 * width)),
    )
    guess = tuple(p for part in more for p in part.params)
    behind = (
        p._replace(name=f"mtp_layers.{i}.{p.name}")
        for i in range(c.layers("num_nextn_predict_layers", default=0))
        for p in guess
    )
    return found._replace(last=(*found.last, *behind))


MIMO = Family(tree=mimo, cls="MiMoForCausalLM", heads=DECODER_HEADS)

TYPES = {
    "mimo": ModelType(
        MIMO,
        windows=windows.upper,
        vllm=VllmFacts(tied_head="shared"),
        mlx=MlxFacts(has_class=True),
    ),
}

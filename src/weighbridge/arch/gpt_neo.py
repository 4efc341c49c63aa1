"""GPT-Neo: GPT-2 with plain Linears and every other layer local.

    wte V x D, wpe P x D, L layers of (q, k, v without bias, out; c_fc, c_proj; two norms), ln_f

Every layer holds its mask, P x P booleans, in transformers 4 and 5 alike.
Source: transformers 5.23 models/gpt_neo/modeling_gpt_neo.py; 4.57.1 for `masked_bias`.
"""

from collections.abc import Iterator

from weighbridge.arch import windows
from weighbridge.arch.blueprint import Buffer, Family, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import alike
from weighbridge.arch.heads import LEGACY_HEADS
from weighbridge.arch.model_types import NEVER, ModelType, TrainingFacts, TransformersFacts
from weighbridge.arch.modules import Decoder, Submodules, multi_head, normed, submodule, ungated
from weighbridge.arch.windows import layer_kinds


def layer(c: Config) -> Submodules:
    width, here = c.num("hidden_size"), "attn.attention."
    inner = c.num("intermediate_size", default=4 * width)
    return (
        normed(width, "ln_1", bias=True),
        submodule(
            *(linear(here + name, width, width) for name in ("k_proj", "v_proj", "q_proj")),
            linear(f"{here}out_proj", width, width, bias=True),
            mixer=multi_head(c.num("num_attention_heads", "num_heads"), width),
        ),
        normed(width, "ln_2", bias=True),
        ungated("mlp", width, inner, names=("c_fc", "c_proj"), bias=True),
    )


def gpt_neo(c: Config) -> Decoder:
    width = c.num("hidden_size")
    return Decoder(
        width=width,
        first=(
            *embedding("wte", c.num("vocab_size"), width),
            *embedding("wpe", c.num("max_position_embeddings"), width),
        ),
        layers=alike(c, lambda: layer(c), "num_layers"),
        last=tuple(norm("ln_f", width, bias=True)),
        path="h.",
        kinds=layer_kinds,
    )


def masks(c: Config, at: str) -> Iterator[Buffer]:
    side = c.num("max_position_embeddings")
    for i in range(c.layers("num_layers")):
        here = f"{at}h.{i}.attn.attention"
        yield Buffer(f"{here}.bias", (1, 1, side, side), "bool")
        yield Buffer(f"{here}.masked_bias", (), "", until=5)


GPT_NEO = Family(
    tree=gpt_neo,
    base="transformer",
    cls="GPTNeoForCausalLM",
    heads=LEGACY_HEADS,
    buffers=masks,
    blocks=("h.*",),
)

TYPES = {
    "gpt_neo": ModelType(
        GPT_NEO,
        windows=windows.nowhere,
        computes=("not_rotary", "own_softmax", "wide_queries", "lingering_scores"),
        gguf="none",
        training=TrainingFacts(net="eager.gpt_neo", lora=("q_proj", "v_proj")),
        transformers=TransformersFacts(caches=(4, 45), last_logits=(5, 0), sdpa=NEVER),
    ),
}

"""GPT-2 and its neighbours: GPT-BigCode (StarCoder, SantaCoder), GPT (2018) and CTRL (2019).

    GPT-2        wte V x D, wpe P x D, L layers of (c_attn, c_proj; c_fc, c_proj; two LayerNorms),
                 ln_f; its weights are Conv1D: [in, out]
    GPT-BigCode  GPT-2 with one key-value head
    GPT          GPT-2 without its last norm; a float mask P x P in every layer
    CTRL         Wq, Wk, Wv, dense; ffn.0, ffn.2; positions are computed (P x D); biased head

transformers 4 kept a causal mask of P x P booleans in every layer of GPT-2
(models/gpt2/modeling_gpt2.py @ 4.57.1: `bias`, `masked_bias`); 5 keeps none. GPT-BigCode has one
mask in all. Source: transformers 5.23 models/{gpt2,gpt_bigcode,openai,ctrl}/modeling_*.py.
"""

from collections.abc import Callable, Iterator

from weighbridge.base.records import replace
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    conv1d,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    Decoder,
    Submodule,
    Submodules,
    alike,
    multi_head,
    normed,
    submodule,
    ungated,
)
from weighbridge.models.arch.heads import DECODER_HEADS, LEGACY_HEADS, causal_lm, labels
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Attention, Dense
from weighbridge.models.arch.windows import layer_kinds

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
    """Return cross-attention: keys and values from the encoder, queries from the decoder."""
    return submodule(
        module("crossattention.c_attn", 2 * width, width, bias=True),
        module("crossattention.q_attn", width, width, bias=True),
        module("crossattention.c_proj", width, width, bias=True),
        layer_norm("ln_cross_attn", width),
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
        last=tuple(layer_norm("ln_f", width)),
        path="h.",
        kinds=layer_kinds,
    )


def gpt2(c: Config) -> Decoder:
    return decoder(c, conv1d, multi_head(c.num("n_head"), c.num("n_embd")))


def gpt_bigcode(c: Config) -> Decoder:
    """Return GPT-BigCode's decoder, with one KV head unless `multi_query` is off."""
    all_heads = multi_head(c.num("n_head"), c.num("n_embd"))
    one = replace(all_heads, kv_heads=1) if c.enabled("multi_query") else all_heads
    return decoder(c, linear, one)


def masks(c: Config, prefix: str) -> Iterator[Buffer]:
    side = c.num("n_positions")
    for i in range(c.layers("n_layer")):
        yield Buffer(f"{prefix}h.{i}.attn.bias", (1, 1, side, side), "bool", until=5)
        yield Buffer(f"{prefix}h.{i}.attn.masked_bias", (), "", until=5)


def one_mask(c: Config, prefix: str) -> Iterator[Buffer]:
    yield Buffer(f"{prefix}bias", (c.num("n_positions"), c.num("n_positions")), "bool")


def double_heads(c: Config, prefix: str) -> Iterator[Param]:
    """Yield both heads of the double-heads class: `lm_head` and a classifier of a summary
    (GPT2SequenceSummary)."""
    yield from causal_lm(c, prefix)
    if c.enabled("summary_use_proj"):
        width = c.num("n_embd")
        # The class sets num_labels to 1, whatever the config says.
        rows = 1 if c.enabled("summary_proj_to_labels") else width
        yield from affine(f"{prefix}multiple_choice_head.summary", rows, width)


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


# GPT and CTRL


def gpt(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("n_embd")
    yield from embedding(f"{prefix}tokens_embed", c.num("vocab_size"), width)
    yield from embedding(f"{prefix}positions_embed", c.num("n_positions"), width)
    for i in range(c.layers("n_layer")):
        here = f"{prefix}h.{i}."
        yield from conv1d(f"{here}attn.c_attn", 3 * width, width)
        yield from conv1d(f"{here}attn.c_proj", width, width)
        yield from layer_norm(f"{here}ln_1", width)
        yield from conv1d(f"{here}mlp.c_fc", 4 * width, width)
        yield from conv1d(f"{here}mlp.c_proj", width, 4 * width)
        yield from layer_norm(f"{here}ln_2", width)


def gpt_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    side = c.num("n_positions")
    yield Buffer(f"{prefix}position_ids", (side,), "int64")
    for i in range(c.layers("n_layer")):
        yield Buffer(f"{prefix}h.{i}.attn.bias", (1, 1, side, side), "")


def ctrl_layer(c: Config) -> Submodules:
    width, here = c.num("n_embd"), "multi_head_attention."
    return (
        submodule(
            *(affine(here + n, width, width) for n in ("Wq", "Wk", "Wv", "dense")),
            mixer=multi_head(c.num("n_head"), width),
        ),
        ungated("ffn", width, c.num("dff"), names=("0", "2"), bias=True),
        normed(width, "layernorm1", "layernorm2", bias=True),
    )


def ctrl(c: Config) -> Decoder:
    width = c.num("n_embd")
    return Decoder(
        width=width,
        first=tuple(embedding("w", c.num("vocab_size"), width)),
        layers=alike(c, lambda: ctrl_layer(c), "n_layer"),
        last=tuple(layer_norm("layernorm", width)),
        path="h.",
        kinds=layer_kinds,
    )


def ctrl_positions(c: Config, prefix: str) -> Iterator[Buffer]:
    yield Buffer(f"{prefix}pos_encoding", (c.num("n_positions"), c.num("n_embd")), "float32")


def ctrl_lm(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}lm_head", c.num("vocab_size"), c.num("n_embd"))


def ctrl_classes(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}classifier", labels(c), c.num("n_embd"))


OPENAI_GPT = Family(
    body=gpt,
    base="transformer",
    cls="OpenAIGPTLMHeadModel",
    heads={**DECODER_HEADS, "DoubleHeadsModel": double_heads},
    buffers=gpt_buffers,
    blocks=(),
)
CTRL = Family(
    tree=ctrl,
    base="transformer",
    cls="CTRLLMHeadModel",
    heads={"LMHeadModel": ctrl_lm, "ForSequenceClassification": ctrl_classes},
    buffers=ctrl_positions,
    blocks=(),
)

TYPES = {
    "gpt2": ModelType(GPT2, computes=("not_rotary", "own_softmax", "holds_attended")),
    "gpt_bigcode": ModelType(
        GPT_BIGCODE, computes=("not_rotary", "wide_scores", "holds_attended"), gguf="starcoder"
    ),
    "ctrl": ModelType(CTRL, computes=("not_rotary", "own_softmax"), gguf="none"),
    "openai-gpt": ModelType(
        OPENAI_GPT,
        no_cache="without",
        encodes="writes",
        computes=("not_rotary", "norms_behind"),
        gguf="none",
    ),
}

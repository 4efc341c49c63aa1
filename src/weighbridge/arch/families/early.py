"""Decoders of the first years: GPT (2018), CTRL (2019), BioGPT (2022).

    GPT     GPT-2 without its last norm; a float mask P x P in every layer
    CTRL    Wq, Wk, Wv, dense; ffn.0, ffn.2; positions computed into a buffer P x D; biased head
    BioGPT  OPT with a norm after all layers; `output_projection` V x D

Source: transformers 5.23 models/{openai,ctrl,biogpt}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import (
    Buffer,
    Family,
    Param,
    conv1d,
    embedding,
    linear,
    norm,
)
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import DecoderNames, alike, tree
from weighbridge.arch.families.gpt2 import double_heads
from weighbridge.arch.families.opt import OFFSET, attention
from weighbridge.arch.heads import DECODER_HEADS, LEGACY_HEADS, labels, lm_called
from weighbridge.arch.model_types import NEVER, ModelType, TransformersFacts
from weighbridge.arch.modules import Decoder, Submodules, multi_head, normed, submodule, ungated
from weighbridge.arch.windows import layer_kinds


def gpt(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("n_embd")
    yield from embedding(f"{prefix}tokens_embed", c.num("vocab_size"), width)
    yield from embedding(f"{prefix}positions_embed", c.num("n_positions"), width)
    for i in range(c.layers("n_layer")):
        here = f"{prefix}h.{i}."
        yield from conv1d(f"{here}attn.c_attn", 3 * width, width)
        yield from conv1d(f"{here}attn.c_proj", width, width)
        yield from norm(f"{here}ln_1", width, bias=True)
        yield from conv1d(f"{here}mlp.c_fc", 4 * width, width)
        yield from conv1d(f"{here}mlp.c_proj", width, 4 * width)
        yield from norm(f"{here}ln_2", width, bias=True)


def gpt_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    side = c.num("n_positions")
    yield Buffer(f"{prefix}position_ids", (side,), "int64")
    for i in range(c.layers("n_layer")):
        yield Buffer(f"{prefix}h.{i}.attn.bias", (1, 1, side, side), "")


def ctrl_layer(c: Config) -> Submodules:
    width, here = c.num("n_embd"), "multi_head_attention."
    return (
        submodule(
            *(linear(here + n, width, width, bias=True) for n in ("Wq", "Wk", "Wv", "dense")),
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
        last=tuple(norm("layernorm", width, bias=True)),
        path="h.",
        kinds=layer_kinds,
    )


def ctrl_positions(c: Config, prefix: str) -> Iterator[Buffer]:
    yield Buffer(f"{prefix}pos_encoding", (c.num("n_positions"), c.num("n_embd")), "float32")


def ctrl_lm(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}lm_head", c.num("vocab_size"), c.num("n_embd"), bias=True)


def ctrl_classes(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}classifier", labels(c), c.num("n_embd"))


def biogpt_layer(c: Config) -> Submodules:
    width = c.num("hidden_size")
    return (
        attention(width, c.num("num_attention_heads"), bias=True),
        normed(width, "self_attn_layer_norm", bias=True),
        ungated("", width, c.num("intermediate_size"), names=("fc1", "fc2"), bias=True),
        normed(width, "final_layer_norm", bias=True),
    )


def biogpt(c: Config) -> Decoder:
    width, rows = c.num("hidden_size"), c.num("max_position_embeddings") + OFFSET
    names = DecoderNames(final="layer_norm", norm_bias=True)
    found = tree(c, alike(c, lambda: biogpt_layer(c)), names, kinds=layer_kinds)
    return found._replace(first=(*found.first, *embedding("embed_positions", rows, width)))


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
BIOGPT = Family(
    tree=biogpt,
    base="biogpt",
    cls="BioGptForCausalLM",
    heads={**LEGACY_HEADS, "ForCausalLM": lm_called("output_projection", "biogpt.embed_tokens")},
    blocks=(),
)

TYPES = {
    "biogpt": ModelType(
        BIOGPT,
        computes=("not_rotary", "own_softmax"),
        transformers=TransformersFacts(caches=(4, 53), last_logits=(5, 0), sdpa=(4, 45)),
    ),
    "ctrl": ModelType(
        CTRL,
        computes=("not_rotary", "own_softmax"),
        gguf="none",
        transformers=TransformersFacts(caches=(4, 55), last_logits=(5, 0), sdpa=(5, 1)),
    ),
    "openai-gpt": ModelType(
        OPENAI_GPT,
        no_cache="without",
        encodes="writes",
        computes=("not_rotary", "norms_behind"),
        gguf="none",
        transformers=TransformersFacts(caches=(4, 55), last_logits=(5, 0), sdpa=NEVER),
    ),
}

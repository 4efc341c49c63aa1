"""ModernBERT and NomicBERT: encoders with rotary positions and gated feed-forwards.

    ModernBERT  Wqkv 3D x D, Wo; Wi 2F x D (both halves of the gate), Wo; the first layer has no
                norm before its attention, since the embeddings end in one
    NomicBERT   Wqkv, out_proj; fc11, fc12, fc2; no positions but rotary; norms after

The checkpoints of NomicBERT keep q, k and v in one tensor; transformers splits it as it loads.
Source: transformers 5.23 models/{modernbert,nomic_bert}/modeling_*.py, conversion_mapping.py.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.records import replace
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    embedding,
    layer_norm,
    linear,
    norm,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import ids, joined, pooler, predictions, project, tied
from weighbridge.models.arch.model_types import ModelType

if TYPE_CHECKING:
    from weighbridge.models.arch.parts import Attention


def head_dim(c: Config) -> int:
    return c.num("head_dim", default=c.num("hidden_size") // max(1, c.num("num_attention_heads")))


def layer(c: Config, prefix: str, *, first: bool) -> Iterator[Param]:
    width, inner, heads = c.num("hidden_size"), c.num("intermediate_size"), "num_attention_heads"
    size = width // max(1, c.num(heads)) * c.num(heads)
    norm_bias, bias = c.flag("norm_bias"), c.flag("attention_bias")
    if not first:
        yield from norm(f"{prefix}attn_norm", width, bias=norm_bias)
    yield from linear(f"{prefix}attn.Wqkv", 3 * size, width, bias=bias)
    yield from linear(f"{prefix}attn.Wo", width, width, bias=bias)
    yield from norm(f"{prefix}mlp_norm", width, bias=norm_bias)
    yield from linear(f"{prefix}mlp.Wi", 2 * inner, width, bias=c.flag("mlp_bias"))
    yield from linear(f"{prefix}mlp.Wo", width, inner, bias=c.flag("mlp_bias"))


def modernbert(c: Config, prefix: str) -> Iterator[Param]:
    width, bias = c.num("hidden_size"), c.flag("norm_bias")
    yield from embedding(f"{prefix}embeddings.tok_embeddings", c.num("vocab_size"), width)
    yield from norm(f"{prefix}embeddings.norm", width, bias=bias)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{prefix}layers.{i}.", first=i == 0)
    yield from norm(f"{prefix}final_norm", width, bias=bias)


def head(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from linear(f"{prefix}head.dense", width, width, bias=c.flag("classifier_bias"))
    yield from norm(f"{prefix}head.norm", width, bias=c.flag("norm_bias"))


def masked_lm(c: Config, prefix: str) -> Iterator[Param]:
    yield from head(c, prefix)
    bias = c.enabled("decoder_bias")
    params = linear(f"{prefix}decoder", c.num("vocab_size"), c.num("hidden_size"), bias=bias)
    owner = f"{prefix}model.embeddings.tok_embeddings.weight"
    yield from tied(c, params, {f"{prefix}decoder.weight": owner})


def layer_types(c: Config) -> set[str]:
    """Return the kinds of attention in use; by default every `global_attn_every_n_layers`-th layer
    is full."""
    if listed := c.many("layer_types") if c.has("layer_types") else []:
        return {str(kind) for kind in listed}
    every = max(1, c.num("global_attn_every_n_layers", default=3))
    count = c.layers("num_hidden_layers")
    kinds = ("full_attention", "sliding_attention")
    return {kinds[bool(i % every)] for i in range(count)}


def rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies of each kind of attention, since their bases differ."""
    half = (head_dim(c) + 1) // 2
    for kind in sorted(layer_types(c)):
        for name in ("inv_freq", "original_inv_freq"):
            yield Buffer(f"{prefix}rotary_emb.{kind}_{name}", (half,), "float32")


def nomic_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    size = c.num("num_attention_heads") * head_dim(c)
    yield from linear(f"{prefix}attn.Wqkv", 3 * size, width)
    yield from linear(f"{prefix}attn.out_proj", width, size)
    yield from layer_norm(f"{prefix}norm1", width)
    yield from linear(f"{prefix}mlp.fc11", inner, width)
    yield from linear(f"{prefix}mlp.fc12", inner, width)
    yield from linear(f"{prefix}mlp.fc2", width, inner)
    yield from layer_norm(f"{prefix}norm2", width)


def nomic(c: Config, prefix: str) -> Iterator[Param]:
    width, path = c.num("hidden_size"), f"{prefix}embeddings."
    yield from embedding(f"{path}word_embeddings", c.num("vocab_size"), width)
    yield from embedding(f"{path}token_type_embeddings", c.num("type_vocab_size"), width)
    yield from layer_norm(f"{prefix}emb_ln", width)
    for i in range(c.layers("num_hidden_layers")):
        yield from nomic_layer(c, f"{prefix}encoder.layers.{i}.")


def nomic_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from ids("position_ids", "token_type_ids")(c, prefix)
    half = (head_dim(c) + 1) // 2
    for name in ("inv_freq", "original_inv_freq"):
        yield Buffer(f"{prefix}rotary_emb.{name}", (half,), "float32")


CLASSIFIER = joined(head, project("classifier"))
MODERNBERT = Family(
    body=modernbert,
    base="model",
    cls="ModernBertModel",
    heads={
        "ForMaskedLM": masked_lm,
        "ForMultipleChoice": joined(head, project("classifier", 1)),
        "ForSequenceClassification": CLASSIFIER,
        "ForTokenClassification": CLASSIFIER,
        "ForQuestionAnswering": CLASSIFIER,
    },
    buffers=rotary,
    blocks=("embeddings", "layers.*"),
)
NOMIC_BLOCKS = ("embeddings", "encoder.layers.*")
NOMIC_BERT = Family(
    body=nomic,
    base="nomic_bert",
    cls="NomicBertModel",
    heads={
        "ForMaskedLM": predictions(
            "nomic_bert.embeddings.word_embeddings.weight", norm_name="layer_norm"
        ),
        "ForTokenClassification": project("classifier"),
    },
    classes={
        "ForSequenceClassification": Family(
            body=joined(nomic, pooler),
            base="nomic_bert",
            heads={"ForSequenceClassification": project("classifier")},
            buffers=nomic_buffers,
            blocks=NOMIC_BLOCKS,
        )
    },
    buffers=nomic_buffers,
    blocks=NOMIC_BLOCKS,
)


def heads_by_layer(c: Config, count: int) -> "Sequence[Attention]":
    """Return the attention of each of `count` layers: full, or in a window of `local_attention`
    tokens, half of it to either side."""
    from weighbridge.models.arch import encoders

    every = max(1, c.num("global_attn_every_n_layers", default=3))
    kinds = c.many("layer_types") if c.has("layer_types") else []
    whole = encoders.even(c)
    near = replace(whole, window=c.num("local_attention", default=128))
    return [
        near if (kinds[i] == "sliding_attention" if i < len(kinds) else i % every) else whole
        for i in range(count)
    ]


TYPES = {
    "modernbert": ModelType(
        MODERNBERT,
        no_cache="encoder",
        encoder_heads=heads_by_layer,
        computes=("wide_rotary", "holds_attended"),
        gguf="modern-bert",
    ),
    "nomic_bert": ModelType(
        NOMIC_BERT, no_cache="encoder", computes=("norms_behind", "own_softmax"), gguf="nomic-bert"
    ),
}

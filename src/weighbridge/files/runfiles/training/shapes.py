"""Sizes of published decoders that programs build by a name of their own, and what tells them.

A program that makes a model by a name (a builder, a flavor) takes any weights of these sizes:
fine-tuned models too, whatever they are called.

Sources: pytorch/torchtune v0.6.1 torchtune/models/llama*/_model_builders.py; pytorch/torchtitan
v0.2.2 torchtitan/models/{llama3,llama4,qwen3,gpt_oss}/__init__.py (the feed-forward of Llama is two
thirds of four hidden sizes, times ffn_dim_multiplier, up to a multiple of multiple_of:
model/model.py).
"""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple


class DecoderShape(NamedTuple):
    """The sizes of a decoder. `feed`: width of its MLP or of each expert; `tied`: whether the
    output layer is the embedding."""

    kind: str  # the model type of its config
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed: int
    vocab: int
    tied: bool = False
    experts: int = 0


SIZES = ("hidden", "layers", "heads", "kv_heads", "feed", "vocab")


def _shape(row: str) -> tuple[str, DecoderShape]:
    name, kind, *numbers, tied, experts = row.split()
    sizes = dict(zip(SIZES, map(int, numbers), strict=True))
    return name, DecoderShape(kind=kind, **sizes, tied=tied == "tied", experts=int(experts))


SHAPES: Mapping[str, DecoderShape] = dict(map(_shape, lines_beside(__file__, "shapes.txt")))


def shape_name(config: Mapping[str, Any]) -> str:
    """Return the name of the shape that a config, or its language model, has; "" for an unknown
    one."""
    config = config.get("text_config") or config
    heads = config.get("num_attention_heads")
    shape = DecoderShape(
        kind=config.get("model_type", ""),
        hidden=config.get("hidden_size", 0),
        layers=config.get("num_hidden_layers", 0),
        heads=heads or 0,
        kv_heads=config.get("num_key_value_heads") or heads or 0,
        feed=config.get("moe_intermediate_size") or config.get("intermediate_size", 0),
        vocab=config.get("vocab_size", 0),
        tied=config.get("tie_word_embeddings") is True,
        experts=config.get("num_local_experts") or config.get("num_experts") or 0,
    )
    return next((name for name, known in SHAPES.items() if known == shape), "")

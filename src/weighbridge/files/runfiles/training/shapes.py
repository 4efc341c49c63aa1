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

from weighbridge.base.records import NamedTuple


class DecoderShape(NamedTuple):
    """What a decoder is built from. `feed`: of its feed-forward, or of each expert; `tied`: the
    head is the embedding."""

    kind: str  # the model type of its config
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed: int
    vocab: int
    tied: bool = False
    experts: int = 0


SHAPES: Mapping[str, DecoderShape] = {
    "llama-2-7b": DecoderShape("llama", 4096, 32, 32, 32, 11008, 32_000),
    "llama-2-13b": DecoderShape("llama", 5120, 40, 40, 40, 13824, 32_000),
    "llama-2-70b": DecoderShape("llama", 8192, 80, 64, 8, 28672, 32_000),
    "llama-3-8b": DecoderShape("llama", 4096, 32, 32, 8, 14336, 128_256),
    "llama-3-70b": DecoderShape("llama", 8192, 80, 64, 8, 28672, 128_256),
    "llama-3-405b": DecoderShape("llama", 16384, 126, 128, 8, 53248, 128_256),
    "llama-3.2-1b": DecoderShape("llama", 2048, 16, 32, 8, 8192, 128_256, tied=True),
    "llama-3.2-3b": DecoderShape("llama", 3072, 28, 24, 8, 8192, 128_256, tied=True),
    "qwen3-0.6b": DecoderShape("qwen3", 1024, 28, 16, 8, 3072, 151_936, tied=True),
    "qwen3-1.7b": DecoderShape("qwen3", 2048, 28, 16, 8, 6144, 151_936, tied=True),
    "qwen3-4b": DecoderShape("qwen3", 2560, 36, 32, 8, 9728, 151_936, tied=True),
    "qwen3-8b": DecoderShape("qwen3", 4096, 36, 32, 8, 12288, 151_936),
    "qwen3-14b": DecoderShape("qwen3", 5120, 40, 40, 8, 17408, 151_936),
    "qwen3-32b": DecoderShape("qwen3", 5120, 64, 64, 8, 25600, 151_936),
    "qwen3-30b-a3b": DecoderShape("qwen3_moe", 2048, 48, 32, 4, 768, 151_936, experts=128),
    "qwen3-235b-a22b": DecoderShape("qwen3_moe", 4096, 94, 64, 4, 1536, 151_936, experts=128),
    "gpt-oss-20b": DecoderShape("gpt_oss", 2880, 24, 64, 8, 2880, 201_088, experts=32),
    "gpt-oss-120b": DecoderShape("gpt_oss", 2880, 36, 64, 8, 2880, 201_088, experts=128),
    "llama-4-scout": DecoderShape("llama4_text", 5120, 48, 40, 8, 8192, 202_048, experts=16),
    "llama-4-maverick": DecoderShape("llama4_text", 5120, 48, 40, 8, 8192, 202_048, experts=128),
}


def shape_name(config: Mapping[str, Any]) -> str:
    """Return the name of the shape that a config has, or its language model; "" where it is none
    of these."""
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

"""MiniMax-M3: dense layers, then sparse ones with a shared expert; most layers pick the blocks of
tokens that they attend to with an index.

    index, M heads of size h: index_q_proj Mh x D, index_k_proj h x D, two norms of h

Source: transformers 5.23 models/minimax_m3_vl/{modeling,configuration}_*.py, conversion_mapping.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from weighbridge.arch.attention import Indexer
from weighbridge.arch.blueprint import Buffer, Family, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import BEFORE, kinds, tree
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import LlamaSwitches, attention, grouped
from weighbridge.arch.model_types import ModelType
from weighbridge.arch.modules import (
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    gated,
    normed,
    submodule,
)
from weighbridge.arch.rotary import partly_rotary
from weighbridge.arch.sparse import NUMBERED, correction, moe, routed

INDEXED = "minimax_m3_sparse"
SIZES = {"index_n_heads": "sparse_num_index_heads", "index_head_dim": "sparse_index_dim"}


def published(c: Config) -> Mapping[str, Any]:
    found = c.get("sparse_attention_config")
    return found if isinstance(found, Mapping) else {}


def flags(c: Config, name: str, found: Any) -> list[bool]:
    """A number a layer; anything but 0 is yes."""
    count = c.layers("num_hidden_layers")
    if not isinstance(found, list) or len(found) < count:
        raise c.error(name, f"must be a list of {count} numbers")
    return [bool(value) for value in found[:count]]


def mixers(c: Config) -> list[str]:
    often = published(c).get("sparse_attention_freq")
    if c.get("layer_types") is not None or often is None:
        return kinds(c, "layer_types", lambda _: "full_attention")
    return [INDEXED if on else "" for on in flags(c, "sparse_attention_freq", often)]


def sparse(c: Config) -> Sequence[bool]:
    often = c.get("moe_layer_freq")
    if c.get("mlp_layer_types") is not None or often is None:
        return [kind == "sparse" for kind in kinds(c, "mlp_layer_types", lambda _: "sparse")]
    return flags(c, "moe_layer_freq", often)


def indexer(c: Config) -> Indexer:
    own = c.sub("sparse_attention_config")
    heads, size = (own.num(old, default=c.num(new, default=0)) for new, old in SIZES.items())
    return Indexer(heads=heads, dim=size)


def indexed(c: Config) -> Submodule:
    """Grouped queries; the index stores a key of its size beside the keys and values."""
    usual, own = attention(c, LlamaSwitches(qk_norm=True)), indexer(c)
    width, path = c.num("hidden_size"), "self_attn.index_"
    return submodule(
        usual.params,
        linear(f"{path}q_proj", own.heads * own.dim, width),
        linear(f"{path}k_proj", own.dim, width),
        norm(f"{path}q_norm", own.dim),
        norm(f"{path}k_norm", own.dim),
        mixer=replace(grouped(c), indexer=own),
    )


def experts(c: Config) -> Submodule:
    e, width = routed(c, "num_local_experts", "intermediate_size"), c.num("hidden_size")
    shared = c.num("shared_intermediate_size")
    return moe("block_sparse_moe.", width, e, shared=shared, names=NUMBERED)


def minimax_m3(c: Config) -> Decoder:
    c.skip("moe_intermediate_size", "n_shared_experts", "rotary_dim", "first_k_dense_replace")

    def layer(kind: tuple[bool, bool]) -> Submodules:
        width = c.num("hidden_size")
        mixer = indexed(c) if kind[0] else attention(c, LlamaSwitches(qk_norm=True))
        feed = experts(c) if kind[1] else gated("mlp", width, c.num("dense_intermediate_size"))
        return (mixer, feed, normed(width, *BEFORE))

    picks = [kind == INDEXED for kind in mixers(c)]
    return tree(c, by_kind(list(zip(picks, sparse(c), strict=True)), layer))


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield from partly_rotary(1.0)(c, at)
    name, count = "block_sparse_moe.e_score_correction_bias", c.num("num_local_experts")
    yield from correction(at, sparse(c), name, count, dtype="")


MINIMAX_M3 = Family(
    tree=minimax_m3,
    cls="MiniMaxM3VLForCausalLM",
    stems=("MiniMaxM3",),
    heads=DECODER_HEADS,
    buffers=buffers,
)

TYPES = {
    "minimax_m3": ModelType(MINIMAX_M3),
    "minimax_m3_vl_text": ModelType(MINIMAX_M3),
}

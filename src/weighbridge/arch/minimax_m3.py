"""MiniMax-M3: dense layers, then sparse ones with a shared expert; most layers pick the blocks of
tokens that they attend to with an index.

    index, M heads of size h: index_q_proj Mh x D, index_k_proj h x D, two norms of h

Source: transformers 5.23 models/minimax_m3_vl/{modeling,configuration}_*.py, conversion_mapping.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.arch.blueprint import Buffer, Family, Param, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import kinds, stack, two_norms
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import partly_rotary
from weighbridge.arch.sparse import NUMBERED, correction, each, routed, router
from weighbridge.arch.written import Switches, attention

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


def index(c: Config, at: str) -> Iterator[Param]:
    own = c.sub("sparse_attention_config")
    heads, size = (own.num(old, default=c.num(new, default=0)) for new, old in SIZES.items())
    width = c.num("hidden_size")
    yield from linear(f"{at}index_q_proj", heads * size, width)
    yield from linear(f"{at}index_k_proj", size, width)
    yield from norm(f"{at}index_q_norm", size)
    yield from norm(f"{at}index_k_norm", size)


def moe(c: Config, at: str) -> Iterator[Param]:
    e, width = routed(c, "num_local_experts", "intermediate_size"), c.num("hidden_size")
    yield from router(f"{at}gate", e.count, width)
    yield from each(f"{at}experts", width, e, NUMBERED)
    yield from gated_mlp(f"{at}shared_experts", width, c.num("shared_intermediate_size"))


def minimax_m3(c: Config, at: str) -> Iterator[Param]:
    found, has_experts = mixers(c), sparse(c)
    c.skip("moe_intermediate_size", "n_shared_experts", "rotary_dim", "first_k_dense_replace")

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        yield from attention(c, f"{at}self_attn.", Switches(qk_norm=True))
        if found[i] == INDEXED:
            yield from index(c, f"{at}self_attn.")
        if has_experts[i]:
            yield from moe(c, f"{at}block_sparse_moe.")
        else:
            yield from gated_mlp(f"{at}mlp", c.num("hidden_size"), c.num("dense_intermediate_size"))
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield from partly_rotary(1.0)(c, at)
    name, count = "block_sparse_moe.e_score_correction_bias", c.num("num_local_experts")
    yield from correction(at, sparse(c), name, count, dtype="")


MINIMAX_M3 = Family(
    body=minimax_m3,
    cls="MiniMaxM3VLForCausalLM",
    stems=("MiniMaxM3",),
    heads=DECODER_HEADS,
    buffers=buffers,
)

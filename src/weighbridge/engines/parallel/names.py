"""Which way each module is split, by its role (`arch/roles.py`): `cut(site)`.

    vocab     rows, padded                  embeddings and heads
    query     outputs, by head              keys     outputs, by key-value head
    fused     both, one after the other     column   outputs
    row       inputs; its bias is whole     whole    nothing: every rank has all of it
    states    Mamba's and delta nets' inputs and convolutions, by heads and groups

Source: the ColumnParallelLinear, RowParallelLinear, QKVParallelLinear and ReplicatedLinear of
vllm 0.33 and 0.19 model_executor/models/*.py, model_executor/layers/mamba/*.py, layers/mla.py;
sglang 0.5.23 srt/models/*.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from weighbridge.arch.blueprint import Param
from weighbridge.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Rwkv,
    Shared,
    ShortConv,
)
from weighbridge.arch.roles import module, role_of
from weighbridge.engines.parallel.cuts import Cut, CutPart, CutUnit, even
from weighbridge.errors import UnsupportedError

NEVER = ("norm", "router")  # kinds that every rank has whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A parameter where it stands: what its layer mixes by, and whether a tower holds it."""

    param: Param
    mixers: Sequence[Mixer] = ()
    hidden: int = 0
    tower_heads: int = 0  # of the tower that it belongs to; 0 is the language model
    tower: bool = False

    @property
    def outputs(self) -> int:
        shape = self.param.shape
        return shape[-1] if self.param.kind == "conv1d" else (shape or (1,))[0]

    @property
    def inputs(self) -> int:
        shape = self.param.shape
        return shape[0] if self.param.kind == "conv1d" else (shape or (1,))[-1]

    @property
    def bias(self) -> bool:
        return self.param.kind == "bias"

    def heads(self) -> tuple[int, int]:
        """(query heads, key-value heads); zeros where the layer has neither."""
        if self.tower:
            return self.tower_heads, self.tower_heads
        crossing = any(word in self.param.name for word in ("cross", "encoder_attn", "EncDec"))
        first: type[Mixer] = CrossAttention if crossing else Attention
        for m in sorted(self.mixers, key=lambda m: not isinstance(m, first)):
            if (heads := heads_of(m)) is not None:
                return heads
        return 0, 0


def heads_of(m: Mixer) -> tuple[int, int] | None:
    """(query heads, key-value heads) that weights are split by; None of what has neither."""
    match m:
        case Attention() | CrossAttention():
            return m.heads, m.kv_heads
        case Latent() | Compressed() | KimiDelta() | LinearAttention():
            return m.heads, m.heads
        case Shared() | Mamba1() | Mamba2() | GatedDelta():
            return None
        case ShortConv() | Rwkv() | GatedRecurrence():
            return None
        case _:
            assert_never(m)


def way(param: Param) -> str:
    """Return the way in which a parameter is split; "" where our tables do not say."""
    return WAY_OF.get(role_of(param), "")


def cut(site: Site) -> Cut | None:
    """Tell how a module is split among ranks; None if every rank has it whole. Raises
    UnsupportedError for a matrix whose name is not known."""
    if site.param.kind in NEVER:
        return None
    way_of_it = way(site.param)
    if way_of_it:
        return CUTS[way_of_it](site)
    if site.tower or site.param.kind not in ("linear", "conv1d", "expert", "experts"):
        return None
    raise UnsupportedError(
        f"{site.param.name}: how several devices share it is not in our tables; ask for one device"
    )


def _vocab(site: Site) -> Cut | None:
    if site.param.kind not in ("embedding", "linear", "bias", "other") or site.tower:
        return None
    return even("out", site.outputs, site.outputs, "rows of the vocabulary", "pad")


def _query(site: Site) -> Cut | None:
    heads = site.heads()[0]
    if not heads:
        return _column(site)
    return even("out", site.outputs, heads, "attention heads")


def _keys(site: Site) -> Cut | None:
    heads = site.heads()[1]
    if not heads:
        return _column(site)
    return even("out", site.outputs, heads, "key-value heads", "repeat")


def _fused(site: Site) -> Cut | None:
    heads, kv_heads = site.heads()
    if not heads:
        return _column(site)
    size = site.outputs // (heads + 2 * kv_heads)
    return Cut(
        "out",
        (
            CutPart(heads * size, CutUnit(heads, "attention heads")),
            CutPart(site.outputs - heads * size, CutUnit(kv_heads, "key-value heads", "repeat")),
        ),
    )


def _column(site: Site) -> Cut | None:
    return even("out", site.outputs, site.outputs, f"outputs of {_last(site)}")


def _row(site: Site) -> Cut | None:
    if site.bias:
        return None
    return even("in", site.inputs, site.inputs, f"inputs of {_last(site)}")


def _states(site: Site) -> Cut | None:
    """Mamba 2 holds z, x, B, C and dt in one weight; delta nets divide by heads throughout."""
    for m in site.mixers:
        if isinstance(m, Mamba2):
            return _mamba2(site, m)
        if isinstance(m, GatedDelta):
            return even("out", site.outputs, m.key_heads, "heads of the delta net")
    return _column(site)


def _mamba2(site: Site, m: Mamba2) -> Cut:
    heads = CutUnit(m.heads, "heads of Mamba 2")
    groups = 2 * m.groups * m.state
    if site.outputs <= groups:  # a number a head
        return Cut("out", (CutPart(site.outputs, heads),))
    return Cut(
        "out",
        (
            CutPart(site.outputs - groups, heads),
            CutPart(groups, CutUnit(m.groups, "groups of Mamba 2", "repeat")),
        ),
    )


def _whole(_: Site) -> Cut | None:
    return None


def _last(site: Site) -> str:
    return module(site.param.name).rpartition(".")[2]


WAYS: Mapping[str, str] = {
    "vocab": "embedding head output",
    "query": "q q_b by_head sinks",
    "keys": "k v",
    "fused": "qkv bare_qkv",
    "column": "gate up gate_up kv_b o_a states_in",
    "row": "o o_b down states_out",
    "states": "states states_qkv",
    "whole": "into q_a kv_a index_k shared_gate whole pooler",
}
WAY_OF = {role: way for way, roles in WAYS.items() for role in roles.split()}
CUTS: Mapping[str, Callable[[Site], Cut | None]] = {
    "vocab": _vocab,
    "query": _query,
    "keys": _keys,
    "fused": _fused,
    "column": _column,
    "row": _row,
    "states": _states,
    "whole": _whole,
}

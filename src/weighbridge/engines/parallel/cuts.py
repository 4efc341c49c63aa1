"""Splits of one side of a weight into equal shards, and those that an engine refuses to make.

    split     units / ranks                       heads, widths; the engine refuses a remainder
    repeat    units / ranks, at least one         KV heads, groups of Mamba 2
    pad       units up to a multiple of 64, / ranks               rows of the vocabulary
    fill      units up to a multiple of the ranks, / ranks        blocks of shared experts (vLLM's
              DeepSeek-V4 since 0.24, models/deepseek_v4/nvidia/model.py)

If blocks of a matrix have one scale (FP8 in blocks of 128 x 128, GPTQ and AWQ in groups of inputs),
a shard is whole blocks. vLLM since 0.14 lets a shard end within a block if a Linear holds several
matrices side by side (linear.py, _maybe_allow_fp8_block_shape_mismatch), and SGLang in the
attention of classes that set skip_block_quant_check.

A side may be several parts one after the other: queries, then keys and values.

Source: vllm 0.33 model_executor/layers/linear.py (divide, QKVParallelLinear) and
vocab_parallel_embedding.py (DEFAULT_VOCAB_PADDING_SIZE); sglang 0.5.23 srt/layers, same files;
blocks: model_executor/layers/quantization/fp8.py and utils/fp8_utils.py of vllm 0.8.5 to 0.33,
srt/layers/quantization/fp8.py of sglang 0.4.6 to 0.5.23 ("is not divisible by weight quantization
block_n = 128", "block_k = 128"); groups: gptq.py, awq.py and marlin.py of the same ("The input size
is not aligned with the quantized weight shape").

Which way each module is split, by its role (`arch/roles.py`): `cut(site)`.

    vocab     rows, padded                  embeddings and heads
    query     outputs, by head              keys     outputs, by KV head
    fused     both, one after the other     column   outputs
    row       inputs; bias replicated       whole    not split: replicated on every rank
    states    Mamba's and delta nets' inputs and convolutions, by heads and groups

Source: the ColumnParallelLinear, RowParallelLinear, QKVParallelLinear and ReplicatedLinear of vllm
0.33 and 0.19 model_executor/models/*.py, model_executor/layers/mamba/*.py, layers/mla.py; sglang
0.5.23 srt/models/*.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, assert_never

from weighbridge.base.errors import TriedError, UnsupportedError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import align_up, ceil_div
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.arch.mixers import (
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
from weighbridge.models.arch.roles import module, role_of

if TYPE_CHECKING:
    from fractions import Fraction

How = Literal["split", "repeat", "pad", "fill"]
Side = Literal["out", "in"]
VOCABULARY = 64  # rows to a multiple of which the vocabulary is padded, also on one device
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
NEVER = ("norm", "router")  # kinds that are replicated on every rank


class CutUnit(NamedTuple):
    """The `number` of heads, rows or columns that one side has and that cannot be split further;
    errors call them `what`."""

    number: int
    what: str
    how: How = "split"
    each: int = 1  # rows or columns per unit
    block: int = 1  # rows or columns that share a scale


class CutPart(NamedTuple):
    """`size` rows or columns, which are made of units."""

    size: int
    unit: CutUnit


class Cut(NamedTuple):
    side: Side
    parts: tuple[CutPart, ...]


def even(side: Side, size: int, count: int, what: str, how: How = "split") -> Cut:
    """Return the cut of a side that has only one part: `size` in `count` equal units."""
    return Cut(side, (CutPart(size, CutUnit(count, what, how)),))


def fits(unit: CutUnit, ranks: int, *, grows: bool) -> bool:
    """Return whether units divide. `grows`: the engine pads to 64 rows per rank if 64 do not."""
    if ranks > 1 and unit.block > 1 and units_of_rank(unit, ranks) * unit.each % unit.block:
        return False
    if unit.how == "fill":
        return True
    if unit.how == "pad":
        return grows or align_up(unit.number, VOCABULARY) % ranks == 0
    if unit.how == "repeat" and ranks > unit.number:
        return ranks % max(1, unit.number) == 0
    return unit.number % ranks == 0


def units_of_rank(unit: CutUnit, ranks: int) -> "Fraction":
    """Return the units per rank."""
    from fractions import Fraction  # not needed on one device

    if unit.how == "pad":
        padded = align_up(unit.number, VOCABULARY)
        if padded % ranks:
            padded = align_up(unit.number, VOCABULARY * ranks)
        return Fraction(padded, ranks)
    if unit.how == "repeat" and ranks > unit.number:
        return Fraction(1)
    if unit.how == "fill":
        return Fraction(ceil_div(unit.number, ranks))
    return Fraction(unit.number, ranks)


def share(cut: Cut, ranks: int) -> "Fraction":
    """Return the share of the cut side that one rank has; above one if it is padded."""
    from fractions import Fraction

    whole = sum(p.size for p in cut.parts)
    mine = sum(
        Fraction(p.size, p.unit.number) * units_of_rank(p.unit, ranks) for p in cut.parts if p.size
    )
    return Fraction(mine) / whole if whole else Fraction(1)


def in_blocks(cut: Cut, block: tuple[int, int]) -> Iterator[CutUnit]:
    """Yield the units to check if blocks of (rows, columns) share a scale."""
    size, side = (block[0], "rows") if cut.side == "out" else (block[1], "columns")
    kind = "groups" if block[0] == 1 else "blocks"
    for p in cut.parts:
        if size > 1 and p.size and p.unit.how not in ("pad", "fill"):
            what = f"{p.unit.what}, {side} in {kind} of {size} with one scale each,"
            each = p.size // p.unit.number
            yield p.unit._replace(what=what, each=each, block=size)


def filled(whole: Cut, block: tuple[int, int]) -> Cut:
    """Return a cut into whole blocks, of which the last ranks may have fewer than others."""
    size = block[whole.side == "in"]
    parts = (
        p._replace(unit=CutUnit(ceil_div(p.size, size), "blocks", "fill")) for p in whole.parts
    )
    return whole._replace(parts=tuple(parts))


UNITS = {  # names of units -> their sentences
    "attention heads": "unit.heads",
    "key-value heads": "unit.key_heads",
    "rows of the vocabulary": "unit.vocabulary",
    "heads of the delta net": "unit.delta_heads",
    "columns of each expert": "unit.expert_columns",
}


def check(
    units: Iterable[CutUnit], ranks: int, *, grows: bool, flag: str, seen: str, instead: str = ""
) -> None:
    """Raise UsageError for the first unit that does not divide, with the sizes that work and the
    sentence `instead`; `seen` is the engine's own message."""
    kinds = set(units)
    bad = [u for u in kinds if not fits(u, ranks, grows=grows)]
    if not bad:
        return
    first = min(bad, key=lambda u: (u.how != "split", u.number, u.what))
    able = [str(n) for n in SIZES if all(fits(u, n, grows=grows) for u in kinds)]
    raise TriedError(
        sentence(
            "uneven",
            flag=flag,
            ranks=ranks,
            number=first.number,
            what=sentence(UNITS[first.what]) if first.what in UNITS else first.what,
            sizes=clauses(", ".join(able), sentence(instead) if instead else ""),
        ),
        seen=seen,
    )


# The cut of each module, by its role


@frozen_record
class Site:
    """A parameter, the mixers of its layer, and whether a vision or audio encoder has it."""

    param: Param
    mixers: Sequence[Mixer] = ()
    hidden: int = 0
    tower_heads: int = 0  # of its encoder; 0 in the language model
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
        """Return (query heads, KV heads); zeros if the layer has neither."""
        if self.tower:
            return self.tower_heads, self.tower_heads
        crossing = any(word in self.param.name for word in ("cross", "encoder_attn", "EncDec"))
        first: type[Mixer] = CrossAttention if crossing else Attention
        for m in sorted(self.mixers, key=lambda m: not isinstance(m, first)):
            if (heads := heads_of(m)) is not None:
                return heads
        return 0, 0


def heads_of(mixer: Mixer) -> tuple[int, int] | None:
    """Return (query heads, KV heads) that weights are split by; None for a mixer without heads."""
    match mixer:
        case Attention() | CrossAttention():
            return mixer.heads, mixer.kv_heads
        case Latent() | Compressed() | KimiDelta() | LinearAttention():
            return mixer.heads, mixer.heads
        case Shared() | Mamba1() | Mamba2() | GatedDelta():
            return None
        case ShortConv() | Rwkv() | GatedRecurrence():
            return None
        case _:
            assert_never(mixer)


def way(param: Param) -> str:
    """Return how a parameter is split, a key of CUTS; "" if its role is in no table."""
    return WAY_OF.get(role_of(param), "")


def cut(site: Site) -> Cut | None:
    """Return how a module is split among ranks; None if it is replicated. Raises UnsupportedError
    for a matrix whose name is not known."""
    if site.param.kind in NEVER:
        return None
    way_of_it = way(site.param)
    if way_of_it:
        return CUTS[way_of_it](site)
    if site.tower or site.param.kind not in ("linear", "conv1d", "expert", "experts"):
        return None
    raise UnsupportedError(sentence("not_shared", name=site.param.name))


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
    """Return the cut of Mamba 2's fused weight (z, x, B, C, dt), or of a delta net's, by heads."""
    for m in site.mixers:
        if isinstance(m, Mamba2):
            return _mamba2(site, m)
        if isinstance(m, GatedDelta):
            return even("out", site.outputs, m.key_heads, "heads of the delta net")
        if isinstance(m, KimiDelta):  # A_log is [1, 1, heads, 1]
            return even("out", site.param.numel, m.heads, "heads of the delta net")
    return _column(site)


def _mamba2(site: Site, mamba: Mamba2) -> Cut:
    heads = CutUnit(mamba.heads, "heads of Mamba 2")
    groups = 2 * mamba.groups * mamba.state
    if site.outputs <= groups:  # one element per head
        return Cut("out", (CutPart(site.outputs, heads),))
    return Cut(
        "out",
        (
            CutPart(site.outputs - groups, heads),
            CutPart(groups, CutUnit(mamba.groups, "groups of Mamba 2", "repeat")),
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

"""What one step of SGLang keeps alive at its widest layer, in elements a token of one rank.

    chunk(blocks)   of a chunk of prefill, or of the requests that decode
    tower(t)        of an encoder, for one image or sound

Layers run eagerly and nothing is saved for a backward pass, so one layer is alive at a time; its
tensors live until its functions return. Letters: D hidden, F feed-forward, H and K heads of queries
and of keys, E experts, k of them for a token (heads and F divided by the ranks that share them):

    always       3 D                        residual, the layer's input, its output
    attention    (H + 2 K) h + H h          fused projection, and what attention returns
    latent       H (2 (nope + rotary) + nope + 2 v) + r + rotary + q rank
    dense        3 F                        gate and up, and their product (F twice where not gated)
    experts      k (max(2 F, D) + F)        rows by expert; the second projection reuses the first's

Sources: sglang 0.5.23 srt/models/llama.py (LlamaMLP.forward), srt/models/deepseek_v2.py,
srt/layers/moe/fused_moe_triton/fused_moe.py (intermediate_cache1 to 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from weighbridge.arch.body import Dense, Experts, Feed, LayerBlock, Tower
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
    Recurrent,
    Rwkv,
    Shared,
    ShortConv,
)
from weighbridge.units import ceil_div

STEP = 64  # tokens of one step of the delta rule, which keeps a state for each
SCAN = 256  # the same of Mamba 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSplit:
    """How one rank's share is made: heads and feed-forwards by `tensor`, experts by number. Where
    there are `groups` of them, heads are those of a group, and the tokens of all groups meet at
    the feed-forward."""

    tensor: int = 1
    expert_parallel: bool = False
    groups: int = 1

    @property
    def attention(self) -> int:
        return self.tensor // self.groups


@dataclass(frozen=True, slots=True)
class Chunk:
    """Elements of one token: of the widest moment; and of it with the blocks that the other half
    of a layer leaves cached, when the allocator cannot use them again."""

    widest: int
    with_cached: int
    formula: str


def chunk(
    blocks: Sequence[LayerBlock],
    hidden: int,
    split: RankSplit,
    whole: Sequence[LayerBlock] | None = None,
) -> Chunk:
    """`whole`: of all stages, where layers that share a cache find its owner."""
    every = blocks if whole is None else whole
    mixed = max((_mixing(m, b, every, split) for b in blocks for m in b.mixers), default=0)
    feeds = {_feeding(f, hidden, split): f for b in blocks for f in b.feeds}
    fed = max(feeds, default=0) * split.groups + (split.groups - 1) * hidden
    what = "attention" if mixed >= fed else _named(feeds[max(feeds)])
    formula = f"3 x {hidden:,} and {max(mixed, fed):,} of {what}, elements a token"
    return Chunk(3 * hidden + max(mixed, fed), 3 * hidden + mixed + fed, formula)


def _named(f: Feed) -> str:
    return "the experts" if isinstance(f, Experts) else "the feed-forward"


def _mixing(m: Mixer, block: LayerBlock, every: Sequence[LayerBlock], split: RankSplit) -> int:
    if isinstance(m, Shared):
        mixers = every[m.owner].mixers if m.owner < len(every) else ()
        owners = (o for o in mixers if not isinstance(o, Shared))
        return max((_mixing(o, block, every, split) for o in owners), default=0)
    whole = _whole(m, block)
    return ceil_div(_widths(m), split.attention) + whole


def _whole(m: Mixer, block: LayerBlock) -> int:
    """Return the elements a token that every rank computes alike."""
    if isinstance(m, Latent):
        return m.latent_elements + block.query_rank
    return m.dim + block.query_rank if isinstance(m, Compressed) else 0


def _attended(m: Attention | CrossAttention) -> int:
    return m.heads * (m.key_dim + m.value_dim) + m.key_elements + m.value_elements


def _expanded(m: Latent) -> int:
    return m.heads * (2 * (m.nope + m.rotary) + m.nope + 2 * m.value_dim)


def _widths(m: Mixer) -> int:
    """Elements a token of all ranks together."""
    match m:
        case Attention() | CrossAttention():
            return _attended(m)
        case Latent():
            return _expanded(m)
        case Compressed():
            return 2 * m.heads * m.dim
        case Shared():  # its owner's are asked
            return 0
        case _ if isinstance(m, Recurrent):
            return _recurrent(m)
        case _:
            assert_never(m)


def _recurrent(m: Recurrent) -> int:
    """A chunk of the delta rule and of a scan keeps a state for each step."""
    match m:
        case GatedDelta():
            values = m.value_heads * m.value_dim
            return 2 * m.channels + 2 * values + m.state_elements // STEP
        case KimiDelta() | LinearAttention():
            return 8 * m.heads * m.dim + m.state_elements // STEP
        case Mamba2():
            return 2 * m.channels + 2 * m.inner + m.state_elements // SCAN
        case Mamba1():
            return 5 * m.inner
        case ShortConv() | Rwkv() | GatedRecurrence():
            return 3 * m.channels
        case _:
            assert_never(m)


def _feeding(f: Feed, hidden: int, split: RankSplit) -> int:
    match f:
        case Dense():
            return ceil_div((3 if f.gated else 2) * f.width, split.tensor)
        case Experts():
            return _sharing(f, hidden, split)
        case _:
            assert_never(f)


def _sharing(f: Experts, hidden: int, split: RankSplit) -> int:
    """Rows by expert, with the numbers of experts and what every token goes through."""
    width = f.width if split.expert_parallel else ceil_div(f.width, split.tensor)
    first = 2 * width if f.gated else width
    rows = f.top_k * (max(first, f.inputs or hidden) + width)
    return rows + 2 * f.count + ceil_div(3 * f.shared, split.tensor) + hidden * bool(f.shared)


def tower(tower: Tower, split: RankSplit) -> int:
    """Elements that the encoder of one item keeps alive at its widest."""
    attended = ceil_div(4 * tower.heads * tower.head_dim, split.tensor)
    fed = _feeding(tower.feed, tower.hidden, split)
    return tower.positions * (3 * tower.hidden + max(attended, fed) + tower.patch)

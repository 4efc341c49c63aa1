"""The widest layer of one step of SGLang, in elements per token of one rank.

    chunk(blocks)   of a prefill chunk, or of the requests that decode
    tower(t)        of an encoder, for one image or sound

Layers run eagerly and nothing is saved for a backward pass, so one layer is alive at a time; its
tensors live until its functions return. Letters: D hidden, F intermediate, H and K heads of queries
and of keys, E experts, k of them per token (heads and F divided by the ranks that split them):

    always       3 D                        residual, the layer's input, its output
    attention    (H + 2 K) h + H h          fused projection, and what attention returns
    MLA          H (2 (nope + rotary) + nope + 2 v) + r + rotary + q rank
    dense        3 F                        gate and up, and their product (2 F if not gated)
    experts      k (max(2 F, D) + F)        rows by expert; the second projection reuses the first's

Sources: sglang 0.5.23 srt/models/llama.py (LlamaMLP.forward), srt/models/deepseek_v2.py,
srt/layers/moe/fused_moe_triton/fused_moe.py (intermediate_cache1 to 3).
"""

from collections.abc import Sequence
from typing import assert_never

from weighbridge.base.records import dataclass, frozen_record
from weighbridge.base.units import ceil_div
from weighbridge.models.arch.body import Dense, Experts, Feed, LayerBlock, Tower
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
    Recurrent,
    Rwkv,
    Shared,
    ShortConv,
)

STEP = 64  # tokens per step of the delta rule, which keeps a state for each
SCAN = 256  # the same for Mamba 2


@frozen_record
class RankSplit:
    """One rank's share of a step: heads and MLPs split by `tensor`, experts by number. With
    `groups` of data-parallel attention, heads are split within a group, and the tokens of all
    groups meet at the MLP."""

    tensor: int = 1
    expert_parallel: bool = False
    groups: int = 1

    @property
    def attention(self) -> int:
        return self.tensor // self.groups


@dataclass(frozen=True, slots=True)
class Chunk:
    """Elements per token: at the peak; and there with the blocks that the other half of a layer
    leaves cached, if the allocator cannot reuse them."""

    widest: int
    with_cached: int
    formula: str


def chunk(
    blocks: Sequence[LayerBlock],
    hidden: int,
    split: RankSplit,
    whole: Sequence[LayerBlock] | None = None,
) -> Chunk:
    """Return the peak of a chunk. `whole`: blocks of all stages, for owners of shared caches."""
    every = blocks if whole is None else whole
    mixed = max((_mixing(m, b, every, split) for b in blocks for m in b.mixers), default=0)
    feeds = {_feeding(f, hidden, split): f for b in blocks for f in b.feeds}
    fed = max(feeds, default=0) * split.groups + (split.groups - 1) * hidden
    what = (
        "attention"
        if mixed >= fed
        else ("the experts" if isinstance(feeds[max(feeds)], Experts) else "the feed-forward")
    )
    formula = f"3 x {hidden:,} and {max(mixed, fed):,} of {what}, elements a token"
    return Chunk(3 * hidden + max(mixed, fed), 3 * hidden + mixed + fed, formula)


def _mixing(mixer: Mixer, block: LayerBlock, every: Sequence[LayerBlock], split: RankSplit) -> int:
    if isinstance(mixer, Shared):
        mixers = every[mixer.owner].mixers if mixer.owner < len(every) else ()
        owners = (o for o in mixers if not isinstance(o, Shared))
        return max((_mixing(o, block, every, split) for o in owners), default=0)
    whole = _whole(mixer, block)
    return ceil_div(_widths(mixer), split.attention) + whole


def _whole(mixer: Mixer, block: LayerBlock) -> int:
    """Return the elements per token that every rank computes alike."""
    if isinstance(mixer, Latent):
        return mixer.latent_elements + block.query_rank
    return mixer.dim + block.query_rank if isinstance(mixer, Compressed) else 0


def _attended(attention: Attention | CrossAttention) -> int:
    return (
        attention.heads * (attention.key_dim + attention.value_dim)
        + attention.key_elements
        + attention.value_elements
    )


def _widths(mixer: Mixer) -> int:
    """Return the elements per token of all ranks together."""
    match mixer:
        case Attention() | CrossAttention():
            return _attended(mixer)
        case Latent():
            return mixer.heads * (
                2 * (mixer.nope + mixer.rotary) + mixer.nope + 2 * mixer.value_dim
            )
        case Compressed():
            return 2 * mixer.heads * mixer.dim
        case Shared():  # its owner counts
            return 0
        case _ if isinstance(mixer, Recurrent):
            return _recurrent(mixer)
        case _:
            assert_never(mixer)


def _recurrent(recurrent: Recurrent) -> int:
    """Return the elements per token; the delta rule and scans keep a state per step."""
    match recurrent:
        case GatedDelta():
            values = recurrent.value_heads * recurrent.value_dim
            return 2 * recurrent.channels + 2 * values + recurrent.state_elements // STEP
        case KimiDelta() | LinearAttention():
            return 8 * recurrent.heads * recurrent.dim + recurrent.state_elements // STEP
        case Mamba2():
            return 2 * recurrent.channels + 2 * recurrent.inner + recurrent.state_elements // SCAN
        case Mamba1():
            return 5 * recurrent.inner
        case ShortConv() | Rwkv() | GatedRecurrence():
            return 3 * recurrent.channels
        case _:
            assert_never(recurrent)


def _feeding(feed: Feed, hidden: int, split: RankSplit) -> int:
    match feed:
        case Dense():
            return ceil_div((3 if feed.gated else 2) * feed.width, split.tensor)
        case Experts():
            return _sharing(feed, hidden, split)
        case _:
            assert_never(feed)


def _sharing(experts: Experts, hidden: int, split: RankSplit) -> int:
    """Return a MoE layer's elements per token: rows by expert, numbers, shared experts."""
    width = experts.width if split.expert_parallel else ceil_div(experts.width, split.tensor)
    first = 2 * width if experts.gated else width
    rows = experts.top_k * (max(first, experts.inputs or hidden) + width)
    return (
        rows
        + 2 * experts.count
        + ceil_div(3 * experts.shared, split.tensor)
        + hidden * bool(experts.shared)
    )


def tower(tower: Tower, split: RankSplit) -> int:
    """Return the elements alive at the peak of an encoder, for one item."""
    attended = ceil_div(4 * tower.heads * tower.head_dim, split.tensor)
    fed = _feeding(tower.feed, tower.hidden, split)
    return tower.positions * (3 * tower.hidden + max(attended, fed) + tower.patch)

"""Peak activations of one step, in elements per token of one rank.

torch.compile splits the model at attention, so a compiled piece starts with an attention output and
ends with the next layer's QKV projections; its inputs live until it ends. With A attention output,
D hidden size, F intermediate size, k of E experts per token:

    feed-forward   A + 2 D + 3 F            residual in and out, gate and up, their product
    experts        A + 4 D + E              and the workspace, k (max(F, D) + max(2 F, D))
    projections    A + 3 D + Q, K, V, and Q and K after rotary embedding

Eager: the attention output is freed, but the caller holds the layer's input: D replaces A in the
first two. MLA also sizes its chunked-prefill workspace, beside the residual, queries, latents and
its output, in elements:

    expansion      min(max(8 context, 4 sequences x block), 65,536) x heads (nope + value)

Measured with 16,384 tokens of 0.26 on an H100, without cuBLAS and the experts' workspace: 1,728 and
960 MiB of Llama 3.1 8B and 3.2 1B (eager), 1,778 (compiled), 754 of DeepSeek-V2-Lite, all as these
rows say (tests/evidence: weighbridge's own runs).

Compilation benchmarks kernels and flushes the L2 cache with a buffer of its size; later starts load
the compiled code and do not. CodeLlama-7B with 8,192 tokens took 0.77 GiB on an H100: 708 MiB of
the first row, 32 of cuBLAS, 50 of L2 cache.

Source: vllm 0.19 and 0.33 compilation/backends.py (split at attention), model_executor/models/
llama.py, layers/fused_moe/ (experts/triton_moe.py: workspace_shapes; v1/worker/workspace.py),
layers/attention/mla_attention.py (determine_chunked_prefill_workspace_size).
"""

from collections.abc import Sequence
from typing import assert_never

from weighbridge.base.records import frozen_record, replace
from weighbridge.base.units import ceil_div
from weighbridge.engines.servers.cache_formats import local
from weighbridge.models.arch.body import Dense, Experts, Feed, LayerBlock
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

EXPANDED = 64 * 1024  # max context tokens in MLA's chunked-prefill workspace
LATENT_BLOCK = 64


@frozen_record
class RankShare:
    """How one layer is sharded: ranks that split heads and MLPs, and ranks that split each expert.
    `shuffled`: the MoE kernel permutes tokens into expert order and back, which takes copies."""

    tensor: int = 1
    expert_width: int = 1  # ranks that split each expert
    shuffled: bool = False

    def width(self, feed: Feed) -> int:
        return ceil_div(feed.width, self.expert_width if isinstance(feed, Experts) else self.tensor)


@frozen_record
class StepWidths:
    """Peak elements per token: of a step (`widest`), while MLA runs (`attending`), and of the
    experts' workspace."""

    widest: int
    attending: int
    workspace: int
    formula: str


@frozen_record
class Widths:
    """Elements per token that the layers of one rank need while they run."""

    step: StepWidths
    dense: int  # largest output of a dense MLP's projection
    latent: int  # per cached token gathered by MLA, never freed
    expanded: int  # per cached token expanded to K and V by MLA


def widths(
    blocks: Sequence[LayerBlock], hidden: int, share: RankShare, *, eager: bool, through: int = 0
) -> Widths:
    """Return one rank's activation widths; `through`: elements per token alive in all layers."""
    kinds = tuple(dict.fromkeys(blocks))
    latents = [m for b in kinds for m in b.mixers if isinstance(m, Latent)]
    dense = [f for b in kinds for f in b.feeds if isinstance(f, Dense)]
    heads = [(ceil_div(m.heads, share.tensor), m.nope + m.value_dim) for m in latents]
    return Widths(
        step=step(blocks, hidden, share, eager=eager, through=through),
        dense=max(map(share.width, dense), default=0),
        latent=max((m.latent_elements for m in latents), default=0),
        expanded=max((count * width for count, width in heads), default=0),
    )


def step(
    blocks: Sequence[LayerBlock], hidden: int, share: RankShare, *, eager: bool, through: int = 0
) -> StepWidths:
    moments: list[tuple[int, str]] = [(3 * hidden, "projections")]
    kinds = dict.fromkeys(blocks)
    for block in kinds:
        outputs, projected = _mixed(block, blocks, share.tensor)
        attended = hidden if eager else outputs
        moments.append((outputs + 3 * hidden + projected, "projections"))
        moments += [
            (
                attended + _fed(f, hidden, share),
                "experts" if isinstance(f, Experts) else "feed-forward",
            )
            for f in block.feeds
        ]
    widest, what = max(moments)
    return StepWidths(
        widest=widest + through,
        attending=through + max((_attending(b, hidden, share, eager) for b in kinds), default=0),
        workspace=max((workspace(f, hidden, share) for b in kinds for f in b.feeds), default=0),
        formula=f"{widest + through:,} elements a token at the {what}",
    )


def _attending(block: LayerBlock, hidden: int, share: RankShare, eager: bool) -> int:
    """Return the elements per token alive while MLA runs, 0 without MLA."""
    latents = [_local(m, share.tensor) for m in block.mixers if isinstance(m, Latent)]
    held = (1 + eager) * hidden
    return max((held + _asking(m) for m in latents if isinstance(m, Latent)), default=0)


def _asking(latent: Latent) -> int:
    queries = latent.heads * (latent.nope + latent.rotary)
    return queries + latent.latent_elements + latent.heads * latent.value_dim


def _fed(feed: Feed, hidden: int, share: RankShare) -> int:
    match feed:
        case Dense():
            return 2 * hidden + (3 if feed.gated else 2) * share.width(feed)
        case Experts():
            shared = 3 * ceil_div(feed.shared, share.tensor)
            copies = share.shuffled * feed.top_k * (2 * hidden + share.width(feed))
            return 3 * hidden + feed.count + max(hidden, shared) + copies
        case _:
            assert_never(feed)


def workspace(feed: Feed, hidden: int, share: RankShare) -> int:
    """Return the MoE workspace, elements per token: both products' rows of top_k experts."""
    match feed:
        case Dense():
            return 0
        case Experts():
            width, inputs = share.width(feed), feed.inputs or hidden
            first = 2 * width if feed.gated else width
            return feed.top_k * (max(width, inputs) + max(first, inputs))
        case _:
            assert_never(feed)


# Mixers: (elements of the output, elements of the projections and of rotated Q and K)


def _mixed(block: LayerBlock, blocks: Sequence[LayerBlock], ranks: int) -> tuple[int, int]:
    sizes = [_sizes(_local(_owner(m, blocks), ranks), block) for m in block.mixers]
    return sum(outputs for outputs, _ in sizes), sum(projected for _, projected in sizes)


def _local(mixer: Mixer, ranks: int) -> Mixer:
    """Return the mixer with this rank's heads, which are split where MLA's cache is replicated."""
    if isinstance(mixer, Latent | Compressed):
        return replace(mixer, heads=ceil_div(mixer.heads, ranks))
    return local(mixer, ranks)


def _owner(mixer: Mixer, blocks: Sequence[LayerBlock]) -> Mixer:
    """Return the mixer whose KV cache a layer shares; it still projects its own queries."""
    if isinstance(mixer, Shared) and mixer.owner < len(blocks) and blocks[mixer.owner].mixers:
        return blocks[mixer.owner].mixers[0]
    return mixer


def _sizes(mixer: Mixer, block: LayerBlock) -> tuple[int, int]:
    match mixer:
        case Attention() | CrossAttention():
            return _attention(mixer)
        case Latent():
            return _latent(mixer, block)
        case Compressed():
            return (
                mixer.heads * mixer.dim,
                2 * mixer.heads * mixer.dim + block.query_rank + mixer.dim,
            )
        case Shared():
            return 0, 0
        case _ if isinstance(mixer, Recurrent):
            return _recurrent(mixer)
        case _:
            assert_never(mixer)


def _recurrent(recurrent: Recurrent) -> tuple[int, int]:
    match recurrent:
        case GatedDelta():
            outputs = recurrent.value_heads * recurrent.value_dim
            return outputs, 2 * recurrent.channels + outputs + 2 * recurrent.value_heads
        case KimiDelta() | LinearAttention():
            return recurrent.heads * recurrent.dim, 4 * recurrent.heads * recurrent.dim
        case Mamba1() | Mamba2():
            return recurrent.inner, recurrent.inner + 2 * recurrent.channels
        case ShortConv() | Rwkv() | GatedRecurrence():  # convolution, its gate
            return recurrent.channels, 2 * recurrent.channels
        case _:
            assert_never(recurrent)


def _attention(attention: Attention | CrossAttention) -> tuple[int, int]:
    queries = attention.heads * attention.key_dim
    rotated = queries + attention.key_elements
    return (
        attention.heads * attention.value_dim,
        queries + attention.key_elements + attention.value_elements + rotated,
    )


def _latent(latent: Latent, block: LayerBlock) -> tuple[int, int]:
    queries = latent.heads * (latent.nope + latent.rotary)
    outputs = latent.heads * latent.value_dim
    return outputs, 2 * queries + block.query_rank + 2 * latent.latent_elements


def expanded_rows(context: int, sequences: int) -> int:
    """Return the cached tokens whose K and V MLA expands at once."""
    wanted = max(8 * context, 4 * sequences * LATENT_BLOCK)
    return max(min(wanted, EXPANDED), sequences * LATENT_BLOCK)

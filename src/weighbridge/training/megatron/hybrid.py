"""Layers of a hybrid model, of which each does one thing: Mamba 2, attention, an MLP, or experts,
with its norm before it and the residual after it.

Mamba keeps

    the input, its deviations, and the norm's output, as every norm with its linear
    gates, channels, both of each group and steps, which the linear made; copied if there are
    several sequences, since the kernel wants [batch, tokens]
    the scan's output before its gate, and the gated output, which the norm after it keeps
    that norm's output, which the last linear keeps

and takes for a moment the channels after the convolution, and for each 128 tokens a state in
float32, [heads, channels of a head, state]: in the backward these once more, with their gradients.
Context-parallel ranks split heads, and each has as many bytes as by tokens.

None of our measured runs is of such a model: the rule comes from the source only. Source:
Megatron-LM d98e8a6 core/ssm/{mamba_mixer,mamba_layer}.py, core/models/hybrid; state-spaces mamba
2.x mamba_ssm/ops/triton/ssd_combined.py (MambaSplitConv1dScanCombinedFn).
"""

from functools import partial
from typing import Any

from weighbridge.base.dtypes import BFLOAT16, FLOAT32
from weighbridge.base.units import ceil_div
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.tensors import Tensor
from weighbridge.training.megatron.layers import (
    LayerWeights,
    RankMachine,
    copied,
    dropped,
    feed_forward,
    norm,
    norm_linear,
    row_linear,
    self_attention,
)
from weighbridge.training.megatron.model import ATTENDS, FEEDS, MAMBA

CHUNK = 128  # tokens per state (chunk_size)


def layer(rank: RankMachine, weights: LayerWeights, letter: str, x: Tensor) -> Tensor:
    """Return the output of one HybridStack layer; `letter` says of which kind."""
    if letter == MAMBA:
        return dropped(rank, _mamba(rank, weights, x), x)
    if letter == ATTENDS:
        return dropped(rank, self_attention(rank, weights, x), x)
    if letter == FEEDS:
        run = partial(feed_forward, rank, weights)
        again = "mlp" in rank.run.modules
        return dropped(rank, checkpoint(rank.m, run, x, reentrant=True) if again else run(x), x)
    from weighbridge.training.megatron.experts import experts

    return dropped(rank, experts(rank, weights, norm(rank, x)), x)


def _mamba(rank: RankMachine, weights: LayerWeights, x: Tensor) -> Tensor:
    """Return the output of MambaMixer.forward."""
    several = rank.run.batch > 1
    made = norm_linear(rank, x, weights["in_proj"])
    if several:
        made = copied(rank.m, made)
    out = _scanned(rank, made)
    del made
    if several:
        out = copied(rank.m, out)
    return row_linear(rank, norm(rank, out), weights["out_proj"])


def _scanned(rank: RankMachine, made: Tensor) -> Tensor:
    """Return mamba_split_conv1d_scan_combined of `made`: a convolution, and a scan in chunks of
    tokens."""
    m, sizes = rank.m, rank.model.mamba
    assert sizes is not None
    tensor, rows, shape = rank.run.tensor, made.rows, made.shape
    wide = (rows, sizes.inner // tensor)
    convolved = BFLOAT16.size(rows * sizes.channels // tensor)
    states = FLOAT32.size(ceil_div(rows, CHUNK) * sizes.state_elements // tensor)
    steps = FLOAT32.size(2 * rows * sizes.heads // tensor)
    ungated = m.new(wide, BFLOAT16)
    out = m.new(wide, BFLOAT16)
    m.hidden(convolved, states, steps)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        given = m.new(shape, BFLOAT16)
        m.hidden(convolved, convolved, states, states, steps, steps)
        return [given]

    record(m, back, [made], [made, ungated], out)
    return out

"""A gated delta net instead of a layer's attention (Qwen3-Next, Qwen3.5) in Megatron-core.

One linear makes queries, keys, values, a gate, and two numbers per value head; a causal convolution
goes over the first three. What its forward keeps of a micro-batch:

    norm and linear    the input, its deviations, and the norm's output
    convolution        its input, laid out by channels
    queries, keys      each before its norm, a float32 per head; then once more per value head
    the rule           both, values, a decay in float32 and a number per value head, and of each 64
                       tokens a matrix [64, 64] per value head
    norm and gate      the rule's output, the gate, both deviations, and their product, which the
                       last linear keeps

For a moment the rule takes keys and values as each chunk sees them, and a state [key, value] of
each chunk and value head; its backward these again, with their gradients. Context-parallel ranks
have as many bytes as by tokens.

None of our measured runs is of such a model: the rule comes from the source only. Source:
Megatron-LM 00caa53 core/ssm/gated_delta_net.py; fla-org/flash-linear-attention 0.4
fla/ops/gated_delta_rule/chunk.py (ChunkGatedDeltaRuleFunction), fla/modules/l2norm.py.
"""

from typing import Any

from weighbridge.base.dtypes import BFLOAT16, FLOAT32
from weighbridge.base.units import ceil_div
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.tensors import Tensor
from weighbridge.training.megatron.layers import LayerWeights, RankMachine, norm_linear, row_linear

CHUNK = 64  # tokens of a matrix and of a state
KEPT = BFLOAT16, FLOAT32


def gated_delta_net(rank: RankMachine, weights: LayerWeights, x: Tensor) -> Tensor:
    """Return GatedDeltaNet.forward, with the layer's first norm."""
    made = norm_linear(rank, x, weights["in_proj"])
    return row_linear(rank, _mixed(rank, made), weights["out_proj"])


def _mixed(rank: RankMachine, made: Tensor) -> Tensor:
    """Return what the rule makes of the first linear's output, [tokens, values]."""
    m, net, tensor, rows = rank.m, rank.model.delta, rank.run.tensor, made.rows
    assert net is not None
    keys, heads = net.key_heads * net.key_dim // tensor, net.value_heads // tensor
    channels, values, wide = net.channels // tensor, heads * net.value_dim, heads * net.key_dim
    states = ceil_div(rows, CHUNK) * net.state_elements // tensor
    halves = channels, keys, keys, wide, wide, values, heads, heads * CHUNK, values, values
    singles = net.key_heads // tensor, net.key_heads // tensor, heads, heads, heads
    kept = [
        m.new((rows, n), dtype)
        for dtype, each in zip(KEPT, (halves, singles), strict=True)
        for n in each
    ]
    out = m.new((rows, values), BFLOAT16)
    chunked = [BFLOAT16.size(n) for n in (rows * wide, rows * values, rows * values, states)]
    convolved = BFLOAT16.size(rows * channels)
    m.hidden(convolved, *chunked)
    shape = made.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        given = m.new(shape, BFLOAT16)
        m.hidden(convolved, *chunked, *chunked, *[chunked[0]] * 3)
        return [given]

    record(m, back, [made], kept, out)
    return out

"""Compute buffers of a graph that is not in our tables: the terms that dominate in every graph.

    logits      outputs x vocabulary
    one layer   tokens x (4 hidden + 3 widths of the widest matrix, once an expert)
    mask        tokens x cells, and scores of all heads without flash attention

each in 32 bits, on every GPU that has layers, from half of it to three times as much. The host has
inputs: the mask, and a row of the embedding a token.
"""

from weighbridge.arch.mixers import Attention
from weighbridge.engines.llama_cpp.ggml.tensor import F32
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.llama_cpp.placement import LayerPlacement
from weighbridge.engines.llama_cpp.setting import LlamaCppLaunch
from weighbridge.memo import memo


def roughly(placement: LayerPlacement) -> tuple[int, ...]:
    """Bytes by device, the host last: the expected ones."""
    mask = F32.size(
        placement.launch.step_tokens * placement.launch.n_ctx // placement.launch.streams
    )
    whole = mask + working(placement.net, placement.launch)
    layers = {placement.layer(i) for i in range(len(placement.net.layers) + 1)}
    inputs = mask + F32.size(placement.launch.step_tokens * placement.net.hidden)
    gpus = tuple(whole if d in layers else 0 for d in range(placement.launch.gpus))
    return (*gpus, whole if placement.host in layers else inputs)


def working(net: Network, launch: LlamaCppLaunch) -> int:
    logits = launch.outputs * net.rows
    layer = launch.step_tokens * (4 * net.hidden + 3 * widest(net))
    scores = 0 if launch.flash else launch.step_tokens * launch.n_ctx // launch.streams * heads(net)
    return F32.size(logits + layer + scores)


def widest(net: Network) -> int:
    """Return the widest side of any layer's matrix; experts count as often as a token has
    experts."""

    def found() -> int:
        widths = (
            max(w.ne[:2]) * (net.top_k if "_exps" in w.name else 1)
            for w in net.weights.values()
            if w.name.startswith("blk.") and len(w.ne) > 1
        )
        return max(widths, default=net.hidden)

    return memo(net, ("widest",), found)


def heads(net: Network) -> int:
    counts = [m.heads for m in net.mixers if isinstance(m, Attention)]
    return max(counts, default=net.heads or 1)

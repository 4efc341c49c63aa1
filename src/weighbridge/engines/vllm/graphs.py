"""CUDA graphs: what the driver and the private pool take for all that are captured.

    pieces     a graph between attentions for each size, and one whole graph for sizes that decode
    kernels    graphs x kernels of all layers x bytes of one (assumed)
    pool       the widest layer of the largest size, and 64 MiB of the first kernels
    adapters   since 0.12 each size twice: with slots for adapters, and without
    splits     32 partial results of attention in float32, of whole graphs on Hopper

    taken      kernels + pool + splits
    charged    kernels of all but the first two + the larger of pool and splits      vLLM's estimate

The estimate is off the cache since 0.20. Splits: FlashAttention 3 may cut contexts in 32, and sets
room aside for each part: batch x heads x values x 4 bytes (of latent attention its rank).

No source gives the driver's bytes. 27 logs of vLLM 0.19 (H100, 51 or 83 sizes, jgchn/llm-d-planner)
took 0.67 to 1.84 GiB, which leaves 11.5 to 21 KiB a kernel, in 23 of them 13 to 18.

Source: vllm 0.33 and 0.19 v1/worker/gpu_model_runner.py (profile_cudagraph_memory, capture_model),
config/compilation.py (FULL_AND_PIECEWISE, cudagraph_specialize_lora), config/attention.py
(flash_attn_max_num_splits_for_cuda_graph), v1/attention/backends/flash_attn.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

from weighbridge.arch.body import Experts, LayerBlock
from weighbridge.arch.mixers import Attention, Latent, Mixer
from weighbridge.engines.caches.sharding import local
from weighbridge.memory import Bytes
from weighbridge.units import KIB, MIB, ceil_div

KERNEL = Bytes(12 * KIB, 15 * KIB + 512, 20 * KIB)
DENSE, MIXTURE, LATENT = 11, 7, 6  # kernels of a layer, and more for experts and latents
ADAPTED = 8  # and more with slots for adapters: four products, each with two kernels
FIRST = 64 * MIB
SPLITS = 32
FLOAT32 = 4
NONE = Bytes(0, 0, 0)


class CapturedGraphs(NamedTuple):
    """What they take, and what vLLM expects of them."""

    taken: Bytes
    charged: Bytes


def kernels(blocks: Sequence[LayerBlock], *, adapted: bool = False) -> int:
    """Count the kernels that one step through all layers starts."""
    return sum(DENSE + ADAPTED * adapted + _more(b) for b in blocks)


def _more(b: LayerBlock) -> int:
    experts = any(isinstance(f, Experts) for f in b.feeds)
    latent = any(isinstance(m, Latent) for m in b.mixers)
    return MIXTURE * experts + LATENT * latent


def graphs(captures: Sequence[int], sequences: int, length: int, *, full: bool) -> int:
    """Captured in all: pieces count as one."""
    decoding = sum(1 for n in captures if n <= sequences * length) if full else 0
    return len(captures) + decoding


def splits(blocks: Sequence[LayerBlock], tokens: int, ranks: int) -> int:
    """Bytes that attention of `tokens` decoded at once is cut into."""
    widths = (_width(m, ranks) for b in blocks for m in b.mixers)
    return SPLITS * tokens * max(widths, default=0) * FLOAT32


def _width(m: Mixer, ranks: int) -> int:
    if isinstance(m, Latent):
        return ceil_div(m.heads, ranks) * m.rank
    own = local(m, ranks)
    return own.heads * own.value_dim if isinstance(own, Attention) else 0


def estimate(
    blocks: Sequence[LayerBlock], counts: tuple[int, int], widest: int, cut: int
) -> CapturedGraphs:
    """What graphs take: `counts` without and with slots for adapters. `widest` are bytes of a layer
    with the largest size, `cut` of splits."""
    count = sum(counts)
    if not count:
        return CapturedGraphs(NONE, NONE)
    plain, adapted = counts
    nodes = plain * kernels(blocks) + adapted * kernels(blocks, adapted=True)
    tried, pool = nodes * max(0, count - 2) // count, FIRST + widest
    return CapturedGraphs(
        taken=Bytes(*(pool + cut + nodes * b for b in KERNEL)),
        charged=Bytes(*(max(pool, cut) + tried * b for b in KERNEL)),
    )

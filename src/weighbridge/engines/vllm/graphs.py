"""CUDA graphs: what the driver and the private pool take for all that are captured.

    pieces    a graph between attentions for each size, and one whole graph for sizes that decode
    bytes     sizes x layers x kernels of a layer x bytes of a kernel (assumed), and the pool of the
              largest step

No source gives the driver's bytes. 28 logs of vLLM 0.19 (H100, 51 or 83 sizes, jgchn/llm-d-planner)
print 0.52 to 1.63 GiB estimated and 0.67 to 1.84 taken: 13 to 35 KiB a kernel.

Source: vllm 0.33 v1/worker/gpu_model_runner.py (profile_cudagraph_memory, capture_model),
config/compilation.py (FULL_AND_PIECEWISE).
"""

from collections.abc import Sequence

from weighbridge.arch.body import Block, Experts
from weighbridge.arch.mixers import Latent
from weighbridge.memory import Bytes
from weighbridge.units import KIB

KERNEL = Bytes(12 * KIB, 20 * KIB, 36 * KIB)
DENSE, MIXTURE, LATENT = 11, 7, 6  # kernels of a layer, and more for experts and latents


def kernels(blocks: Sequence[Block]) -> int:
    """Of one step through all layers."""
    return sum(DENSE + _more(b) for b in blocks)


def _more(b: Block) -> int:
    experts = any(isinstance(f, Experts) for f in b.feeds)
    latent = any(isinstance(m, Latent) for m in b.mixers)
    return MIXTURE * experts + LATENT * latent


def graphs(captures: Sequence[int], sequences: int, length: int, *, full: bool) -> int:
    """Captured in all: pieces count as one."""
    decoding = sum(1 for n in captures if n <= sequences * length) if full else 0
    return len(captures) + decoding


def estimate(blocks: Sequence[Block], count: int, pool: int) -> Bytes:
    nodes = kernels(blocks) * count
    return Bytes(*(pool + nodes * b for b in KERNEL)) if count else Bytes(0, 0, 0)

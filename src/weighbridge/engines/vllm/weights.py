"""What a rank's weights take once they are on the card: the engine's tensors (`shards.py`), with
what the allocator rounds them up by, replayed tensor by tensor in the order of the layers.

    allocated   since 512 bytes and remainders of up to 1 MiB belong to a tensor
    reserved    whole segments: what the driver has given
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from weighbridge.accelerators.budget import Budget
from weighbridge.allocator.filling import filled
from weighbridge.allocator.options import DEFAULT, AllocatorOptions
from weighbridge.arch.mixers import Latent, Recurrent
from weighbridge.components.kv_cache import mixers
from weighbridge.components.weights import PlacedTensor, total
from weighbridge.dtypes import FLOAT32
from weighbridge.engines.interface import Subject
from weighbridge.engines.parallel.spread import SpreadArgs
from weighbridge.engines.servers import shards
from weighbridge.engines.vllm import hardware
from weighbridge.engines.vllm.rules import Arrives
from weighbridge.engines.vllm.setting import VllmLaunch
from weighbridge.engines.vllm.spread import spread as spread_by
from weighbridge.memory import Bytes
from weighbridge.units import MIB

MXFP4 = "mxfp4"
UNSPLIT = AllocatorOptions(max_split_size_mb=20)
INTERLEAVED = 3  # layers that are there at once, where files mix their tensors
LATENT_BUFFER = 128 * MIB  # v1/attention/backends/mla/: made when the module is imported
OWN_BUFFERS = (9, 10)  # compute capabilities (major) of those kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWeights:
    """Bytes of one rank."""

    weights: int
    buffers: int
    allocated: int
    reserved: int
    offloaded: int  # to host memory


def ranks(subject: Subject, launch: VllmLaunch, budget: Budget | None) -> tuple[shards.Rank, ...]:
    return shards.ranks(subject, rules=spread(launch), **sizes(launch, budget))


def spread(launch: VllmLaunch) -> shards.SplitRules:
    return spread_by(launch.rules.version, eager=launch.eager, towers=not launch.language_only)


def imported(subject: Subject, launch: VllmLaunch, budget: Budget | None) -> int:
    """Bytes that choosing the kernels of latent attention takes: every module that is tried makes
    its buffer. On Kimi-VL-A3B and DeepSeek-V2-Lite 128 MiB were read, on one rank and on two."""
    if not any(isinstance(m, Latent) for m in mixers(subject.layers)):
        return 0
    return LATENT_BUFFER * launch.rules.latent_buffers[not hardware.blackwell(budget)]


def sizes(launch: VllmLaunch, budget: Budget | None) -> SpreadArgs:
    """Return how the model is spread, as `engines/parallel` takes it."""
    return {
        "tensor": launch.tensor,
        "pipeline": launch.pipeline,
        "data": launch.data,
        "expert_parallel": launch.expert_parallel,
        "capability": hardware.capability(budget)[0],
    }


def keeps_workspace(subject: Subject, budget: Budget | None) -> bool:
    """Tell whether the experts' kernel takes its buffers from the workspace that is never freed.
    The Triton and TensorRT-LLM kernels for MXFP4 make their own (oracle/mxfp4.py)."""
    scheme = subject.choice.scheme
    if scheme is None or scheme.name != MXFP4:
        return True
    return hardware.capability(budget)[0] not in OWN_BUFFERS


def loaded(rank: shards.Rank, launch: VllmLaunch, extra: Iterable[int]) -> RankWeights:
    """`extra` are further tensors: of a draft model, of slots for adapters, buffers of kernels."""
    attention = sum(not isinstance(m, Recurrent) for m in mixers(rank.layers))
    scales = (FLOAT32.size(1),) * (launch.rules.scales * attention)
    sizes = (*(t.nbytes for t in rank.tensors), *extra, *scales)
    allocated, reserved = _replay(sizes, unsplit=launch.rules.unsplit)
    weights = total(rank.tensors, "weights")
    offloaded = min(launch.offload, total(of_layers(rank), "weights"))
    return RankWeights(
        weights=weights - offloaded,
        buffers=total(rank.tensors, "buffers") + sum(scales),
        allocated=allocated - offloaded,
        reserved=reserved - offloaded,
        offloaded=offloaded,
    )


def of_layers(rank: shards.Rank) -> tuple[PlacedTensor, ...]:
    """Tensors of numbered layers: what offloading takes (model_executor/models/utils.py,
    make_layers)."""
    return tuple(t for t in rank.tensors if any(p.isdigit() for p in t.module.split(".")))


@lru_cache(maxsize=64)
def _replay(sizes: tuple[int, ...], *, unsplit: bool) -> tuple[int, int]:
    filling = filled(sizes, UNSPLIT if unsplit else DEFAULT)
    return filling.allocated, filling.reserved


def _whole(packed: int, whole: int, layer: int) -> Bytes:
    saved = max(0, whole - packed)
    return Bytes(saved, saved, saved + layer)


def _both(packed: int, whole: int, _: int) -> Bytes:
    saved = max(0, whole - packed)
    return Bytes(saved, 2 * saved, whole)


def _between(packed: int, whole: int, layer: int) -> Bytes:
    return Bytes(0, min(max(0, whole - packed), layer), whole)


def _streamed(packed: int, whole: int, layer: int) -> Bytes:
    saved = max(0, whole - packed)
    return Bytes(0, min(saved, layer), min(saved, INTERLEAVED * layer))


# Bytes of 16-bit weights that are there at once, of (packed, whole, one layer's)
AT_ONCE: Mapping[Arrives, Callable[[int, int, int], Bytes]] = {
    "whole": _whole,
    "both": _both,
    "between": _between,
    "streamed": _streamed,
}

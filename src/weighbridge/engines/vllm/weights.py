"""What a rank's weights take once they are on the card: the engine's tensors (`shards.py`), with
what the allocator rounds them up by, replayed tensor by tensor in the order of the layers.

    allocated   since 512 bytes and remainders of up to 1 MiB belong to a tensor
    reserved    whole segments: what the driver has given
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

from weighbridge.accelerators.budget import Budget
from weighbridge.allocator import Allocator
from weighbridge.components.weights import total
from weighbridge.engines import shards
from weighbridge.engines.parallel.spread import Sizes
from weighbridge.engines.serving import Subject
from weighbridge.engines.vllm import hardware
from weighbridge.engines.vllm.rules import Version
from weighbridge.engines.vllm.setting import Launch

MXFP4 = "mxfp4"
OWN_BUFFERS = (9, 10)  # compute capabilities (major) of those kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Bytes of one rank."""

    weights: int
    buffers: int
    allocated: int
    reserved: int
    offloaded: int  # to host memory


def ranks(subject: Subject, at: Launch, budget: Budget | None) -> tuple[shards.Rank, ...]:
    return shards.ranks(subject, rules=spread(at.rules.version), **sizes(at, budget))


@cache
def spread(version: Version) -> shards.Rules:
    """The same object each time: what `shards` keeps is found again by it."""
    return shards.rules("vllm", version)


def sizes(at: Launch, budget: Budget | None) -> Sizes:
    """How the model is spread, as `engines/parallel` takes it."""
    return {
        "tensor": at.tensor,
        "pipeline": at.pipeline,
        "data": at.data,
        "expert_parallel": at.expert_parallel,
        "capability": int(hardware.capability(budget)),
    }


def keeps_workspace(subject: Subject, budget: Budget | None) -> bool:
    """Whether the experts' kernel takes its buffers from the workspace that is never freed. The
    Triton and TensorRT-LLM kernels for MXFP4 make their own (oracle/mxfp4.py)."""
    scheme = subject.choice.scheme
    if scheme is None or scheme.name != MXFP4:
        return True
    return int(hardware.capability(budget)) not in OWN_BUFFERS


def loaded(rank: shards.Rank, at: Launch, extra: Iterable[int]) -> Loaded:
    """`extra` are further tensors: of a draft model, of slots for adapters."""
    allocated, reserved = _replay((*(t.nbytes for t in rank.tensors), *extra))
    weights = total(rank.tensors, "weights")
    offloaded = min(at.offload, weights)
    return Loaded(
        weights=weights - offloaded,
        buffers=total(rank.tensors, "buffers"),
        allocated=allocated - offloaded,
        reserved=reserved - offloaded,
        offloaded=offloaded,
    )


@lru_cache(maxsize=64)
def _replay(sizes: tuple[int, ...]) -> tuple[int, int]:
    allocator = Allocator()
    for nbytes in sizes:
        allocator.malloc(nbytes)
    return allocator.allocated, allocator.reserved

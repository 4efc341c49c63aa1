"""What each device holds of a model that vLLM or SGLang spreads over several.

    ranks(subject, tensor=8) -> one Rank a device, in the order data, pipeline, tensor
"""

from dataclasses import dataclass

from weighbridge.arch.body import Block
from weighbridge.arch.mixers import Layer
from weighbridge.components.weights import Placed
from weighbridge.engines.serving import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One device. `layers` and `blocks` are its share of the subject's, under pipelining."""

    data: int
    pipeline: int
    tensor: int
    tensors: tuple[Placed, ...]
    layers: tuple[Layer, ...]
    blocks: tuple[Block, ...]
    first: bool  # embeds tokens
    last: bool  # makes logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How an engine splits."""

    name: str
    version: tuple[int, ...]


VLLM = Rules(name="vllm", version=(0, 33))
SGLANG = Rules(name="sglang", version=(0, 5, 23))


def ranks(
    subject: Subject,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    data: int = 1,
    expert_parallel: bool = False,
    rules: Rules = VLLM,
) -> tuple[Rank, ...]:
    """Raises UsageError for sizes that the model's heads or widths do not divide by."""
    tensors = tuple(t._replace(nbytes=-(-t.nbytes // tensor)) for t in subject.tensors)
    bounds = [len(subject.layers) * i // pipeline for i in range(pipeline + 1)]
    return tuple(
        Rank(
            data=d,
            pipeline=p,
            tensor=t,
            tensors=tensors,
            layers=subject.layers[bounds[p] : bounds[p + 1]],
            blocks=subject.body.blocks[bounds[p] : bounds[p + 1]],
            first=p == 0,
            last=p == pipeline - 1,
        )
        for d in range(data)
        for p in range(pipeline)
        for t in range(tensor)
    )

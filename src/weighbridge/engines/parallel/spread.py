"""Over how many devices a model is spread, and in which ways."""

from dataclasses import dataclass
from typing import TypedDict

from weighbridge.engines.parallel.experts import ExpertGroup
from weighbridge.engines.parallel.rules import SplitRules
from weighbridge.errors import UsageError


class SpreadArgs(TypedDict, total=False):
    """`Spread` as keyword arguments."""

    tensor: int
    pipeline: int
    data: int
    expert_parallel: bool
    partition: tuple[int, ...]
    capability: int
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """`partition`: layers of each stage, where they are given; `capability`: the major number of
    the device's, which decides how MXFP4 lies in memory; `groups`: of the tensor ranks, each with
    the whole of attention and requests of its own (SGLang's data-parallel attention)."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert_parallel: bool = False
    partition: tuple[int, ...] = ()
    capability: int = 9
    groups: int = 1

    def __post_init__(self) -> None:
        least = min(self.tensor, self.pipeline, self.data)
        if least < 1:
            raise UsageError(f"parallel sizes must be at least 1, not {least}")
        if self.tensor % self.groups:
            raise UsageError(
                f"{self.groups} groups of attention do not share {self.tensor} tensor ranks evenly"
            )

    @property
    def attention(self) -> int:
        """Ranks that share attention."""
        return self.tensor // self.groups

    @property
    def tokens_shared(self) -> bool:
        """Tell whether ranks of a tensor group take tokens of their own to the experts: vllm
        config/parallel.py (use_sequence_parallel_moe)."""
        return self.expert_parallel and self.tensor > 1 and self.data > 1

    def group(self, rules: SplitRules) -> ExpertGroup:
        """The ranks that share the experts."""
        ranks = self.tensor * (self.data if rules.replicas_share else 1)
        kernel = rules.kernel(self.capability)
        if self.expert_parallel:
            return ExpertGroup(number=ranks, kernel=kernel)
        return ExpertGroup(width=ranks, kernel=kernel)

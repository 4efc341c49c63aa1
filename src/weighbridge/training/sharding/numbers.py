"""How many ranks of each kind there are.

ranks = data x tensor x pipeline x context        expert ranks are among the data-parallel ones
"""

from dataclasses import dataclass

from weighbridge.errors import UsageError
from weighbridge.settings import FSDP, Train
from weighbridge.units import ceil_div

RANKS = 1 << 16
NODE = 8  # devices of one node, within which HSDP shares out


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """`kind`: what the data-parallel ranks share out."""

    kind: str = "none"  # none, ddp, zero1, zero2, zero3, fsdp1, fsdp2, hsdp
    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    offload: str = "none"

    @property
    def fully(self) -> bool:
        """Whether parameters, gradients and states are in parts by FSDP."""
        return self.kind in FSDP

    @property
    def parameters(self) -> bool:
        """Whether parameters are in parts, by FSDP or by ZeRO."""
        return self.fully or self.kind == "zero3"

    @property
    def ranks(self) -> int:
        return self.data * self.tensor * self.pipeline * self.context

    @property
    def shares(self) -> int:
        """Ranks among which parameters, gradients or states are shared out. Ranks of a sequence
        hold the same and count."""
        among = self.data * self.context
        return min(NODE, among) if self.kind == "hsdp" else among


def sharding(w: Train, count: int | None, spreads: str = "ddp") -> Sharding:
    """`count` devices, None where none were named; `spreads`: what several share out where nobody
    says. Raises UsageError for contradictions."""
    model = (w.tensor_parallel_size or 1) * (w.pipeline_parallel_size or 1)
    model *= w.context_parallel_size or 1
    count = count or model
    if w.data_parallel_size is None and count % model:
        raise UsageError(f"{count} devices are no multiple of {model}, which share a model")
    data = w.data_parallel_size or max(1, count // model)
    found = Sharding(
        kind=w.shard or (spreads if _shares(w, data, spreads) else "none"),
        data=data,
        tensor=w.tensor_parallel_size or 1,
        pipeline=w.pipeline_parallel_size or 1,
        context=w.context_parallel_size or 1,
        expert=w.expert_parallel_size or 1,
        offload=w.offload or "none",
    )
    for wrong, why in _contradictions(found):
        if wrong:
            raise UsageError(why)
    return found


def _shares(w: Train, data: int, spreads: str) -> bool:
    """Whether there are ranks that share: those of one sequence do, too, but do not replicate."""
    return data > 1 or (spreads in FSDP and (w.context_parallel_size or 1) > 1)


def _contradictions(s: Sharding) -> tuple[tuple[bool, str], ...]:
    stage = s.kind.startswith("zero")
    return (
        (
            s.ranks > RANKS,
            f"{s.ranks:,} ranks: {RANKS:,} are weighed at most; name fewer",
        ),
        (
            s.kind == "none" and s.data > 1,
            (
                f"--shard none with {s.data} data-parallel ranks: {s.data} unsharded runs are "
                "independent; use --shard ddp, or ask for one GPU"
            ),
        ),
        (
            s.pipeline > 1 and s.kind in ("zero2", "zero3"),
            (
                f"--shard {s.kind} with --pipeline-parallel-size {s.pipeline}: DeepSpeed's "
                "pipelines take ZeRO stage 1 at most; use zero1 or fsdp2"
            ),
        ),
        (
            s.offload in ("params", "nvme") and not s.parameters,
            (
                f"--offload {s.offload} needs --shard zero3, fsdp1 or fsdp2: others keep all "
                "parameters on the device"
            ),
        ),
        (
            s.offload == "optimizer" and s.fully,
            (
                f"--offload optimizer with --shard {s.kind}: FSDP keeps parameters, gradients and "
                "states in one place; use --offload params, or zero2"
            ),
        ),
        (
            s.offload == "optimizer" and not stage,
            "--offload optimizer needs --shard zero1, zero2 or zero3",
        ),
        (s.offload == "nvme" and not stage, "--offload nvme is DeepSpeed's: use --shard zero3"),
        (
            s.expert > s.data * s.context * s.tensor,
            (
                f"--expert-parallel-size {s.expert} is more than the "
                f"{s.data * s.context * s.tensor} ranks that have the same layers"
            ),
        ),
        (
            s.data * s.context * s.tensor % s.expert > 0,
            (
                f"--expert-parallel-size {s.expert} does not divide the "
                f"{s.data * s.context * s.tensor} ranks that have the same layers"
            ),
        ),
    )


def share(rows: int, ranks: int) -> int:
    """Rows of the first rank, which has the largest part."""
    return ceil_div(rows, ranks)

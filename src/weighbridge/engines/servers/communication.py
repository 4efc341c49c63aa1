"""Communication memory between ranks: buffers of NCCL and of the engines' own collectives.

    NCCL              a communicator per group, by channels and links (kernels/nccl.py); on Hopper
                      and newer an interval around published readings, which have more: workspaces
                      of all-reduces fused with the next op (FlashInfer's, sm_90 and newer)
    custom reduce     two buffers of at most 8 MiB per rank outside the allocator (one of 16 MiB in
                      vLLM 0.33, which also scatters), 8 MiB of tables inside it
    symmetric memory  one buffer, by compute capability and number of ranks
    all-to-all        of experts, with data-parallel attention: one communicator more

Readings of what a card loses to tensor-parallel groups, beyond a single card's: 1.82, 1.82, 1.82,
1.84 GiB at two H100, 1.92 and 1.96 at four (vLLM 0.19: Mixtral-8x7B, gpt-oss-20b, Kimi-VL-A3B,
Kimi-Dev-72B, Llama-4-Scout; jgchn/llm-d-planner), 1.79 at two (vLLM 0.6.5); up to 0.2 at two RTX
3090, which have no switch between them. In SGLang beyond a single card's: 1.40 at four H100
(vllm-project/vllm issue 21348), 0.25 at four L4 (0.4.3), 0.53 at two RTX 3090 (0.5.12).

Source: vllm 0.33 and 0.19 distributed/device_communicators/{custom_all_reduce,all_reduce_utils,
symm_mem,cuda_communicator}.py; sglang 0.5.23 srt/distributed/device_communicators/.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Unpack

from weighbridge.base.memory import Bytes, Component, exactly
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.units import MIB
from weighbridge.engines.parallel.rules import Spread, SpreadArgs
from weighbridge.machines.accelerators.chips import LINKED, SWITCHED, Links
from weighbridge.machines.accelerators.parts import Link
from weighbridge.machines.accelerators.seen import Card, fact
from weighbridge.machines.kernels.nccl import communicator
from weighbridge.models.arch.body import Body, Experts

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part

HOPPER = (9, 0)
MiB = tuple[int, int, int]  # low, expected, high


@frozen_record
class Collectives:
    """The collectives of a release. Triples are MiB: low, expected and high."""

    engine: str
    # of a tensor-parallel group on cards with a switch, by ranks; and on cards without
    switched: Mapping[int, MiB]
    plain: MiB
    groups: int = 1  # communicators opened after the first free-memory snapshot
    most: MiB | None = None  # a bound on both
    scatter: int = 0  # least bytes of the second buffer, used to scatter
    always_experts: bool = False  # data-parallel replicas always communicate for experts
    symmetric: bool = False  # larger all-reduces use symmetric memory


BETWEEN_STAGES = (40, 200, 900)  # MiB between pipeline stages: only sends and receives
ALL_TO_ALL = (100, 500, 2300)

REDUCE = 8 * MIB
TABLES = 8 * MIB
SUPPORTED = (2, 4, 6, 8)  # ranks of the custom all-reduce
# Buffers of the custom all-reduce if symmetric memory serves larger ones.
BESIDE_SYMMETRIC = {
    (9, 0): {2: 64 * MIB, 4: 32 * MIB, 6: MIB // 2, 8: MIB // 4},
    (10, 0): {2: 2 * MIB, 4: 2 * MIB, 6: MIB, 8: MIB},
}
SYMMETRIC = {
    (9, 0): {2: 64 * MIB, 4: 32 * MIB, 6: 64 * MIB, 8: 64 * MIB},
    (10, 0): {2: 8 * MIB, 4: 32 * MIB, 6: 128 * MIB, 8: 128 * MIB},
    (10, 3): {2: 4 * MIB, 4: 32 * MIB, 6: 32 * MIB, 8: 64 * MIB},
}


RECEIVED = "received from the stage before"


def communication(
    by: Collectives,
    *,
    body: Body | None = None,
    budget: Card = None,
    **sizes: Unpack[SpreadArgs],
) -> tuple[Component, ...]:
    """Return the communication buffers on one device: none for a single device, nor for replicas of
    a dense model."""
    over = Spread(**sizes)
    components: list[Component] = []
    if over.tensor > 1:
        wires = _wires(budget)
        tensor = _tensor_group(by, over.tensor, wires)
        components.append(_nccl(_least(tensor, by.most or tensor), "tensor"))
        components += _custom(by, over.tensor, wires.capability if wires else None)
    if over.pipeline > 1:
        components.append(_nccl(BETWEEN_STAGES, PIPELINE))
    sparse = body is not None and any(isinstance(f, Experts) for b in body.blocks for f in b.feeds)
    if sparse and over.data > 1 and (over.expert_parallel or by.always_experts):
        components.append(_nccl(ALL_TO_ALL, "experts"))
    return tuple(components)


def received(tokens: int, hidden: int, itemsize: int = 2) -> Component:
    """Return the buffers in which a later pipeline stage receives hidden states and residuals."""
    return Component(
        name="workspaces",
        detail=RECEIVED,
        bytes=exactly(2 * tokens * hidden * itemsize),
        basis="computed",
        formula=f"2 x {tokens:,} tokens x {hidden:,} x {itemsize} bytes",
        source="make_empty_intermediate_tensors of vllm model_executor/models/*.py",
    )


class Wires(NamedTuple):
    """How cards of a kind are connected, and their compute capability."""

    capability: tuple[int, int] | None
    nvlink: Link | None


@fact
def _wires(budget: "Budget | None") -> Wires | None:
    part = budget.choice.part if budget else None
    return None if part is None else Wires(part.capability, part.nvlink)


def linked(part: "Part | Wires", *, lazy: bool = True) -> Bytes:
    """Return the bytes of one NCCL communicator on cards of that kind. Both servers' releases that
    we read have torch 2.7 or newer, or SGLang's older ones."""
    sharp = (part.capability or (0, 0)) >= HOPPER
    links: Links = "bridge" if part.nvlink == "direct" else part.nvlink or ""
    return communicator(links, lazy=lazy, sharp=sharp)


def _tensor_group(by: Collectives, ranks: int, part: Wires | None) -> MiB:
    """Return the MiB of a tensor-parallel group: published readings for cards with switches of
    Hopper or newer, or without links; else by NCCL's channels. An unnamed card may be any."""
    switched, plain = by.switched, by.plain
    capability = part.capability if part else None
    size = next((n for n in switched if ranks <= n), max(switched))
    low, expected, high = switched[size]
    if capability in SWITCHED:
        return low, expected, high
    if part is None:
        return plain[0], expected, high
    if part.nvlink is None:
        return plain
    by_channels = linked(part)
    low, expected, high = (by.groups * n // MIB for n in by_channels)
    return low, expected, high


def _least(one: MiB, other: MiB) -> MiB:
    low, expected, high = map(min, one, other)
    return low, expected, high


def _named(group: str) -> str:
    return f"NCCL, {group} group"


PIPELINE = "pipeline"
STAGES = _named(PIPELINE)  # name of the component between stages


def _nccl(mib: MiB, group: str) -> Component:
    low, expected, high = (n * MIB for n in mib)
    return Component(
        name="communication",
        detail=_named(group),
        bytes=Bytes(low, expected, high),
        basis="assumed",
        formula="readings are 0.2 to 1.96 GiB" if group == "tensor" else "no reading",
        source="start-up logs of vLLM and SGLang; NCCL decides by links and channels",
    )


def _custom(by: Collectives, ranks: int, capability: tuple[int, int] | None) -> Iterator[Component]:
    """Yield the engine's custom all-reduce. More than two cards without a switch do not use it."""
    if ranks not in SUPPORTED or (ranks > 2 and capability not in {*LINKED, None}):
        return
    source = f"{by.engine} distributed/device_communicators/custom_all_reduce.py"
    size = _buffer(by, ranks, capability)
    second = max(size, by.scatter)
    yield Component(
        name="communication",
        detail="custom all-reduce",
        bytes=exactly(size + second),
        basis="computed",
        formula=f"buffers of {size // 1024:,} and {second // 1024:,} KiB",
        source=source,
    )
    yield Component(
        name="workspaces",
        detail="custom all-reduce",
        bytes=exactly(TABLES),
        basis="computed",
        formula="8 MiB of addresses of registered buffers",
        source=source,
    )
    sizes = SYMMETRIC.get(capability, {}) if capability and by.symmetric else {}
    symmetric = sizes.get(ranks)
    if symmetric:
        yield Component(
            name="communication",
            detail="symmetric memory",
            bytes=exactly(symmetric),
            basis="computed",
            formula=f"{symmetric // MIB} MiB for {ranks} ranks on this compute capability",
            source=f"{by.engine} distributed/device_communicators/symm_mem.py",
        )


def _buffer(by: Collectives, ranks: int, capability: tuple[int, int] | None) -> int:
    limits = BESIDE_SYMMETRIC.get(capability, {}) if capability and by.symmetric else {}
    return min(REDUCE, limits.get(ranks, REDUCE))

"""Costs of parallelism besides memory: what is recomputed, what waits, and what is sent.

    again     FLOPs that are recomputed, as a share of a step's: a forward is a third;
              torchtitan's selective checkpoints keep every second product (about half of it)
    bubble    time in which a stage of the pipeline waits: (stages - 1) / micro-batches of 1F1B (a
              half if parts take turns, a third if weights' gradients fill it), and for the
              stage that has most layers
    near      bytes that a device sends per step to others of its machine, of 8 devices
    far       and to other machines

    tensor    per half of a layer a gathering and a scattering in the forward, two and one in
              the backward, of its tokens
    context   keys and values of the other ranks' tokens, and their gradients; by Ulysses what
              the other ranks have of queries, keys, values and output, and of their gradients
    expert    each token to its experts and back, and the same in the backward
    pipeline  hidden states to the next stage, and their gradients back
    ddp, zero1        gradients and stepped parameters, once per step
    zero2             gradients of each micro-batch, stepped parameters once
    zero3, fsdp       parameters for the forward and for the backward, gradients of each micro-batch
    hsdp              the same within 8 devices, gradients among the others once per step

Everything is assumed to be sent in 16 bits. No seconds: the speed of cards and networks, and what
overlaps, are unknown. Ranks are adjacent in the order tensor, context, data, pipeline.
"""

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import ceil_div, coarse
from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.parts import Experts
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.training.sharding.schedule import WAITS

LOW = 2  # bytes per element that is sent: bfloat16
FORWARD = 1 / 3  # share of a step's FLOPs; the backward is twice that
AGAIN = {"full": FORWARD, "selective": FORWARD / 2}
GATHERS, SCATTERS = 3, 2  # of each half of a layer in a step: see above
HALVES = 2  # attention and MLP
EXCHANGES = 2  # of Ulysses per step: one in forward, one in backward


FINE = 200  # differences in work below 1 / FINE of a step are ignored


class LayoutCost(NamedTuple):
    """Cost of a layout. `again` and `bubble` are shares of a step's FLOPs and of its time; `near`
    and `far` are bytes sent within a machine and beyond."""

    again: float
    bubble: float
    near: int
    far: int

    @property
    def work(self) -> float:
        """Return the slowest device's time per step, relative to its FLOPs without recomputing or
        waiting."""
        return (1 + self.again) * (1 + self.bubble)

    @property
    def price(self) -> tuple[float, int, int]:
        """Return the sort key (work, far, near), rounded to what is certain: half a percent of a
        step, and two digits of bytes."""
        return round(self.work * FINE) / FINE, coarse(self.far), coarse(self.near)


class SharedRun(NamedTuple):
    """A run on several ranks. `tokens` are those of one micro-batch on one device, `steps` the
    micro-batches per step; `dense` and `experts` count parameters; `keys` counts elements of keys
    and values per token and layer."""

    sharding: Sharding
    body: Body
    tokens: int
    steps: int
    dense: int
    experts: int
    keys: int
    checkpointing: str = "none"


def cost(run: SharedRun) -> LayoutCost:
    """Return the cost of a run: that of its longest pipeline stage."""
    stages, layers = run.sharding.pipeline, len(run.body.blocks)
    uneven = max(run.sharding.layers) * stages / layers if layers else 1.0
    waits = WAITS.get(run.sharding.schedule, 1.0)
    sent = _sent(run)
    near = sum(nbytes for span, nbytes in sent if span <= MACHINE)
    return LayoutCost(
        again=AGAIN.get(run.checkpointing, 0.0),
        bubble=uneven * (1 + waits * (stages - 1) / run.steps) - 1,
        near=near,
        far=sum(nbytes for _, nbytes in sent) - near,
    )


def others(nbytes: int, ranks: int) -> int:
    """Return how many of `nbytes`, sharded over `ranks`, are on the other ranks."""
    return nbytes * (ranks - 1) // ranks


def _sent(run: SharedRun) -> list[tuple[int, int]]:
    """Return (devices per group, bytes that each sends per step) for each group of ranks."""
    by = run.sharding
    tokens, layers = run.tokens * run.steps, max(by.layers)
    wide = LOW * tokens * run.body.hidden
    again = 2 if run.checkpointing == "full" else 0
    out = list(_states(run))
    if by.tensor > 1:
        passes = GATHERS + SCATTERS + again
        out.append((by.span("tensor"), layers * HALVES * passes * others(wide, by.tensor)))
    if by.context > 1:
        keys = LOW * tokens * run.keys // by.tensor
        whole = 2 * wide // by.tensor + keys  # queries and the output, too
        exchanged = EXCHANGES * others(whole, by.context)
        ring = 3 * keys * (by.context - 1)
        out.append(
            (by.span("context"), layers * (exchanged if by.context_by == "ulysses" else ring))
        )
    if by.pipeline > 1:
        out.append((by.span("pipeline"), 2 * wide // by.tensor))
    if by.expert > 1:
        tops = [f.top_k for b in run.body.blocks for f in b.feeds if isinstance(f, Experts)]
        routed = ceil_div(len(tops), by.pipeline) * max(tops, default=0)
        span = by.expert * (1 if by.whole_experts else by.tensor)
        out.append((span, routed * 4 * others(wide // by.tensor, by.expert)))
    return out


def _states(run: SharedRun) -> list[tuple[int, int]]:
    """Return (devices per group, bytes that each sends per step) for the parameters and gradients
    that data-parallel ranks exchange."""
    by, steps = run.sharding, run.steps
    ranks = by.among
    if by.kind == "none" or ranks == 1:
        return []
    shares = by.shares
    held = LOW * run.dense // (by.tensor * by.pipeline)
    each = others(held, shares)
    own = LOW * run.experts // (by.pipeline * by.expert * by.expert_width)
    each += others(own, by.expert_shares)
    passes = {"ddp": 2, "zero1": 2, "zero2": 1 + steps}.get(by.kind, 3 * steps)
    out = [(by.tensor * shares, passes * each)]
    if by.kind == "hsdp" and ranks > shares:
        copies = ranks // shares
        out.append((by.tensor * ranks, 2 * others((held + own) // shares, copies)))
    return out

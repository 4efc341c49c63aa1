"""The run: load, then steps of forward, loss, backward and optimizer; the fullest moment of each.

Two steps are run: in the first the optimizer has no states before its end. Of an accumulation two
micro-batches are run, the second with the gradients of the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from weighbridge.allocator import OutOfMemoryError
from weighbridge.autograd.engine import TEMPORARIES, backward
from weighbridge.autograd.machine import Grads, Machine, Needs, record
from weighbridge.autograd.ops.pointwise import cast
from weighbridge.autograd.tensors import Tensor
from weighbridge.components.activations import Heap, Peak
from weighbridge.dtypes import FLOAT32
from weighbridge.engines.transformers.workspaces import cublas
from weighbridge.training.build import build, trainable
from weighbridge.training.losses import LOSSES
from weighbridge.training.nets import Net, net
from weighbridge.training.optimization import Optimization
from weighbridge.training.plan import Plan
from weighbridge.training.sharding.around import Around
from weighbridge.training.sharding.choice import surrounding
from weighbridge.training.step import Built, Step

STEPS = 2


@dataclass(slots=True, kw_only=True)
class Run:
    """`moments` by phase: the fullest of all steps; `first` of the first step alone."""

    known: bool  # whether the class's own program ran
    bounded: bool = False  # by the card: cached blocks went back to the driver where it was full
    moments: dict[str, Peak] = field(default_factory=dict)
    first: dict[str, Peak] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)  # by phase, at its last end
    trainable: int = 0
    parameters: int = 0  # of this rank, as they are held
    saved: int = 0  # bytes that the graph holds at the end of the first forward
    host: int = 0  # bytes of parameters and master copies in host memory
    elsewhere: dict[str, int] = field(default_factory=dict)  # states, by where they are

    def note(self, name: str, peak: Peak, *, first: bool) -> None:
        self.reserved[name] = peak.reserved
        if first:
            self.first.setdefault(name, peak)
        before = self.moments.get(name)
        if before is None or peak.allocated > before.allocated:
            self.moments[name] = peak


def run(p: Plan, capacity: int | None = None) -> Run:
    """`capacity` is what the allocator can have of the card. Where the run does not get through in
    it, it is run without an end."""
    if capacity is not None:
        try:
            found = _run(p, capacity)
        except OutOfMemoryError:
            return _run(p, None)
        found.bounded = True
        return found
    return _run(p, None)


def _run(p: Plan, capacity: int | None) -> Run:
    heap = Heap(capacity)
    m = Machine(heap)
    _workspaces(m, p)
    forward, known = net(p.subject.model_type)
    around = surrounding(p)
    built = build(m, p, around)
    around.placed(m, built)
    found = Run(known=known)
    found.trainable = sum(x.numel for x in trainable(built.params))
    found.parameters = sum(x.numel for x in built.params.values())
    offloaded = p.sharding.offload != "none"
    kept = Optimization(p.optimizer, around.stepped(built), offloaded=offloaded)
    if p.optimizer.early or around.early:
        kept.start(m)
    found.note("load", heap.phase(), first=True)
    s = _step(m, p, built, around)
    for number in range(STEPS):
        first = number == 0
        batches = min(2, p.accumulation)
        for batch in range(batches):
            _micro_batch(s, p, forward, found, first=first)
            around.after_backward(m, built, last=batch == batches - 1)
            found.note("backward", heap.phase(), first=first)
        around.before_step(m, built)
        if not p.optimizer.in_backward:
            kept.step(m)
        around.after_step(m, built)
        found.note("step", heap.phase(), first=first)
    found.elsewhere = kept.elsewhere
    found.host = around.host
    return found


def _step(m: Machine, p: Plan, built: Built, around: Around) -> Step:
    return Step(
        m=m,
        built=built,
        batch=p.batch,
        length=p.length,
        dtype=p.activations,
        kernel=p.attention,
        capability=p.capability,
        torch=p.torch,
        checkpointing=p.checkpointing,
        padded=p.padded,
        reentrant=p.reentrant,
        around=around,
    )


def _workspaces(m: Machine, p: Plan) -> None:
    found = cublas(p.capability, p.torch)
    if found.bytes.low:
        m.workspace = found.bytes.expected
    else:
        m.temporary_workspace = found.bytes.expected


def _micro_batch(s: Step, p: Plan, forward: Net, found: Run, *, first: bool) -> None:
    m, heap = s.m, s.m.heap

    def ends(name: str) -> None:
        found.note(name, heap.phase(), first=first)

    s.around.begins(m, s.built)
    with m.casting(p.autocast):
        hidden = _mark(m, forward(s), ends)
        ends("forward")
        loss, logits = LOSSES[p.loss](s, hidden)
    del hidden
    if p.framework.float_outputs and p.autocast is not None and logits is not None:
        with m.making("logits"):
            logits = cast(m, logits, FLOAT32)
    if not p.framework.outputs:
        logits = None
    if first and not found.saved:
        found.saved = heap.live("activations")
    backward(m, loss, name="logits")
    ends("backward")


def _mark(m: Machine, hidden: Tensor, ends: Callable[[str], None]) -> Tensor:
    """Where the gradient of the hidden states is there, the loss is over."""
    out = Tensor(hidden.shape, hidden.dtype, hidden.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        ends("loss")
        m.name = TEMPORARIES
        return [grads[0]]

    record(m, back, [hidden], [], out)
    return out

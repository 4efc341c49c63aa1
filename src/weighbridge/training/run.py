"""The run: load, then steps of forward, loss, backward and optimizer; the peak of each phase.

Two steps are run: in the first the optimizer has no states before its end.
"""

import gc
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple, dataclass, field, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.watching import go_on
from weighbridge.engines.transformers.workspaces import cublas
from weighbridge.machines.allocator import Allocator, OutOfMemoryError
from weighbridge.machines.kernels.workspaces import lasting
from weighbridge.memory.components.activations import Heap, LivePeak, TensorHeap, keep_fullest
from weighbridge.memory.components.counted import CountedHeap
from weighbridge.memory.components.recorded import HeapTape
from weighbridge.models.arch.model_types import differs
from weighbridge.training import packages
from weighbridge.training.build import build
from weighbridge.training.forward.alike import Alike
from weighbridge.training.forward.backward import TEMPORARIES, backward
from weighbridge.training.forward.limits import LAYERS, depth, unrepeated
from weighbridge.training.forward.machine import Grads, KernelFacts, Machine, Needs, record
from weighbridge.training.forward.modules import each_below
from weighbridge.training.forward.nets import EMBEDDINGS, TrainingProgram, program, towers
from weighbridge.training.forward.ops.packed import DEQUANTIZED
from weighbridge.training.forward.ops.pointwise import cast
from weighbridge.training.forward.parts.rotary import has_positions
from weighbridge.training.forward.prompts import KeyPrefix, Prompt
from weighbridge.training.forward.splice import Splices, UnlikeLayersError
from weighbridge.training.forward.step import Around, BuiltModel, TrainingStep
from weighbridge.training.forward.tensors import Computed, Tensor
from weighbridge.training.objective import ON_CARD, REFERENCE
from weighbridge.training.optimizers.row import Optimization
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.sharding.choice import surrounding
from weighbridge.training.sharding.numbers import share
from weighbridge.training.sharding.schedule import INTERLEAVED, in_flight, waiting
from weighbridge.training.stage_buffers import StageBuffers

STEPS = 2
# Memory sizes to try, as multiples of the most that tensors take: a run that does not fit is tried
# with each in turn if more is reserved than the last
LEAST = (1.02, 1.15)
ENDED = 4  # latest capacities whose runs are kept


@dataclass(slots=True, kw_only=True)
class TrainingRun:
    """Peaks of a run of one rank. `moments` holds the peak of each phase over all steps; `first`
    those of the first step."""

    program: TrainingProgram
    bounded: bool = False  # by the card: cached blocks went back to the driver if it was full
    moments: dict[str, LivePeak] = field(default_factory=dict)
    first: dict[str, LivePeak] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)  # by phase, at its last end
    trainable: int = 0
    largest: int = 0  # elements of the largest trained parameter
    saved: int = 0  # bytes saved for backward when the first backward begins
    flight: int = 1  # micro-batches in flight that hold them
    packed: int = 0  # elements of quantized linears: of all, and of the layer with most
    packed_in_layer: int = 0
    unsure: int = 0  # bytes that the optimizer may take besides, per parameter
    host: int = 0  # bytes of parameters and master copies in host memory
    pinned: int = 0  # the same with each tensor in a pinned block
    groups: tuple[int, ...] = ()  # elements of this rank's groups that ZeRO updates at once
    away: int = 0  # most bytes of activations in host memory
    waiting: int = 0  # micro-batches that still lack their weight gradients
    elsewhere: dict[str, int] = field(default_factory=dict)  # states, by where they are
    states: int = 0  # bytes of all optimizer states
    assumed: list[str] = field(default_factory=list)  # assumptions about the class
    kernels: KernelFacts = field(default_factory=KernelFacts)
    noted: list[tuple[str, bool]] = field(default_factory=list)  # phases, and whether of the first

    def note(self, name: str, peak: LivePeak, *, first: bool) -> None:
        go_on()
        self.noted.append((name, first))
        self.reserved[name] = peak.reserved
        if first:
            self.first.setdefault(name, peak)
        keep_fullest(self.moments, name, peak)


def run(
    plan: TrainingPlan, capacity: int | None = None, stage: int = 0, *, splices: bool = True
) -> TrainingRun:
    """Return the peaks of one rank of a stage. `capacity` is what the allocator can have of the
    card; when full, it returns cached blocks to the driver. If tensors alone take more, the run is
    that of the smallest card on which it completes, or of an unlimited one. `splices`: only few
    layers of each kind are traced, if the others repeat them."""
    return StageRuns(plan, stage, splices=splices).within(capacity)


def runs_of(plan: TrainingPlan) -> "tuple[StageRuns, ...]":
    """Return a run for each stage of a pipeline; none of them has run yet."""
    return tuple(StageRuns(plan, stage) for stage in range(plan.sharding.pipeline))


class WalkedRun(NamedTuple):
    """A traced run, with the tape of its allocations."""

    run: TrainingRun
    tape: HeapTape

    def again(self, plan: TrainingPlan, capacity: int | None) -> TrainingRun:
        """Return the run of `plan`, which differs only in the card, replayed from the tape; kernel
        rules must decide the same for both cards."""
        walked, on_card = self.run, self.run.kernels.on(plan.chip)
        made = replace(walked, kernels=on_card, moments={}, first={}, reserved={}, noted=[])
        told = self.tape.again(Heap(capacity, plan.allocator), on_card.size, [])
        live: list[int] = []
        noted = iter(walked.noted)
        for one in told:
            if isinstance(one, LivePeak):
                name, first = next(noted)
                made.note(name, one, first=first)
            else:
                live.append(one)
        made.saved = sum(live)
        return made


class StageRuns:
    """Runs of one rank of a stage at several memory capacities. The unlimited run is traced once:
    other capacities and cards replay the trace's allocations."""

    def __init__(self, plan: TrainingPlan, stage: int = 0, *, splices: bool = True) -> None:
        self._p, self._stage = plan, stage
        self._splices = splices
        self._walked: WalkedRun | None = None
        self._free: TrainingRun | None = None
        self._smallest: TrainingRun | None = None
        self._counted: TrainingRun | None = None
        self._ended: dict[int, TrainingRun | None] = {}  # by capacity; None: it does not complete

    def on(self, plan: TrainingPlan) -> "StageRuns | None":
        """Return this stage for a plan that differs only in the card, with the runs so far; None if
        that card's kernels take other bytes."""
        run = self._free or self._counted
        if run is None or not run.kernels.hold(plan.chip):
            return None
        if _workspace(plan) != _workspace(self._p):
            return None
        other = StageRuns(plan, self._stage, splices=self._splices)
        other._free, other._smallest = self._free, self._smallest
        other._counted, other._walked = self._counted, self._walked
        other._ended = self._ended
        return other

    def walked(self, plan: TrainingPlan) -> "StageRuns | None":
        """Return this stage with its trace, for a card whose kernels differ only in bytes; None if
        they differ in more, or without a trace."""
        if self._walked is None or not self._walked.run.kernels.decide(plan.chip):
            return None
        if [n > 0 for n in _workspace(plan)] != [n > 0 for n in _workspace(self._p)]:
            return None
        if _workspace(plan)[1] != _workspace(self._p)[1]:
            return None
        other = StageRuns(plan, self._stage, splices=self._splices)
        other._walked = self._walked
        return other

    def forget(self) -> None:
        """Drop the trace; results stay, but another card needs a new trace."""
        self._walked = None

    def within(self, capacity: int | None) -> TrainingRun:
        return self._repeated(lambda: self._bounded(capacity))

    def least(self) -> TrainingRun:
        """Return a lower bound of each peak in half the time: tensors are the same, but only their
        bytes are counted, without an allocator."""
        return self._repeated(self._counted_run)

    @property
    def counted(self) -> bool:
        """Return whether the lower bounds are known."""
        return self._counted is not None

    def _counted_run(self) -> TrainingRun:
        if self._counted is None:
            self._counted = self._run(None, counts=True)
        return self._counted

    def _repeated(self, runs: Callable[[], TrainingRun]) -> TrainingRun:
        """Return `runs()` with few layers of each kind traced; if the others do not repeat them,
        with all traced."""
        with _uncollected():
            try:
                return runs()
            except UnlikeLayersError:
                count = depth(self._p.subject.body)
                if count > LAYERS:
                    raise unrepeated(self._p.subject.model.reference, count) from None
                self._splices, self._free, self._smallest = False, None, None
                self._counted = self._walked = None
                self._ended = {}
                return runs()

    def _bounded(self, capacity: int | None) -> TrainingRun:
        if self._free is None:
            self._free = self._run(None)
        free_run = self._free
        if capacity is None:
            return free_run
        tensors = max(x.allocated for x in free_run.moments.values())
        if tensors > capacity:
            if self._smallest is None:
                self._smallest = self._least(free_run, tensors)
            return self._smallest
        if max(free_run.reserved.values()) > capacity:
            ended = self._completed_run(capacity)
            if ended is None:
                return free_run
            free_run = ended
        return replace(free_run, bounded=True)

    def _completed_run(self, capacity: int) -> TrainingRun | None:
        """Return the run within `capacity` bytes, cached; None if they are too few."""
        if capacity not in self._ended:
            for oldest in list(self._ended)[: 1 - ENDED]:
                del self._ended[oldest]
            try:
                self._ended[capacity] = self._run(capacity)
            except OutOfMemoryError:
                self._ended[capacity] = None
        return self._ended[capacity]

    def _least(self, result: TrainingRun, tensors: int) -> TrainingRun:
        """Return a run that does not fit, repeated on the smallest card on which it completes: an
        unlimited allocator caches more blocks than the card would need."""
        reserved = max(result.reserved.values())
        for times in LEAST:
            if reserved <= LEAST[-1] * tensors:
                break
            try:
                return replace(self._run(int(times * tensors)), bounded=True)
            except OutOfMemoryError:
                continue
        return result

    def _run(self, capacity: int | None, *, counts: bool = False) -> TrainingRun:
        if self._walked is not None and not counts:
            return self._walked.again(self._p, capacity)
        splices = Splices() if self._splices else None
        if capacity is not None:  # a walk that may not complete
            return _run(self._p, Heap(capacity, self._p.allocator), self._stage, splices)
        tape, options = HeapTape(), self._p.allocator
        heap = CountedHeap(tape.notes) if counts else Heap(None, options, tape.notes)
        run = _run(self._p, heap, self._stage, splices)
        if tape.short and Allocator(options).plain:  # only a plain one replays every tape
            self._walked = WalkedRun(run, tape)
        return run


@contextmanager
def _uncollected() -> Iterator[None]:
    """Disable the cyclic garbage collector: reference counts free all nodes and storages, so it
    finds nothing, but would scan them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _run(plan: TrainingPlan, heap: TensorHeap, stage: int, splices: Splices | None) -> TrainingRun:
    m = _machine(plan, heap)
    around = surrounding(plan)
    built = _built(m, plan, around, stage)
    go_on()
    around.placed(m, built)
    _allocate_frozen_models(m, plan, built)
    result = TrainingRun(program=_program(plan, built), kernels=m.kernels)
    trained = [x.numel for x in built.own if x.trainable]
    result.trainable, result.largest = sum(trained), max(trained, default=0)
    result.packed, result.packed_in_layer = _packed(built)
    optimization = Optimization(
        plan.optimizer,
        around.stepped(built),
        offloaded=plan.sharding.offload != "none",
        zeroes=plan.torch < (2, 0) or plan.framework.forgets_late,
        apart=around.apart,
    )
    if plan.optimizer.unsure is not None:
        result.unsure = max(map(plan.optimizer.unsure, optimization.params), default=0)
    if plan.optimizer.early or around.early:
        states = around.starting(m)
        optimization.start(m)
        del states
    result.note("load", m.heap.phase(), first=True)
    batches = Batches(_step(m, plan, built, around, splices), plan, result, stage)
    if plan.framework.forgets_late and plan.torch >= (2, 0):
        batches.forgets = optimization.forget
    for number in range(STEPS):
        batches.before(first=number == 0)
        batches.all(first=number == 0)
        around.before_step(m, built)
        if not plan.optimizer.in_backward:
            optimization.step(m)
        around.after_step(m, built)
        result.note("step", m.heap.phase(), first=number == 0)
        batches.after()
    if plan.evaluated:
        batches.evaluate(plan.evaluated)
    if around.saves:
        around.saving(m, built)
        result.note("save", m.heap.phase(), first=False)
    result.elsewhere, result.assumed = optimization.elsewhere, batches.s.assumed
    result.states = optimization.made
    result.host, result.pinned, result.away = around.host, around.pinned, m.most_away
    result.groups = around.groups
    result.flight, result.waiting = batches.in_flight, batches.waiting
    m.heap.close()
    return result


def _allocate_frozen_models(m: Machine, plan: TrainingPlan, built: BuiltModel) -> None:
    """Allocate what stays frozen besides the policy: the reference, sharded like it, and copies of
    the adapter."""
    objective = plan.objective
    if objective is None:
        return
    if objective.reference in ON_CARD:
        _allocate_copy(m, built, "weights", REFERENCE, parts=2 if objective.halved else 1)
    for _ in range(objective.adapters):
        _allocate_copy(m, built, "adapters", "adapters")


def _allocate_copy(m: Machine, built: BuiltModel, name: str, copy: str, parts: int = 1) -> None:
    """Allocate a copy named `copy` of component `name`, or one of `parts` equal parts of it, tensor
    by tensor if each has its own storage."""
    storages = {id(x.storage): x.storage for x in built.own if x.storage is not None}
    sizes = [x.nbytes for x in storages.values() if x.name == name]
    lacking = m.heap.live(name) - sum(sizes)
    every = [*sizes, lacking] if lacking > 0 else sizes
    m.heap.row([nbytes // parts for nbytes in every], copy)


def _machine(plan: TrainingPlan, heap: TensorHeap) -> Machine:
    m = Machine(heap)
    m.softmax_keeps = plan.torch < (1, 11)
    m.chip, m.installed = plan.chip, plan.installed
    m.workspace, m.temporary_workspace = _workspace(plan)
    if m.workspace:
        [m.workspace] = m.sizes(lasting, plan.torch)
    return m


def _packed(built: BuiltModel) -> tuple[int, int]:
    """Return (elements of all quantized parameters, those of the layer with most)."""
    lead = {layer.path for layer in built.layers}
    total, each = 0, Counter[str]()
    for path, x in zip(each_below(built.params, lead), built.params.values(), strict=True):
        if x.storage is None and not x.trainable:
            total += x.numel
            each[path] += x.numel
    each.pop("", None)
    return total, max(each.values(), default=0)


def _program(plan: TrainingPlan, built: BuiltModel) -> TrainingProgram:
    lead = {layer.path for layer in built.layers}
    paths = zip(built.params, each_below(built.params, lead), strict=True)
    names = [name.removeprefix(path) for name, path in paths if path]
    names.append(built.base.first(*EMBEDDINGS))
    kind, blocks = plan.subject.model_type, plan.subject.body.blocks
    known = program(kind, blocks, names, plan.loss, framework=plan.framework.name)
    said = packages.older(plan.version) if plan.installed else ""
    return replace(known, low=min(known.low, packages.UNREAD), said=said) if said else known


def _built(m: Machine, plan: TrainingPlan, around: Around, stage: int) -> BuiltModel:
    """Return the class in memory for a stage; LitGPT has its own classes, with other module
    names."""
    if plan.framework.name == "litgpt":
        from weighbridge.training import litgpt

        return litgpt.build(m, plan, around)
    return build(m, plan, around, stage)


def _step(
    m: Machine, plan: TrainingPlan, built: BuiltModel, around: Around, splices: Splices | None
) -> TrainingStep:
    s = TrainingStep(
        m=m,
        built=built,
        batch=plan.batch,
        length=share(plan.length, plan.sharding.context)
        + (built.prompt.tokens if isinstance(built.prompt, Prompt) else 0),
        dtype=plan.activations,
        stream=plan.stream,
        kernel=plan.attention,
        torch=plan.torch,
        checkpointing=plan.checkpointing,
        padded=plan.padded,
        reentrant=plan.reentrant,
        release=plan.release,
        transformers=plan.version,
        patch=plan.patch,
        compiled=plan.compiled,
        token_ranks=plan.sharding.tensor if plan.framework.shares_tokens else 1,
        image_size=plan.image_size,
        sequence_ranks=plan.sharding.context,
        sequence_by=plan.sharding.context_by,
        answer=0 if plan.objective is None else plan.objective.answer,
        items={} if differs(plan.subject.model_type, "own_items") else dict(plan.items),
        around=around,
    )
    if splices is not None and s.prefix is None:
        s.alike = Alike(built, lambda number: has_positions(s, number), splices)
    return s


def _workspace(plan: TrainingPlan) -> tuple[int, int]:
    """Return the bytes of cuBLAS's workspace: (lasting, temporary)."""
    if plan.part is not None and plan.part.stack == "own":
        return 0, 0
    nbytes = cublas(plan.chip.capability, plan.torch).bytes
    return (nbytes.expected, 0) if nbytes.low else (0, nbytes.expected)


class Batches:
    """The micro-batches of a step. With accumulation only few are run, and the rest repeat them. A
    pipeline stage has several in flight (sharding/schedule.py)."""

    def __init__(
        self, s: TrainingStep, plan: TrainingPlan, result: TrainingRun, stage: int
    ) -> None:
        self.s = s
        self.p = plan
        self.program = result.program
        self.result = result
        self.first = False
        self.first_stage = stage == 0
        self.last_stage = stage == plan.sharding.pipeline - 1
        self.forgets: Callable[[], None] | None = None  # frees gradients, after the first forward
        self.in_flight = in_flight(plan.sharding, plan.accumulation, stage)
        self.waiting = waiting(plan.sharding, plan.accumulation, stage)
        # If parts of the model take turns, the last one's loss runs right before its backward
        self.late = self.last_stage and plan.sharding.schedule == INTERLEAVED
        self.count = _count(plan, s.around, self.in_flight)
        self.buffers = StageBuffers(s, plan, stage, self.count)
        self.kept: list[Tensor] = []  # held by the loop's variables until the next forward has run

    def all(self, *, first: bool) -> None:
        self.first = first
        self.buffers.begins()
        ends: deque[Tensor] = deque()
        for number in range(self.count):
            ends.append(self._forward())
            if self.forgets is not None and number == 0:
                self.forgets()
            if len(ends) == self.in_flight:
                self._backward(ends.popleft(), last=number == self.count - 1)
        while ends:
            self._backward(ends.popleft(), last=len(ends) == 0)
        self.buffers.ends()

    def before(self, *, first: bool) -> None:
        """Run the forwards without gradients that come before the step's own (log-probabilities,
        reference)."""
        self.first = first
        objective = self.p.objective
        if objective is None:
            return
        for name in objective.before:
            rows, tokens = objective.quiet or self.p.batch, objective.length
            self._quiet(name, rows, objective.head.quiet, tokens if objective.quiet else 0)
            if objective.empties:
                self.s.m.heap.emptied(anew=True)

    def after(self) -> None:
        """Empty the allocator's cache, if the framework does so."""
        if self.p.objective is not None and self.p.objective.empties:
            self.s.m.heap.emptied(anew=True)

    def evaluate(self, sequences: int) -> None:
        self._quiet("evaluation", sequences, self.program.loss)

    def _quiet(
        self,
        name: str,
        rows: int,
        head: Callable[[TrainingStep, Tensor], object],
        tokens: int = 0,
    ) -> None:
        """Run a forward without gradients, dropout or checkpoints, and `head` on its output; that
        of the reference has no adapters. `tokens` per row, 0 for those of the step."""
        length = share(tokens, self.p.sharding.context) if tokens else self.s.length
        s = replace(self.s, batch=rows, length=length, checkpointing="none", inputs=[], outputs=[])
        m, adapted, trained = s.m, s.m.adapted, s.m.training
        m.training, m.adapted = False, adapted and name != REFERENCE
        s.around.begins(m, s.built)
        with m.no_grad(), m.casting(self.p.autocast):
            hidden = self._hidden(s)
            if self.last_stage:
                head(s, hidden)
        del hidden
        s.outputs.clear()
        s.around.after_backward(m, s.built, last=True)
        m.training, m.adapted = trained, adapted
        self._note(name)

    def _note(self, name: str) -> None:
        self.result.note(name, self.s.m.heap.phase(), first=self.first)

    def _forward(self) -> Tensor:
        """Run one micro-batch forward. Return its loss, or what is sent to the next stage; if the
        loss runs later, the loss's input."""
        s, p = self.s, self.p
        s.around.begins(s.m, s.built)
        with s.m.casting(p.autocast):
            hidden = _mark(s.m, self._hidden(s), self._note)
            self._note("forward")
            if not self.last_stage:
                self.buffers.keep(hidden)
            if self.late or not self.last_stage:
                return hidden
            end, logits = self._loss(s, hidden)
        del hidden
        self._reference()
        if p.framework.float_outputs and p.autocast is not None and logits is not None:
            with s.m.making("logits"):
                logits = cast(s.m, logits, FLOAT32)
        return self._ended(end, logits)

    def _loss(self, s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        objective = self.p.objective
        return (self.program.loss if objective is None else objective.head.update)(s, hidden)

    def _reference(self) -> None:
        """Run the frozen model's pass, if it runs while the policy's graph is alive."""
        objective = self.p.objective
        if objective is not None and objective.within:
            self._note("loss")
            self._quiet(REFERENCE, self.s.batch, objective.head.quiet)

    def _ended(self, end: Tensor, logits: Tensor | None) -> Tensor:
        """Free the inputs of a loss, except what the training loop holds; return the loss."""
        s, p = self.s, self.p
        s.inputs.clear()
        for given in s.outputs:
            self.buffers.keep(given)
        self._compared(logits)
        outputs = [end, *s.outputs] if logits is None else [end, logits, *s.outputs]
        self.kept = outputs if p.framework.outputs else []
        s.outputs.clear()
        return end

    def _compared(self, logits: Tensor | None) -> None:
        """Allocate a copy of all logits but each sequence's last, from which frameworks compute
        token accuracy."""
        if self.p.framework.copies_logits and logits is not None:
            each = logits.numel // self.s.length * (self.s.length - 1)
            self.s.m.hidden(logits.dtype.size(each), name="logits")

    def _hidden(self, s: TrainingStep) -> Tensor:
        """Return the hidden states of the tokens, with images and audio joined in at the first
        stage."""
        if s.prefix is not None:
            s.prefix.begins(s.m, s.batch)
        features = towers.outputs(s) if self.first_stage and any(s.items.values()) else []
        return towers.joined(s, _prompted(s, self.program.forward(s)), features)

    def _backward(self, end: Tensor, *, last: bool) -> None:
        s = self.s
        if self.late:
            with s.m.casting(self.p.autocast):
                end = self._ended(*self._loss(s, end))
        if not self.result.saved:
            self.result.saved = s.m.heap.live("activations") + s.m.heap.live(DEQUANTIZED)
        s.around.turns(s.m, s.built, last=last)
        sent = self.buffers.gradient(end)
        backward(s.m, end, sent, name="logits" if self.last_stage else TEMPORARIES)
        del end  # and with it the graph, unless the loop holds the loss
        self._note("backward")
        s.around.after_backward(s.m, s.built, last=last)
        self._note("backward")


def _prompted(s: TrainingStep, hidden: Tensor) -> Tensor:
    """Return `hidden` unchanged, and add a prefix's key-value cache to the outputs. Raises
    UnsupportedError if the class that ran does not support prompts or prefixes."""
    prompt = s.built.prompt
    if prompt is not None and not prompt.used:
        raise UnsupportedError(sentence("prompts.before", kind=s.built.kind))
    if isinstance(prompt, KeyPrefix):
        s.outputs += prompt.cache
        prompt.cache = []
    return hidden


def _count(plan: TrainingPlan, around: Around, in_flight: int) -> int:
    """Return how many micro-batches of a step must be run: those in flight, and the next, which
    finds the first's gradients; one more if only the last reduces. Later ones are alike."""
    apart = around.waits and plan.sharding.pipeline == 1
    return min(in_flight + (2 if apart else 1), plan.accumulation)


def _mark(m: Machine, hidden: Tensor, ends: Callable[[str], None]) -> Tensor:
    """Return `hidden` with a node whose backward calls `ends`: the loss phase is over when the
    gradient of the hidden states exists."""
    out = Computed(hidden.shape, hidden.dtype, hidden.storage)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        ends("loss")
        m.name = TEMPORARIES
        return [grads[0]]

    record(m, back, [hidden], [], out)
    return out

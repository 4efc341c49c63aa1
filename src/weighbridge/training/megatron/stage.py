"""A stage of a pipeline: two steps of one rank, and the peak of each phase.

    Transformer Engine's workspaces    one of 32 MiB and 1 KiB since Hopper (4 MiB before), and four
                                       more if experts are multiplied in groups
                                       with tp_comm_overlap three more, one per stream
    torch's                            one for each thread that multiplies, which the head does

Source: Transformer Engine c188b53 pytorch/cpp_extensions/gemm.py (get_cublas_workspace_size_bytes,
_NUM_MAX_UB_STREAMS); torch aten/src/ATen/cuda/CublasHandlePool.cpp.
"""

from functools import lru_cache, partial

from weighbridge.base.dtypes import INT8
from weighbridge.base.records import dataclass, field
from weighbridge.base.units import KIB, MIB
from weighbridge.machines.allocator.options import AllocatorOptions
from weighbridge.memory.components.activations import Heap, LivePeak, keep_fullest
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.splice import Splices, UnlikeLayersError
from weighbridge.training.forward.tensors import Tensor
from weighbridge.training.megatron import float8, muon
from weighbridge.training.megatron.layers import RankMachine
from weighbridge.training.megatron.model import MegatronModel
from weighbridge.training.megatron.program import StageProgram
from weighbridge.training.megatron.run import HOPPER, WEIGHT, MegatronRun
from weighbridge.training.megatron.schedule import step
from weighbridge.training.megatron.states import StageNumbers, layers_of

STEPS = 2  # steps; the first creates the averages only when it ends
SPACE, OLDER_SPACE = 32 * MIB + KIB, 4 * MIB
HALF = 2  # bytes of a master weight that the bfloat16 weight holds, too
STREAMS = 4  # CUDA streams of grouped products
KEPT = 256  # cached stages
KEPT_WHOLE = 32  # cached pipelines
LINEARS = 4  # linears per layer: a step copies one tensor per parameter
OVERLAPS = 3  # CUDA streams of products that overlap with communication
StageKind = tuple[bool, bool, tuple[tuple[tuple[str, bool], ...], ...]]


@dataclass(slots=True, kw_only=True)
class StageRun:
    """The peaks of one stage by phase. `parameters` counts those of one rank; `held` is the bytes
    on the device that stay between steps."""

    index: int
    parameters: int = 0
    on_host: int = 0  # parameters whose states are on the host
    held: int = 0
    spared: int = 0  # by how many bytes of states its emptiest rank has fewer
    saved: int = 0  # bytes saved for backward when the first forward has run
    moments: dict[str, LivePeak] = field(default_factory=dict)
    first: dict[str, LivePeak] = field(default_factory=dict)  # of the first step

    @property
    def peak(self) -> int:
        """Return the bytes of tensors at the highest peak of all phases."""
        return max(p.allocated for p in self.moments.values())

    def note(self, name: str, peak: LivePeak, *, first: bool) -> None:
        """Record a peak if it is higher than earlier ones of its phase."""
        for moments in (self.moments, self.first) if first else (self.moments,):
            keep_fullest(moments, name, peak)


@lru_cache(maxsize=KEPT)
def run_stage(model: MegatronModel, run: MegatronRun, stage: int) -> StageRun:
    """Return the peaks of two steps of one rank of a stage; cached, since a search repeats them."""
    return _spliced(model, run, stage, Splices())


@lru_cache(maxsize=KEPT_WHOLE)
def run_stages(model: MegatronModel, run: MegatronRun) -> tuple[StageRun, ...]:
    """Return the peaks of two steps of one rank per stage. Stages between the first and the last
    with equal layers are alike: what one has traced the others splice."""
    known: dict[StageKind, Splices] = {}
    stages = range(run.pipeline)
    return tuple(
        _spliced(model, run, i, known.setdefault(_kind(model, run, i), Splices())) for i in stages
    )


def _kind(model: MegatronModel, run: MegatronRun, stage: int) -> StageKind:
    """Return what decides whether stages are alike: whether it is the first and the last, and per
    chunk the letter of each layer and whether it multiplies in 8 bits."""
    layers = (
        tuple((model.kind(i), float8.in_float8(model, run, i)) for i in chunk)
        for chunk in layers_of(model, run, stage)
    )
    return stage == 0, stage == run.pipeline - 1, tuple(layers)


def _spliced(model: MegatronModel, run: MegatronRun, stage: int, splices: Splices) -> StageRun:
    try:
        return _run(model, run, stage, splices)
    except UnlikeLayersError:
        return _run(model, run, stage, None)


def _run(model: MegatronModel, run: MegatronRun, stage: int, splices: Splices | None) -> StageRun:
    m = Machine(Heap(None, AllocatorOptions(expandable_segments=run.expandable)))
    m.workspace = run.workspace
    numbers = StageNumbers(model, run, stage)
    every = _layers(model, run, stage)
    shared = _share(model, run, every, numbers)
    result = StageRun(index=stage, parameters=numbers.all, spared=shared.most - shared.least)
    sizes = zip(_buffers(run, numbers, shared.padding), ("weights", "gradients"), strict=True)
    kept = [m.new((n,), INT8, name) for n, name in sizes]
    program = StageProgram(RankMachine(m, model, run), stage, numbers, splices)
    result.note("load", m.heap.phase(), first=True)
    kept += _workspaces(m, model, run, stage)
    kept += _copies(m, run, numbers)
    copies_of_gradients: list[Tensor] = []
    for number in range(STEPS):
        first = number == 0
        copies_of_gradients.clear()  # zero_grad
        step(program, partial(_ended, m, result, first))
        program.end()
        if first:
            result.on_host = numbers.on_host(run)
            if states := _states(run, numbers, shared):
                kept.append(m.new((states,), INT8, "optimizer_states"))
        pieces = LINEARS * max(1, len(every))
        copies_of_gradients += [
            m.new((n,), INT8, "gradients") for n in _pieces(numbers.copied(run), pieces)
        ]
        m.hidden(*_pieces(numbers.widened(run), pieces))
        if run.muon:
            m.hidden(muon.orthogonal(model, run, every))
        result.note("step", m.heap.phase(), first=first)
    result.held = m.heap.phase().allocated
    m.heap.close()
    return result


def _layers(model: MegatronModel, run: MegatronRun, stage: int) -> list[int]:
    """Return the numbers of a stage's layers, including those that predict further tokens."""
    every = [i for chunk in layers_of(model, run, stage) for i in chunk]
    if stage == run.pipeline - 1:
        every += range(model.layers, model.layers + run.predicts)
    return every


def held(model: MegatronModel, run: MegatronRun, stage: int) -> int:
    """Return the bytes of weights, gradients and states that each rank of a stage surely holds
    between steps, without tracing."""
    numbers = StageNumbers(model, run, stage)
    shared = _share(model, run, _layers(model, run, stage), numbers)
    states = _states(run, numbers, shared)
    fewest = fewest_states(run, states, shared.most - shared.least)
    return sum(_buffers(run, numbers, shared.padding)) + fewest


def spare(model: MegatronModel, run: MegatronRun, stage: int) -> int:
    """Return how many bytes of states in a stage's run some rank may not have."""
    if not (run.muon or run.remainders):
        return 0
    numbers = StageNumbers(model, run, stage)
    shared = _share(model, run, _layers(model, run, stage), numbers)
    states = _states(run, numbers, shared)
    return states - fewest_states(run, states, shared.most - shared.least)


def fewest_states(run: MegatronRun, states: int, spared: int) -> int:
    """Return the bytes of states on the rank with `spared` fewer than `states`; if master weights
    may be kept only as remainders, with these."""
    fewest = states - spared
    return fewest * (run.states - HALF) // run.states if run.remainders else fewest


def _share(
    model: MegatronModel, run: MegatronRun, layers: list[int], numbers: StageNumbers
) -> muon.MuonShare:
    return muon.share(model, run, layers, numbers) if run.muon else muon.ALIKE


def _states(run: MegatronRun, numbers: StageNumbers, shared: muon.MuonShare) -> int:
    """Return the bytes of optimizer states on the device."""
    return shared.most if run.muon else (numbers.stepped(run) - numbers.on_host(run)) * run.states


def _buffers(run: MegatronRun, numbers: StageNumbers, padding: int) -> tuple[int, int]:
    """Return (bytes of the weights' buffer, bytes of the gradients' buffer), both with `padding`
    elements."""
    low, _ = float8.weights(run, numbers.float8) if numbers.float8 else (0, 0)
    whole = WEIGHT * (numbers.all + padding - numbers.float8) + low
    weights = whole * numbers.weighed(run) // numbers.all
    return weights, (numbers.reduced(run) + padding) * run.main_gradient


def _copies(m: Machine, run: MegatronRun, numbers: StageNumbers) -> list[Tensor]:
    """Return the 8-bit copies of weights besides the weights' buffer, allocated."""
    _, copies = float8.weights(run, numbers.float8) if numbers.float8 else (0, 0)
    if run.float8_parameters:  # they are the weights themselves, and sharded like them
        copies = copies * numbers.weighed(run) // numbers.all
    return [m.new((copies,), INT8, "weights")] if copies else []


def _pieces(nbytes: int, count: int) -> list[int]:
    """Return the sizes of `count` tensors that together have `nbytes`; an empty list for 0
    bytes."""
    if not nbytes:
        return []
    return [nbytes * (i + 1) // count - nbytes * i // count for i in range(count)]


def _ended(m: Machine, result: StageRun, first: bool, name: str) -> None:
    result.saved = result.saved or m.heap.live("activations")
    result.note(name, m.heap.phase(), first=first)


def _workspaces(m: Machine, model: MegatronModel, run: MegatronRun, stage: int) -> list[Tensor]:
    if not run.engine:
        return []
    each = SPACE if run.capability >= HOPPER else OLDER_SPACE
    routed = any(model.routed(i) for chunk in layers_of(model, run, stage) for i in chunk)
    count = 1 + (STREAMS if routed and run.grouped else 0) + (OVERLAPS if run.overlaps else 0)
    return [m.new((each,), INT8, "workspaces") for _ in range(count)]

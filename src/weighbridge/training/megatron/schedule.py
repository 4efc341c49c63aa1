"""The order in which a stage runs micro-batches, with the tensors that its loop holds.

    one stage       forward and backward in turn
    1F1B            stage i of p runs p - i - 1 forwards first, then one of each
    interleaved     chunks take turns in groups of g micro-batches, p or as
                    microbatch_group_size_per_virtual_pipeline_stage sets; (p - i - 1) x 2 and
                    (chunks - 1) x g forwards first

A sent tensor keeps its place in the graph and not its bytes (deallocate_pipeline_outputs). Source:
Megatron-LM d98e8a6 core/pipeline_parallel/schedules.py.
"""

from collections.abc import Callable

from weighbridge.base.units import ceil_div
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.tensors import Computed, LeafTensor, Tensor
from weighbridge.training.megatron.program import StageProgram
from weighbridge.training.megatron.run import MegatronRun

REPEATS = 2  # micro-batches after which all others are alike
Ends = Callable[[str], None]  # called with what has ended: forward, backward


def step(program: StageProgram, ends: Ends) -> None:
    """Run the micro-batches of a step; if many are alike, only the first few. `ends` is called
    after each phase."""
    run = program.rank.run
    if run.pipeline == 1:
        _alone(program, ends)
    elif run.chunks == 1:
        _one_by_one(program, ends)
    else:
        _interleaved(program, ends)


def _alone(program: StageProgram, ends: Ends) -> None:
    for _ in range(min(REPEATS, program.rank.run.accumulation)):
        out = program.forward(None, 0)
        ends("forward")
        backward(program.rank.m, out)
        program.shared.whole()
        ends("backward")


def _back(
    program: StageProgram, x: Tensor | None, out: Tensor, grad: Tensor | None
) -> Tensor | None:
    """Run backward_step and return the gradient of the input, which the input holds, too."""
    backward(program.rank.m, out, grad)
    program.shared.whole()
    return x.grad if isinstance(x, LeafTensor) else None


def _deferred(run: MegatronRun) -> int:
    """Return how many micro-batches run before all deferred gradients exist and later ones are
    alike."""
    return 0 if run.deferred is None else run.deferred or run.accumulation


def _sent(out: Tensor) -> Tensor:
    return Computed(out.shape, out.dtype, None, out.node, out.slot)


def _one_by_one(program: StageProgram, ends: Ends) -> None:
    """Run forward_backward_pipelining_without_interleaving."""
    run = program.rank.run
    first, last = program.first(0), program.last(0)
    given: Tensor | None = None  # gradient held by a variable of the loop
    count = min(run.accumulation, run.pipeline - program.stage + max(REPEATS, _deferred(run)))
    ahead = min(run.pipeline - program.stage - 1, count)
    inputs: list[Tensor | None] = []
    outputs: list[Tensor] = []
    x: Tensor | None = None
    for _ in range(ahead):
        x = None if first else program.received()
        out = program.forward(x, 0)
        inputs.append(x)
        outputs.append(out := _sent(out))
        ends("forward")
    for i in range(count - ahead):
        if i == 0:
            x = None if first else program.received()
        out = program.forward(x, 0)
        ends("forward")
        grad = None if last else program.received()
        inputs.append(x)
        outputs.append(out if last else _sent(out))
        x, out = inputs.pop(0), outputs.pop(0)
        given = _back(program, x, out, grad)
        ends("backward")
        x = None if first or i == count - ahead - 1 else program.received()
    for _ in range(ahead):
        x, out = inputs.pop(0), outputs.pop(0)
        grad = program.received()
        given = _back(program, x, out, grad)
        ends("backward")
    del given


def _interleaved(program: StageProgram, ends: Ends) -> None:
    """Run forward_backward_pipelining_with_interleaving. Sends overlap with computation: the next
    input has arrived before a backward begins, and the next gradient before a forward. Without that
    (--no-overlap-p2p-communication) both arrive after the backward. If the first and the last
    micro-batches overlap, too (--overlap-p2p-communication-warmup-flush), the next has arrived
    before each of them."""
    run = program.rank.run
    group, chunks = run.turns, run.chunks
    batches = min(run.accumulation, group * max(REPEATS, 1 + ceil_div(_deferred(run), group)))
    order = [
        (start + i, chunk)
        for start in range(0, batches, group)
        for chunk in range(chunks)
        for i in range(min(group, batches - start))
    ]
    backs = [(batch, chunks - 1 - chunk) for batch, chunk in order]
    ahead = min(len(order), (run.pipeline - program.stage - 1) * 2 + (chunks - 1) * group)
    held: dict[tuple[int, int], tuple[Tensor | None, Tensor]] = {}

    def incoming(at: int) -> Tensor | None:
        ended = at == len(order) or program.first(order[at][1])
        return None if ended else program.received()

    def returning(at: int) -> Tensor | None:
        ended = at == len(backs) or program.last(backs[at][1])
        return None if ended else program.received()

    x, grad, given = incoming(0), None, None
    for at, (batch, chunk) in enumerate(order):
        early = run.receives_early and at < ahead and program.stage > 0
        following = incoming(at + 1) if early else None
        out = program.forward(x, chunk)
        ends("forward")
        held[batch, chunk] = x, out if program.last(chunk) else _sent(out)
        x = following if early else incoming(at + 1) if run.receives_ahead or at < ahead else None
        if at + 1 == ahead:
            grad = returning(0)
        if at >= ahead:
            given = _back(program, *held.pop(backs[at - ahead]), grad)
            ends("backward")
            x = x if run.receives_ahead else incoming(at + 1)
            grad = returning(at - ahead + 1)
    early = run.receives_early and program.stage < run.pipeline - 1
    for at in range(len(order) - ahead, len(order)):
        following = returning(at + 1) if early else None
        given = _back(program, *held.pop(backs[at]), grad)
        ends("backward")
        grad = following if early else returning(at + 1)
    del given

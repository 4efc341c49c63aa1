"""A lower bound of what compiled code takes, from what eager code took: torch.compile.

    least(tape) = max(all that is kept,
                      what is kept when backward begins + the smallest cut,
                      what is kept + a product's operands + its result)

Kept are weights, gradients, optimizer states, buffers, caches and inputs. A compiler fuses
elementwise operations and reductions (norms, activations, casts, masks, dropout) into kernels that
write no intermediate results, and recomputes them in backward. Products, convolutions and attention
stay kernels of their own, and are not recomputed. So what backward needs is either kept or computed
from what is, and the fewest bytes from which all of it comes is a minimum cut between the results
of such kernels and what backward reads: torch's partitioner looks for the same
(torch/_functorch/partitioners.py: min_cut_rematerialization_partition), under more conditions.

Two of its optimizations are assumed always: attention that is written out becomes one kernel
(torch/_inductor/fx_passes/fuse_attention.py), and masks of dropout are drawn again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from weighbridge.base.records import NamedTuple
from weighbridge_lab.trace.tape import OperationUse, Tape, TracedStorage

KEPT = frozenset(("weight", "buffer", "gradient", "optimizer state", "kv cache", "input"))
ATTENTION = frozenset(
    f"_scaled_dot_product_{kind}_attention" for kind in ("flash", "efficient", "cudnn")
)
PRODUCTS = frozenset(("mm", "addmm", "convolution", "_scaled_mm", *ATTENTION))
SCORES = frozenset(("bmm", "baddbmm"))  # which may be one kernel with attention that is written out
BACKWARD = frozenset(f"{name}_backward" for name in (*ATTENTION, "convolution"))
SOURCES = PRODUCTS | SCORES
HIDDEN = frozenset(("_softmax", "_safe_softmax"))  # inside attention
# operations of backward that read the values of each element; others may need its sign alone
READERS = (
    SOURCES
    | BACKWARD
    | frozenset(("mul", "div", "pow", "_softmax_backward_data", "_log_softmax_backward_data"))
    | frozenset(f"{name}_backward" for name in ("silu", "gelu", "tanh", "sigmoid", "hardswish"))
    | frozenset(f"native_{kind}_norm_backward" for kind in ("layer", "group", "batch"))
    | frozenset(("_fused_rms_norm_backward", "cudnn_batch_norm_backward"))
)
SHAPES = ("_like", "new_", "bernoulli", "rand")  # they read only the shape of their operands


class CompiledWays(NamedTuple):
    """Compiler settings that weaken the bound: it tunes products together with the code around
    them, or has a budget for recomputing them."""

    tuned: bool = False
    budgeted: bool = False


class BackwardRun(NamedTuple):
    """A run of backward: its operations, from `first` on."""

    event: int
    first: int
    uses: Sequence[OperationUse]


def least(tape: Tape, ways: CompiledWays = CompiledWays()) -> int:  # noqa: B008
    """Return a lower bound of the peak bytes that compiled code allocates."""
    staying = _staying(tape)
    moments = [max(staying, default=0)]
    passes = list(_passes(tape.uses))
    if passes and not ways.budgeted:
        fullest = max(passes, key=lambda one: _level_before(tape.levels, one.event))
        moments.append(_level_before(staying, fullest.event) + _cut(tape, fullest))
    if not ways.tuned:
        moments += (_level_before(staying, use.event) + _operands(tape, use) for use in tape.uses)
    return max(moments)


def _staying(tape: Tape) -> list[int]:
    """Return the bytes of kept storages after each event."""
    return list(accumulate(_signed(tape, event) for event in tape.events))


def _signed(tape: Tape, event: int) -> int:
    storage = tape.storages[abs(event) - 1]
    nbytes = storage.nbytes if storage.role in KEPT else 0
    return nbytes if event > 0 else -nbytes


def _level_before(levels: Sequence[int], event: int) -> int:
    return levels[event - 1] if 0 < event <= len(levels) else 0


def _passes(uses: Sequence[OperationUse]) -> Iterator[BackwardRun]:
    """Yield the runs of backward."""
    first = None
    for index, use in enumerate((*uses, None)):
        runs = use is not None and use.backward
        if runs and first is None:
            first = index
        elif not runs and first is not None:
            yield BackwardRun(uses[first].event, first, uses[first:index])
            first = None


def _operands(tape: Tape, use: OperationUse) -> int:
    """Return the bytes that a product reads and writes at once, besides kept storages."""
    if use.op not in PRODUCTS and use.op not in BACKWARD:
        return 0
    parts: dict[int, int] = {}
    for part in (*use.reads, *use.writes):
        storage = tape.storages[part.number]
        if storage.role not in KEPT or storage.born >= use.event:
            parts[part.number] = min(storage.nbytes, max(parts.get(part.number, 0), part.nbytes))
    return sum(parts.values())


def _cut(tape: Tape, run: BackwardRun) -> int:
    """Return the fewest bytes from which everything that a run of backward reads can be
    computed."""
    makers: dict[int, set[int]] = defaultdict(set)
    sources = set()
    for use in tape.uses[: run.first]:
        written = {part.number for part in use.writes}
        if use.op in SOURCES:
            sources |= written
        elif _leads(use.op):
            for number in written:
                makers[number] |= {part.number for part in use.reads} - {number}
    rooms = {number: _room(tape.storages[number]) for number in {*sources, *makers}}
    return FlowNetwork(rooms, makers, sources).flow(_needs(tape, run))


def _leads(op: str) -> bool:
    """Return whether an operation's result depends on the values that it reads, not only on their
    shapes."""
    return op not in HIDDEN and not any(word in op for word in SHAPES)


def _room(storage: TracedStorage) -> int:
    return 0 if storage.role in KEPT else storage.nbytes


def _needs(tape: Tape, run: BackwardRun) -> dict[int, int]:
    """Return the bytes of each forward storage that a run of backward reads; parts at different
    offsets add up."""
    parts: dict[int, dict[int, int]] = defaultdict(dict)
    for use in run.uses:
        for part in use.reads if use.op in READERS else ():
            if tape.storages[part.number].born < run.event:
                known = parts[part.number]
                known[part.offset] = max(known.get(part.offset, 0), part.nbytes)
    return {n: min(tape.storages[n].nbytes, sum(known.values())) for n, known in parts.items()}


BOUNDLESS = 1 << 62


class NodeState(NamedTuple):
    node: int
    through: bool  # its capacity


class FlowNetwork:
    """Nodes with capacities (`rooms`), what each is computed from (`makers`), and those that are
    computed from nothing (`sources`). A node without a capacity has 0.

    The smallest cut between sources and needs is the maximum flow (Ford and Fulkerson 1956), along
    shortest paths (Edmonds and Karp 1972). Paths are searched backwards, over two states of each
    node: after its capacity, and before it. What already flows may be sent another way.
    """

    def __init__(
        self, rooms: Mapping[int, int], makers: Mapping[int, Iterable[int]], sources: set[int]
    ) -> None:
        self.rooms, self.makers, self.sources = rooms, makers, sources
        self._makes: dict[int, set[int]] = defaultdict(set)
        for node, each in makers.items():
            for maker in each:
                self._makes[maker].add(node)
        self._inside: dict[int, int] = defaultdict(int)  # what flows through a node
        self._passed: dict[tuple[int, int], int] = defaultdict(int)  # from a maker to what it makes

    def flow(self, needs: Mapping[int, int]) -> int:
        """Return how much of the needs can flow from the sources at once."""
        total = 0
        for need, amount in needs.items():
            lacking = amount
            while lacking and (path := self._path(need)):
                steps = list(pairwise(path))
                more = min(lacking, *(self._room(*step) for step in steps))
                for step in steps:
                    self._send(*step, more)
                lacking, total = lacking - more, total + more
        return total

    def _path(self, need: int) -> list[NodeState]:
        """Return the states on a path from a source to a need; [] if no more can flow."""
        start = NodeState(need, through=True)
        after: dict[NodeState, NodeState | None] = {start: None}
        queue = [start]
        for state in queue:
            if not state.through and state.node in self.sources:
                return list(_followed(state, after))
            for before, room in self._steps(state):
                if room > 0 and before not in after:
                    after[before] = state
                    queue.append(before)
        return []

    def _steps(self, state: NodeState) -> Iterator[tuple[NodeState, int]]:
        """Yield (state, amount): the states from which more can flow to this one."""
        node = state.node
        if state.through:
            yield NodeState(node, through=False), self.rooms.get(node, 0) - self._inside[node]
            for other in self._makes[node]:
                yield NodeState(other, through=False), self._passed[node, other]
        else:
            yield NodeState(node, through=True), self._inside[node]
            for maker in self.makers.get(node, ()):
                yield NodeState(maker, through=True), BOUNDLESS

    def _room(self, state: NodeState, into: NodeState) -> int:
        return next(room for before, room in self._steps(into) if before == state)

    def _send(self, state: NodeState, into: NodeState, amount: int) -> None:
        if state.node == into.node:
            self._inside[state.node] += amount if into.through else -amount
        elif state.through:
            self._passed[state.node, into.node] += amount
        else:
            self._passed[into.node, state.node] -= amount


def _followed(
    state: NodeState | None, after: Mapping[NodeState, NodeState | None]
) -> Iterator[NodeState]:
    while state is not None:
        yield state
        state = after[state]

"""Fit checks for searches: whether a launch fits, and the bytes of each GPU's components.

    at least    compute buffers of launches that are smaller in every size
    at most     those of launches that are larger in every size

Compute buffers grow with the step and the cache, and replaying their graphs takes longest: earlier
replays bound most launches of a search.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, NamedBytes, exactly
from weighbridge.base.records import dataclass, field, replace
from weighbridge.engines.interface import HeldBounds, Probe, SearchPoint, Subject
from weighbridge.engines.interface import HeldBytes as Numbers
from weighbridge.engines.llama_cpp.components import CONTEXT, Projector, on_card
from weighbridge.engines.llama_cpp.compute import step_of
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings, pool
from weighbridge.machines.accelerators.budget import Budget

if TYPE_CHECKING:
    from weighbridge.workload import Infer

Hold = Callable[[Subject, "Infer"], DeviceHoldings]
Buffers = tuple[int, ...]  # bytes by device


def probe(hold: Hold, subject: Subject, w: "Infer", budget: Budget) -> Probe:
    """Return a function from a search's point to the numbers of `infer`; `hold` lays out each
    launch."""
    tower, known = on_card(subject, w), ProbedBuffers()

    def numbers(point: SearchPoint) -> Numbers | None:
        h = hold(replace(subject, context=point.context), point.of(w))
        if h.launch.requests > h.launch.slots:  # the others wait
            return None
        beside = _over(_beside(h, tower), budget)
        if beside:
            return Numbers(h.launch.gpus, [[[("weights", exactly(beside))]]])
        bounds = known.bounds(h)
        if bounds is None:
            return exact(h)
        least, most = (_kinds(h, tower, budget, list(map(exactly, sizes))) for sizes in bounds)
        return Numbers(h.launch.gpus, most, bounds=HeldBounds(least, lambda: exact(h)))

    def exact(holdings: DeviceHoldings) -> Numbers:
        known.add(holdings)
        most = _beyond(holdings, tower, budget)
        kinds = _kinds(
            holdings, tower, budget, [holdings.buffer(d) for d in range(holdings.launch.gpus)]
        )
        if most:
            kinds = [[[("weights", exactly(most))]]]
        return Numbers(len(kinds), kinds)

    return numbers


@dataclass(slots=True)
class ProbedBuffers:
    """Compute buffers of launches whose graphs were replayed in one search."""

    replayed: list[tuple[tuple[int, ...], Buffers]] = field(default_factory=list)

    def add(self, holdings: DeviceHoldings) -> None:
        """Record a launch's buffers, unless they are rough or no layer is on a GPU."""
        if holdings.launch.gpu_layers and not holdings.near_only:
            self.replayed.append((_numbers(holdings), holdings.compute))

    def bounds(self, holdings: DeviceHoldings) -> tuple[Buffers, Buffers] | None:
        """Return a lower and an upper bound of the buffers per device; None if either is
        unknown."""
        mine = _numbers(holdings)
        below = [sizes for other, sizes in self.replayed if _within(other, mine)]
        above = [sizes for other, sizes in self.replayed if _within(mine, other)]
        if not below or not above:
            return None
        return tuple(map(max, zip(*below, strict=True))), tuple(map(min, zip(*above, strict=True)))


def _numbers(holdings: DeviceHoldings) -> tuple[int, ...]:
    """Return the sizes that the step's graph grows with; its tokens are a multiple of its
    sequences."""
    return (*holdings.numbers, step_of(holdings.launch, holdings.near).tokens)


def _within(small: Iterable[int], large: Iterable[int]) -> bool:
    return all(x <= y for x, y in zip(small, large, strict=True))


def _kinds(
    holdings: DeviceHoldings, tower: Projector | None, budget: Budget, compute: Sequence[Bytes]
) -> list[list[list[NamedBytes]]]:
    """Return the components of loading and of running, for each GPU in use."""
    used = (
        d
        for d in range(holdings.launch.gpus)
        if holdings.launch.gpu_layers > 0 or holdings.weights[d] or compute[d].high
    )
    return [
        _phases(holdings, tower if d == holdings.launch.main_gpu else None, budget, d, compute[d])
        for d in used
    ]


def _phases(
    holdings: DeviceHoldings, tower: Projector | None, budget: Budget, device: int, compute: Bytes
) -> list[list[NamedBytes]]:
    loaded: list[NamedBytes] = [
        ("weights", exactly(holdings.weights[device])),
        ("context", CONTEXT),
    ]
    running: list[NamedBytes] = [
        ("kv_cache", exactly(holdings.kv(device))),
        ("recurrent_state", exactly(holdings.state(device))),
        ("activations", compute),
    ]
    if budget.choice.part.stack != "own":  # others have no such pool
        running.append(("workspaces", pool(holdings, device)))
    if holdings.draft is not None:
        draft = holdings.draft.held
        loaded.append(("weights", exactly(holdings.draft.weights[device])))
        running.append(("kv_cache", exactly(draft.kv(device))))
        running.append(("recurrent_state", exactly(draft.state(device))))
        running.append(("activations", holdings.draft.buffer(device)))
    if tower is not None:
        loaded.append(("weights", tower.weights.bytes))
        running.append(("activations", tower.compute.bytes))
    return [loaded, [*loaded, *running]]


def holds(holdings: DeviceHoldings, subject: Subject, w: "Infer", budget: Budget) -> bool:
    """Return whether all requests run at once and every GPU has room for its high estimate."""
    return holdings.launch.requests <= holdings.launch.slots and not _beyond(
        holdings, on_card(subject, w), budget
    )


def _beyond(holdings: DeviceHoldings, tower: Projector | None, budget: Budget) -> int:
    """Return the most bytes needed by a GPU that has less room, 0 if every GPU has enough."""
    beside = _beside(holdings, tower)
    over = _over(beside, budget)
    if over:
        return over
    return _over([size + holdings.buffer(d).high for d, size in enumerate(beside)], budget)


def _over(sizes: Sequence[int], budget: Budget) -> int:
    """Return the largest of `sizes`, bytes per GPU, that exceeds its GPU's room; 0 if none does."""
    return max((size for d, size in enumerate(sizes) if size > budget.of(d).low), default=0)


def _beside(holdings: DeviceHoldings, tower: Projector | None) -> list[int]:
    """Return the most bytes that each GPU holds without its compute buffer."""
    sizes = [
        CONTEXT.high
        + holdings.weights[d]
        + holdings.kv(d)
        + holdings.state(d)
        + pool(holdings, d).high
        + holdings.drafting(d)
        for d in range(holdings.launch.gpus)
    ]
    if tower is not None and sizes:
        sizes[holdings.launch.main_gpu] += tower.weights.bytes.high + tower.compute.bytes.high
    return sizes

"""Sets of changes: which are asked, in which order, and which of the answers are told.

Single changes come first, by price; sets of them after that, where no cheap single one fits. What a
set leaves as it is may be too large by itself: then nobody is asked, and only larger sets remain.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import count, islice
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.memory import Bytes
from weighbridge.records import dataclass, replace
from weighbridge.remedies import prices, written
from weighbridge.remedies.case import Cost, Move, RemedyCase, devices, moves, runnable
from weighbridge.report import Report
from weighbridge.report.verdict import Remedy, Verdict
from weighbridge.training.launching import start
from weighbridge.units import human

CHEAP = 20.0  # points: where no single change costs less, sets are looked for, too (assumed)
DEAR = 80.0  # points: above this it is told where nothing else helps (assumed)
SLOW = ("train",)  # tasks of which dear single changes wait for cheap sets
DEPTH = 4  # changes of one set
# Sets after which nothing dearer is looked for: a step of training takes its time
ENOUGH: Mapping[str, int] = {"load": 3, "infer": 3, "train": 1}
FEW = 3  # remedies: with no more of them other devices are looked for
OF_A_KIND = 2  # remedies of the same kinds that are told
ASKS: Mapping[str, int] = {"load": 40, "infer": 48, "train": 14}  # questions of one search
MANY = 1500  # tensors: a search over more of them asks less, but for FEWEST questions (assumed)
FEWEST = 2
POPPED = 4000  # sets that are looked at, asked or not
HOPEFUL = 1.15  # of a device: sets that are guessed to take more are not asked (assumed)
_FIRST = ("engine", "method", "quantization", "dtype", "precision", "checkpointing")
KINDS = {kind: place for place, kind in enumerate(_FIRST)}
# Changes of training that leave the result as it is: they are joined with other devices
FREE = ("checkpointing", "loss", "attention", "upcast", "sharding")
LESSER = ("zero2",)  # shares out less than others do
TRIED = 4  # devices that are tried with all those flags
TO_HOST = frozenset(("n_cpu_moe", "n_gpu_layers", "cpu_offload_gb"))  # settings that move weights
HELPS = 0.985  # of a peak: a change that leaves more of it is not built upon (assumed)


@dataclass(frozen=True, slots=True)
class MoveSet:
    """A set of changes, and the answer to them together."""

    moves: tuple[Move, ...]
    case: RemedyCase

    @property
    def change(self) -> Mapping[str, Any]:
        return changed(self.in_order)

    @property
    def cost(self) -> Cost:
        return prices.together((*(move.cost for move in self.in_order), *_divided(self.report)))

    @property
    def report(self) -> Report:
        return self.case.report

    @property
    def peak(self) -> int:
        return self.report.peak.expected

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted(move.kind for move in self.moves))

    @property
    def in_order(self) -> tuple[Move, ...]:
        """Return the changes in the order in which people say them: what the model is, then how it
        runs."""
        return tuple(sorted(self.moves, key=lambda move: KINDS.get(move.kind, len(KINDS))))

    @property
    def place(self) -> tuple[float, int]:
        return self.cost.price.points, len(self.moves)


def _divided(report: Report) -> Iterator[Cost]:
    """Yield what it costs that an engine leaves layers, or their experts, in RAM by itself."""
    if "layers_on_card" in report.derived:
        kept, every = report.derived["layers_on_card"]
        yield prices.on_host(report.derived["divided_by"], every - kept, every)


def changed(some: Iterable[Move]) -> Mapping[str, Any]:
    """Merge the settings of several changes. LoRA of a base in nf4 is QLoRA, and said so."""
    settings = {name: value for move in some for name, value in move.change.items()}
    if settings.get("method") == "lora" and settings.get("quantization") == "nf4":
        del settings["quantization"]
        settings["method"] = "qlora"
    return settings


class Search:
    """A search over sets of changes, the cheapest first."""

    def __init__(
        self, case: RemedyCase, most: int, *, only: str | None = None, root: MoveSet | None = None
    ) -> None:
        """`root`: what any set begins with, where nothing runs without it."""
        self.case, self.most, self.only = case, most, only
        self.root = root or MoveSet((), case)
        self._base = len(self.root.moves)
        self.left = questions(case)
        self.good: list[MoveSet] = []
        self.maybe: list[MoveSet] = []
        self._queue: list[tuple[bool, float, int, MoveSet, tuple[Move, ...]]] = []
        self._order = count()
        self._seen: set[frozenset[tuple[str, Any]]] = set()

    def run(self) -> tuple[Remedy, ...]:
        self._grow(self.root, ())
        for _ in range(POPPED):
            if not self._queue or self.left <= 0:
                break
            larger, points, _, parent, added = heappop(self._queue)
            if self._done(points, larger=larger):
                break
            self._tried(parent, added)
        if len(self.good) <= FEW and self.only is None:
            self._hardware()
        chosen = tuple(self._chosen())
        return tuple(map(_remedy, (*chosen, *self._unsure(chosen))))

    def _unsure(self, chosen: tuple[MoveSet, ...]) -> Iterator[MoveSet]:
        """Yield sets that may fit: where nothing surely does, and else the cheapest, where it is
        cheap."""
        ranked = sorted(self.maybe, key=lambda node: node.place)
        if not chosen:
            yield from ranked[:OF_A_KIND]
        elif len(chosen) < self.most:
            graded = any(move.graded for node in ranked[:1] for move in node.moves)
            yield from [node for node in ranked[:1] if node.place < chosen[0].place and not graded]

    def _done(self, points: float, *, larger: bool) -> bool:
        """Tell whether all that is left is dearer than what was found."""
        if len(self.good) >= self.most:
            return True
        if not larger:
            return False
        cheap = any(node.place[0] <= CHEAP for node in self.good)
        sets = sum(len(node.moves) - self._base > 1 for node in self.good)
        return (cheap and points > CHEAP) or sets >= ENOUGH[self.case.task]

    def _grow(self, node: MoveSet, added: tuple[Move, ...]) -> None:
        """Queue every set of one more change than those of `added` on top of an answer."""
        if len(node.moves) + len(added) >= DEPTH:
            return
        before = (*node.moves, *added)
        if any(earlier.alone for earlier in before) or (before and self.only is not None):
            return
        used = {earlier.kind for earlier in before}
        for move in node.case.memo("moves", lambda: tuple(moves(node.case))):
            if self.only not in (None, move.kind):
                continue
            if move.kind in used or (before and (move.alone or not _matters(node.case, move))):
                continue
            if not added or not (move.apart or any(earlier.apart for earlier in added)):
                self._push(node, (*added, move))

    def _push(self, node: MoveSet, added: tuple[Move, ...]) -> None:
        whole = (*node.moves, *added)
        facts = frozenset((name, repr(value)) for name, value in changed(whole).items())
        if facts in self._seen:
            return
        self._seen.add(facts)
        points = prices.together(tuple(move.cost for move in whole)).price.points
        later = len(whole) - self._base > 1 or (points > CHEAP and self.case.task in SLOW)
        entry = (later, points, next(self._order), node, added)
        heappush(self._queue, entry)

    def _tried(self, parent: MoveSet, added: tuple[Move, ...]) -> None:
        if self._better_known((*parent.moves, *added)):
            return
        if hopeless(parent.case, added) or not self._worth(parent, added):
            self._grow(parent, added)
            return
        node = self._asked(parent, added)
        if node is None:
            return
        if node.case.verdict.fits == "yes":
            self.good.append(node)
        elif node.peak <= HELPS * parent.peak or any(move.kind == "engine" for move in added):
            self.maybe += [node] if node.case.verdict.fits == "unknown" else []
            self._grow(node, ())

    def _worth(self, parent: MoveSet, added: tuple[Move, ...]) -> bool:
        """Tell whether a set may be enough: of single changes all are asked that are not
        hopeless."""
        if len(parent.moves) + len(added) - self._base == 1 or self.case.room is None:
            return True
        return parent.case.guessed(added) <= HOPEFUL * self.case.room

    def _better_known(self, some: tuple[Move, ...]) -> bool:
        """Tell whether fewer changes are enough, or less of one of them."""
        points = prices.together(tuple(move.cost for move in some)).price.points
        return any(_within(node, some, points) for node in self.good)

    def _asked(self, parent: MoveSet, added: tuple[Move, ...]) -> MoveSet | None:
        """Ask the changed question; None where the model, the engine or the card refuses."""
        self.left -= 1
        return asked(parent, added)

    def _hardware(self) -> None:
        """Try more or other devices: the first of each kind that is enough."""
        large = questions(self.case) < ASKS[self.case.task]
        if not self.good and self.case.task in SLOW and not large:
            self.good += together(self.case)
        able = (move for move in devices(self.case) if not hopeless(self.case, (move,)))
        kinds_found: set[str] = set()
        for move in islice(able, 1 if large else None):
            if move.kind in kinds_found:
                continue
            node = self._asked(MoveSet((), self.case), (move,))
            if node is not None and node.case.verdict.fits == "yes":
                kinds_found.add(move.kind)
                self.good.append(node)

    def _chosen(self) -> Iterator[MoveSet]:
        """Yield the cheapest first, without those that another one beats, of different kinds."""
        chosen: list[MoveSet] = []
        for node in sorted(self.good, key=lambda candidate: candidate.place):
            alike = sum(other.kinds == node.kinds for other in chosen)
            beaten = any(_beats(other, node) for other in chosen)
            if alike < OF_A_KIND and not beaten and not (chosen and _dear(node)):
                chosen.append(node)
        yield from chosen[: self.most]


def questions(case: RemedyCase) -> int:
    """Count the questions that a search may ask: fewer of a model whose answers take their time."""
    most = ASKS[case.task]
    return max(FEWEST, min(most, most * MANY // max(1, case.tensors)))


def together(case: RemedyCase) -> Iterator[MoveSet]:
    """Combine flags and other devices: all flags that cost no quality, the smallest device that
    fits then, and of the flags those that it needs. A dozen questions at most."""
    free: dict[str, Move] = {}
    for move in moves(case):
        if move.kind in FREE and move.kind not in free and move.change.get("shard") not in LESSER:
            free[move.kind] = move
    flagged = asked(MoveSet((), case), tuple(free.values())) if free else None
    if flagged is None:
        return
    for device in islice(devices(flagged.case), TRIED):
        if hopeless(flagged.case, (device,)):
            continue
        node = asked(flagged, (device,))
        if node is not None and node.case.verdict.fits == "yes":
            yield _needed(MoveSet((), case), node)
            return


def _needed(root: MoveSet, node: MoveSet) -> MoveSet:
    """Leave out the flags that a device can do without, the dearest first."""
    for move in sorted(node.moves, key=lambda change: -change.points):
        others = tuple(change for change in node.moves if change is not move)
        if move.kind not in FREE or len(others) < 2:
            continue
        less = asked(root, others)
        if less is not None and less.case.verdict.fits == "yes":
            node = less
    return node


def _matters(case: RemedyCase, move: Move) -> bool:
    """Tell whether a change by itself takes enough of the peak to be tried in sets."""
    return case.guessed((move,)) <= HELPS * case.guessed(())


def _within(node: MoveSet, some: tuple[Move, ...], points: float) -> bool:
    """Tell whether `some` are the changes of a node and others, or dearer steps of them."""
    by_kind = {move.kind: move for move in some}
    return all(
        move.kind in by_kind
        and (by_kind[move.kind].change == move.change or (move.graded and points >= node.place[0]))
        for move in node.moves
    )


def hopeless(case: RemedyCase, added: tuple[Move, ...]) -> bool:
    """Tell whether what these changes leave as it is takes more than a device surely has."""
    return case.room is not None and case.least(added) > case.room


def _note(node: MoveSet, why: str) -> str:
    """Say what is to be done beside the line, or why there is none."""
    trained = node.case.task == "train" and not why
    started = f"start it with {start(node.case.count)}" if node.case.count > 1 else ""
    launch_note = started if trained else _same_memory(node)
    return "; ".join(
        dict.fromkeys(filter(None, (*(move.note for move in node.moves), why, launch_note)))
    )


def asked(parent: MoveSet, added: tuple[Move, ...]) -> MoveSet | None:
    case, change = parent.case, changed((*parent.moves, *added))
    try:
        workload = case.changed(change)
        report = case.ask(workload)
    except WeighbridgeError:
        return None
    if report.verdict is None or not _room_beside(case, change, report.verdict):
        return None
    pinned = case.pinned | change.keys()
    then = replace(case, workload=workload, report=report, pinned=pinned)
    return MoveSet((*parent.moves, *added), then)


def _same_memory(node: MoveSet) -> str:
    """Say what moving weights off the device means where both have the same memory."""
    case, host = node.case, node.case.verdict.host
    if host is None or case.part is None or not case.part.shares_host:
        return ""
    if TO_HOST.isdisjoint(node.change):
        return ""
    whole = human(host.available or case.part.total.bytes.low)
    return f"both halves stay in the same memory: {human(host.needed.expected)} of {whole} in all"


def _room_beside(case: RemedyCase, change: Mapping[str, Any], verdict: Verdict) -> bool:
    """Tell whether what goes to the host surely has room there. Where a device has no memory of its
    own, that is the same memory: Metal's working set bounds what the GPU may hold of it, and both
    halves together are bound by what the machine has. What --ram says is judged by the verdict
    itself."""
    if case.part is None or not case.part.shares_host or TO_HOST.isdisjoint(change):
        return True
    host = verdict.host
    if host is None or host.available is not None:
        return True
    return host.needed.high <= case.part.total.bytes.low


def _dear(node: MoveSet) -> bool:
    """Tell whether a set costs so much, money aside, that nobody takes it who has a choice."""
    price = node.cost.price
    return price.points - price.money > DEAR


def _beats(other: MoveSet, node: MoveSet) -> bool:
    return node.cost.price.no_less(other.cost.price) and node.peak >= other.peak


def needed(case: RemedyCase) -> tuple[MoveSet, ...]:
    """Find what a launch of training needs that is refused as asked, with the answer to that."""
    move = runnable(case) if case.task == "train" else None
    node = asked(MoveSet((), case), (move,)) if move is not None else None
    return () if node is None else (node,)


def told(node: MoveSet) -> Remedy:
    """Turn a set of changes into a remedy."""
    return _remedy(node)


def flagged(case: RemedyCase) -> tuple[Remedy, ...]:
    """Find the flags that a command lacks, as its engine's rules say, with what comes of them."""
    return (
        tuple(_flagged(case, remedy) for remedy in case.report.remedies) if case.commanded else ()
    )


def _flagged(case: RemedyCase, lacking: Remedy) -> Remedy:
    cost = prices.CHANGES["flags"]
    move = Move(kind="flags", change=lacking.change, cost=cost)
    known = all(hasattr(case.workload, name) for name in lacking.change)
    node = asked(MoveSet((), case), (move,)) if known else None
    line = str(case.report.derived.get("launch") or "")
    if node is None:  # a variable of the environment
        paste = f"{lacking.flags} {line}" if line else ""
        return replace(lacking, paste=paste, price=cost.price, kind=move.kind)
    remedy = _remedy(node)
    return replace(
        remedy, fits=lacking.fits, cost=lacking.cost, flags=lacking.flags, source=cost.source
    )


def _remedy(node: MoveSet) -> Remedy:
    verdict, cost, line = node.case.verdict, node.cost, written.paste(node.case)
    return Remedy(
        change=dict(node.change),
        peak_bytes=node.peak,
        fits=verdict.fits,
        cost=cost.words,
        source=cost.source,
        price=cost.price,
        margin_bytes=verdict.margin_bytes,
        per_device=Bytes(*verdict.per_device),
        kind=node.moves[0].kind,
        flags=written.flags(node.change, node.case.engine if node.case.commanded else ""),
        paste=line.text,
        note=_note(node, line.why),
    )

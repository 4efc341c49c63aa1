"""The search over sets of changes: which sets are estimated, in which order, and which results are
shown.

Single changes come first, by price; sets of them follow if no cheap single change fits. If what a
set does not touch is too large by itself, it is not estimated, and only larger sets remain. A set
that by a guess does not surely fit is counted (a lower bound), and estimated only if that fits.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count, islice

from weighbridge.answers.remedies import prices
from weighbridge.answers.remedies.case import Move, RemedyCase, devices, moves
from weighbridge.answers.remedies.lengths import longest
from weighbridge.answers.remedies.sets import (
    HELPS,
    MoveSet,
    asked,
    beats,
    changed,
    counted,
    dear,
    facts_of,
    hopeless,
    leaves_short,
    lessens,
    matters,
    may_do,
    misses_ram,
    surely,
    tried,
    within,
)
from weighbridge.base.watching import kept_so_far, stopped, trying
from weighbridge.workload.flags import flags

CHEAP = 20.0  # points: if no single change costs less, sets are tried, too (assumed)
SLOW = ("train",)  # in these tasks, dear single changes wait for cheap sets
DEPTH = 4  # changes per set, at most
# Sets found after which nothing dearer is tried: estimating training takes time
ENOUGH: Mapping[str, int] = {"load": 3, "infer": 3, "train": 1}
FEW = 3  # remedies: with no more than these, other devices are tried
OF_A_KIND = 2  # remedies shown of the same kinds
ASKS: Mapping[str, int] = {"load": 40, "infer": 48, "train": 14}  # full estimates per search
MANY = 1500  # tensors: a model with more gets fewer estimates, but at least FEWEST (assumed)
FEWEST = 2
COUNTS = 3  # counts per full estimate: they take less than half as long (assumed)
POPPED = 4000  # sets taken from the queue, estimated or not
HOPEFUL = 1.15  # times the device: sets guessed to take more are not estimated (assumed)
# Changes of training that keep its result: they are combined with other devices
FREE = ("checkpointing", "loss", "attention", "kernels", "upcast", "sharding")
LESSER = ("zero2",)  # shards less than others do
TRIED = 4  # devices tried with all those changes


class Search:
    """A search over sets of changes, the cheapest first."""

    def __init__(
        self, case: RemedyCase, most: int, *, only: str | None = None, root: MoveSet | None = None
    ) -> None:
        """`root`: the set that every set begins with, if nothing runs without it."""
        self.case, self.most, self.only = case, most, only
        self.root = root or MoveSet((), case)
        self._base = len(self.root.moves)
        self.left = questions(case)
        self.counts = COUNTS * self.left
        self._tries = 0
        unsure = case.verdict.fits == "unknown"
        self._unsure_of = {facts_of(self.root.moves)} if unsure else set()
        self._short: set[Hashable] = set()  # what counted sets hold that did not surely fit in full
        self._least: dict[frozenset[tuple[str, str]], MoveSet | None] = {}
        self.good: list[MoveSet] = []
        self.hears: Callable[[tuple[MoveSet, ...]], None] | None = None  # called for each set
        self.maybe: list[MoveSet] = []
        self._waiting = 0  # sets that fit with more RAM than is usual
        self._queue: list[tuple[bool, float, int, MoveSet, tuple[Move, ...]]] = []
        self._order = count()
        self._seen: set[frozenset[tuple[str, str]]] = set()

    def run(self) -> tuple[MoveSet, ...]:
        """Return the sets to show."""
        with kept_so_far():
            self._all()
        chosen = tuple(self._longest(node) for node in self._chosen())
        return (*chosen, *self._unsure(chosen))

    def _all(self) -> None:
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

    def _longest(self, node: MoveSet) -> MoveSet:
        """Return the set with the longest sequences that fit, unless estimates are slow."""
        if stopped() or questions(self.case) < ASKS[self.case.task]:
            return node
        with kept_so_far():
            return longest(MoveSet((), self.case), node)
        return node

    def _unsure(self, chosen: tuple[MoveSet, ...]) -> Iterator[MoveSet]:
        """Yield sets that may fit: if nothing surely does, else the cheapest if it is cheaper than
        those."""
        ranked = sorted(self.maybe, key=lambda node: node.place)
        if not chosen:
            yield from islice(self._open(ranked), OF_A_KIND)
        elif len(chosen) < self.most:
            cheaper = [node for node in ranked if node.place < chosen[0].place]
            if not any(move.graded for node in cheaper[:1] for move in node.moves):
                yield from islice(self._open(cheaper), 1)

    def _open(self, nodes: Iterable[MoveSet]) -> Iterator[MoveSet]:
        """Yield the sets whose verdict is open, counted ones after a full estimate."""
        for node in nodes:
            whole: MoveSet | None = node
            if node.counted:
                whole = None
                with kept_so_far():
                    whole = None if stopped() else asked(MoveSet((), self.case), node.moves)
            if whole is not None and whole.fits == "unknown":
                yield whole

    def _done(self, points: float, *, larger: bool) -> bool:
        """Return whether all remaining sets are dearer than what was found."""
        if len(self.good) >= self.most:
            return True
        if not larger:
            return False
        cheap = any(node.place[0] <= CHEAP for node in self.good)
        sets = self._waiting + sum(len(node.moves) - self._base > 1 for node in self.good)
        return (cheap and points > CHEAP) or sets >= ENOUGH[self.case.task]

    def _grow(self, node: MoveSet, added: tuple[Move, ...]) -> None:
        """Queue every set with one more change than `added`, on top of an answer."""
        if len(node.moves) + len(added) >= DEPTH:
            return
        before = (*node.moves, *added)
        if any(earlier.alone for earlier in before) or (before and self.only is not None):
            return
        used = {earlier.kind for earlier in before}
        for move in self._moves(node):
            if self.only not in (None, move.kind):
                continue
            if move.kind in used or (before and move.alone) or _idle(move, before):
                continue
            if (before and not matters(node.case, move, added)) or misses_ram(node.case, move):
                continue
            if not added or not (move.apart or any(earlier.apart for earlier in added)):
                self._push(node, (*added, move))

    def _push(self, node: MoveSet, added: tuple[Move, ...]) -> None:
        whole = (*node.moves, *added)
        facts = facts_of(whole)
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
        if (
            hopeless(parent.case, added)
            or not self._worth(parent, added)
            or self._ends_short(parent, added)
        ):
            if matters(parent.case, added[-1], added[:-1]):
                self._grow(parent, added)
            return
        node = self._asked(parent, added)
        if node is None or self._waits(node):
            return
        if node.fits == "unknown":
            self._unsure_of.add(facts_of(node.moves))
        if node.fits == "yes":
            self._found(node)
        elif lessens(node, parent) or any(move.kind == "engine" for move in added):
            helps = node.fits == "unknown" and not leaves_short(node, self.root)
            self.maybe += [node] if helps else []
            self._grow(node, ())

    def _waits(self, node: MoveSet) -> bool:
        """Keep a set that fits only with RAM that the user did not confirm; tell if it is."""
        waits = node.fits != "yes" and node.case.verdict.fits == "yes"
        if waits:
            self.maybe.append(node)
            self._waiting += 1
        return waits

    def _worth(self, parent: MoveSet, added: tuple[Move, ...]) -> bool:
        """Return whether a set may be enough. Single changes are all tried unless hopeless, but in
        training not those that save next to nothing while much is missing."""
        if self.case.room is None:
            return True
        if len(parent.moves) + len(added) - self._base == 1:
            slow = self.case.task in SLOW
            return not slow or matters(parent.case, added[0]) or may_do(parent, added[0])
        return parent.case.guessed(added) <= HOPEFUL * self.case.room

    def _better_known(self, some: tuple[Move, ...]) -> bool:
        """Return whether fewer changes are enough, or a smaller step of one of them."""
        points = prices.together(tuple(move.cost for move in some)).price.points
        return any(within(node, some, points) for node in self.good)

    def _asked(self, parent: MoveSet, added: tuple[Move, ...]) -> MoveSet | None:
        """Return the answer with these changes; None if model, engine or card refuses. Sets, and
        changes guessed not to fit surely, are counted first: what does not surely fit by count does
        not in full, and stays counted. What holds the same bytes as a set that failed in full is
        not estimated again."""
        self._tells((*parent.moves, *added))
        several = len(parent.moves) + len(added) - self._base > 1
        least: MoveSet | None = None
        if self._near(parent, added, surely=several):
            least = self._counted(parent, added)
            if least is None or least.fits != "yes":
                return least
        self.left -= 1
        if least is not None and least.case.held in self._short:
            return None
        node = asked(parent, added)
        if least is not None and node is not None and node.fits != "yes":
            self._short.add(least.case.held)
        return node

    def _tells(self, some: tuple[Move, ...]) -> None:
        """Report what is tried next, and how many sets are known so far."""
        self._tries += 1
        trying(lambda: flags(changed(some), ""), self._tries, self._tries + len(self._queue))

    def _near(self, parent: MoveSet, added: tuple[Move, ...], *, surely: bool = False) -> bool:
        """Return whether the high end is guessed to exceed the device, or must be known `surely`;
        False if nothing can be counted."""
        case, room = parent.case, self.case.room
        if case.count_least is None or room is None or self.counts <= 0:
            return False
        return surely or case.guessed(added) * case.verdict.per_device.high > room * parent.held

    def _counted(self, parent: MoveSet, added: tuple[Move, ...]) -> MoveSet | None:
        facts = facts_of((*parent.moves, *added))
        if facts not in self._least:
            self.counts -= 1
            self._least[facts] = counted(parent, added)
        return self._least[facts]

    def _ends_short(self, parent: MoveSet, added: tuple[Move, ...]) -> bool:
        """Return whether even the last step of a graded change is too large by count; or, for a
        step in between, whether the last leaves it as open as no step at all."""
        graded = next((move for move in added if move.graded), None)
        if graded is None:
            return False
        of_kind = [move for move in self._moves(parent) if move.kind == graded.kind]
        last = tuple(of_kind[-1] if move is graded else move for move in added)
        if last == added or not self._near(parent, last):
            return False
        least = self._counted(parent, last)
        if least is None or least.fits != "unknown":
            return least is not None and least.fits == "no"
        if graded is of_kind[0]:
            return False
        before = facts_of((*parent.moves, *(move for move in added if move is not graded)))
        return before in self._unsure_of

    @staticmethod
    def _moves(node: MoveSet) -> tuple[Move, ...]:
        return node.case.memo("moves", lambda: tuple(moves(node.case)))

    def _hardware(self) -> None:
        """Try more or other devices: the first of each kind that is enough."""
        large = questions(self.case) < ASKS[self.case.task]
        without = bool(self.good)
        able = (move for move in devices(self.case) if not hopeless(self.case, (move,)))
        root = MoveSet((), self.case)
        done: set[str] = set()  # kinds that are finished
        most_held = root.held  # by the previous number of devices
        for move in islice(able, 1 if large else None):
            if move.kind in done:
                continue
            self._tells((move,))
            # A larger device is chosen by the need; what several share is found by estimating
            shares = move.kind not in ("larger device", "more RAM")
            node = (tried if shares else asked)(root, (move,))
            if node is not None and node.fits == "yes":
                done.add(move.kind)
                self._found(node)
            elif node is not None and shares and self.case.task in SLOW:
                if node.held > HELPS * most_held:
                    done.add(move.kind)  # almost nothing is shared
                most_held = node.held
        if not without and self.case.task in SLOW and not large:
            for node in together(self.case, [node.moves for node in self.good]):
                self._found(node)

    def _found(self, node: MoveSet) -> None:
        self.good.append(node)
        if self.hears is not None:
            self.hears(tuple(self._chosen()))

    def _chosen(self) -> Iterator[MoveSet]:
        """Yield the cheapest sets first, none that another one beats, few of a kind."""
        chosen: list[MoveSet] = []
        for node in sorted(self.good, key=lambda candidate: candidate.place):
            alike = sum(other.kinds == node.kinds for other in chosen)
            beaten = any(beats(other, node) for other in chosen)
            if alike < OF_A_KIND and not beaten and not (chosen and dear(node)):
                chosen.append(node)
        yield from chosen[: self.most]


def _idle(move: Move, before: tuple[Move, ...]) -> bool:
    """Return whether a change saves nothing more after the others, or one of them after it."""
    return any(move.kind in other.beside or other.kind in move.beside for other in before)


def questions(case: RemedyCase) -> int:
    """Return the number of estimates a search may make: fewer if the model's answers are slow."""
    most = ASKS[case.task]
    return max(FEWEST, min(most, most * MANY // max(1, case.tensors)))


def together(case: RemedyCase, enough: Sequence[tuple[Move, ...]]) -> Iterator[MoveSet]:
    """Yield a set of flags and another device: all flags that cost no quality, the smallest device
    that then fits, and of the flags those that it needs. A dozen estimates at most. Devices from
    the first that is `enough` by itself need none."""
    free: dict[str, Move] = {}
    for move in moves(case):
        if move.kind in FREE and move.kind not in free and move.change.get("shard") not in LESSER:
            free[move.kind] = move
    root = MoveSet((), case)
    flagged = counted(root, tuple(free.values())) if free else None
    if flagged is None:
        return
    alone = {facts_of(some) for some in enough}
    for device in islice(devices(flagged.case), TRIED):
        if facts_of((device,)) in alone:
            return
        if hopeless(flagged.case, (device,)):
            continue
        node = surely(flagged, (device,))
        if node is not None:
            yield _needed(root, node)
            return


def _needed(root: MoveSet, node: MoveSet) -> MoveSet:
    """Return the set without the flags that its device does not need, dearest first."""
    for move in sorted(node.moves, key=lambda change: -change.points):
        others = tuple(change for change in node.moves if change is not move)
        if move.kind not in FREE or len(others) < 2:
            continue
        node = surely(root, others) or node
    return node

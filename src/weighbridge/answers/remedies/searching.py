"""The search over sets of changes: which are asked, in which order, and which of the answers are
told.

Single changes come first, by price; sets of them after that, where no cheap single one fits. What a
set leaves as it is may be too large by itself: then nobody is asked, and only larger sets remain.
What is guessed not to fit surely is counted, and asked in full where the count leaves it open.
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

CHEAP = 20.0  # points: where no single change costs less, sets are looked for, too (assumed)
SLOW = ("train",)  # tasks of which dear single changes wait for cheap sets
DEPTH = 4  # changes of one set
# Sets after which nothing dearer is looked for: a step of training takes its time
ENOUGH: Mapping[str, int] = {"load": 3, "infer": 3, "train": 1}
FEW = 3  # remedies: with no more of them other devices are looked for
OF_A_KIND = 2  # remedies of the same kinds that are told
ASKS: Mapping[str, int] = {"load": 40, "infer": 48, "train": 14}  # questions of one search
MANY = 1500  # tensors: a search over more of them asks less, but for FEWEST questions (assumed)
FEWEST = 2
COUNTS = 3  # counts for each question: they take less than half as long (assumed)
POPPED = 4000  # sets that are looked at, asked or not
HOPEFUL = 1.15  # of a device: sets that are guessed to take more are not asked (assumed)
# Changes of training that leave the result as it is: they are joined with other devices
FREE = ("checkpointing", "loss", "attention", "kernels", "upcast", "sharding")
LESSER = ("zero2",)  # shares out less than others do
TRIED = 4  # devices that are tried with all those flags


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
        self.counts = COUNTS * self.left
        self._tries = 0
        unsure = case.verdict.fits == "unknown"
        self._unsure_of = {facts_of(self.root.moves)} if unsure else set()
        self._short: set[Hashable] = set()  # counts of what did not surely fit in full
        self._least: dict[frozenset[tuple[str, str]], MoveSet | None] = {}
        self.good: list[MoveSet] = []
        self.hears: Callable[[tuple[MoveSet, ...]], None] | None = None  # is told of each of them
        self.maybe: list[MoveSet] = []
        self._waiting = 0  # sets that would do with more RAM than is usual
        self._queue: list[tuple[bool, float, int, MoveSet, tuple[Move, ...]]] = []
        self._order = count()
        self._seen: set[frozenset[tuple[str, str]]] = set()

    def run(self) -> tuple[MoveSet, ...]:
        """Return the sets that are to be told."""
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
        """Return a set with the longest sequences that fit, unless answers take their time."""
        if stopped() or questions(self.case) < ASKS[self.case.task]:
            return node
        with kept_so_far():
            return longest(MoveSet((), self.case), node)
        return node

    def _unsure(self, chosen: tuple[MoveSet, ...]) -> Iterator[MoveSet]:
        """Yield sets that may fit: where nothing surely does, and else the cheapest, where it is
        cheap."""
        ranked = sorted(self.maybe, key=lambda node: node.place)
        if not chosen:
            yield from islice(self._open(ranked), OF_A_KIND)
        elif len(chosen) < self.most:
            cheaper = [node for node in ranked if node.place < chosen[0].place]
            if not any(move.graded for node in cheaper[:1] for move in node.moves):
                yield from islice(self._open(cheaper), 1)

    def _open(self, nodes: Iterable[MoveSet]) -> Iterator[MoveSet]:
        """Yield sets of which it is open whether they fit, those that were counted asked anew."""
        for node in nodes:
            whole: MoveSet | None = node
            if node.counted:
                whole = None
                with kept_so_far():
                    whole = None if stopped() else asked(MoveSet((), self.case), node.moves)
            if whole is not None and whole.fits == "unknown":
                yield whole

    def _done(self, points: float, *, larger: bool) -> bool:
        """Tell whether all that is left is dearer than what was found."""
        if len(self.good) >= self.most:
            return True
        if not larger:
            return False
        cheap = any(node.place[0] <= CHEAP for node in self.good)
        sets = self._waiting + sum(len(node.moves) - self._base > 1 for node in self.good)
        return (cheap and points > CHEAP) or sets >= ENOUGH[self.case.task]

    def _grow(self, node: MoveSet, added: tuple[Move, ...]) -> None:
        """Queue every set of one more change than those of `added` on top of an answer."""
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
        """Keep a set that would do with RAM that nobody said is there."""
        waits = node.fits != "yes" and node.case.verdict.fits == "yes"
        if waits:
            self.maybe.append(node)
            self._waiting += 1
        return waits

    def _worth(self, parent: MoveSet, added: tuple[Move, ...]) -> bool:
        """Tell whether a set may be enough: of single changes all are asked that are not
        hopeless, but in training those that take next to nothing of much that is lacking."""
        if self.case.room is None:
            return True
        if len(parent.moves) + len(added) - self._base == 1:
            slow = self.case.task in SLOW
            return not slow or matters(parent.case, added[0]) or may_do(parent, added[0])
        return parent.case.guessed(added) <= HOPEFUL * self.case.room

    def _better_known(self, some: tuple[Move, ...]) -> bool:
        """Tell whether fewer changes are enough, or less of one of them."""
        points = prices.together(tuple(move.cost for move in some)).price.points
        return any(within(node, some, points) for node in self.good)

    def _asked(self, parent: MoveSet, added: tuple[Move, ...]) -> MoveSet | None:
        """Ask the changed question; None where the model, the engine or the card refuses. Where
        it is guessed not to fit surely it is counted first, and so are sets, of which guesses say
        less. What does not fit surely by count does not so in full, and is left there; what holds
        the same bytes as a set that did not in full is not asked."""
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
        """Tell what is tried next, of the sets that are known so far."""
        self._tries += 1
        trying(lambda: flags(changed(some), ""), self._tries, self._tries + len(self._queue))

    def _near(self, parent: MoveSet, added: tuple[Move, ...], *, surely: bool = False) -> bool:
        """Tell whether the high end is guessed to be more than the device has, or is to be known
        `surely`, where bytes are counted."""
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
        """Tell whether even the last step of a graded change is too much by count; or whether it
        is one between, where the last leaves it as open as no step at all."""
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
        done: set[str] = set()  # kinds of which no more are tried
        most_held = root.held  # by so many devices as were tried before
        for move in islice(able, 1 if large else None):
            if move.kind in done:
                continue
            self._tells((move,))
            # A larger device is chosen by what is needed; of several the share is found by asking
            shares = move.kind not in ("larger device", "more RAM")
            node = (tried if shares else asked)(root, (move,))
            if node is not None and node.fits == "yes":
                done.add(move.kind)
                self._found(node)
            elif node is not None and shares and self.case.task in SLOW:
                if node.held > HELPS * most_held:
                    done.add(move.kind)  # they share next to nothing
                most_held = node.held
        if not without and self.case.task in SLOW and not large:
            for node in together(self.case, [node.moves for node in self.good]):
                self._found(node)

    def _found(self, node: MoveSet) -> None:
        self.good.append(node)
        if self.hears is not None:
            self.hears(tuple(self._chosen()))

    def _chosen(self) -> Iterator[MoveSet]:
        """Yield the cheapest first, without those that another one beats, of different kinds."""
        chosen: list[MoveSet] = []
        for node in sorted(self.good, key=lambda candidate: candidate.place):
            alike = sum(other.kinds == node.kinds for other in chosen)
            beaten = any(beats(other, node) for other in chosen)
            if alike < OF_A_KIND and not beaten and not (chosen and dear(node)):
                chosen.append(node)
        yield from chosen[: self.most]


def _idle(move: Move, before: tuple[Move, ...]) -> bool:
    """Tell whether a change takes nothing more away beside others, or one of them beside it."""
    return any(move.kind in other.beside or other.kind in move.beside for other in before)


def questions(case: RemedyCase) -> int:
    """Count the questions that a search may ask: fewer of a model whose answers take their time."""
    most = ASKS[case.task]
    return max(FEWEST, min(most, most * MANY // max(1, case.tensors)))


def together(case: RemedyCase, enough: Sequence[tuple[Move, ...]]) -> Iterator[MoveSet]:
    """Combine flags and other devices: all flags that cost no quality, the smallest device that
    fits then, and of the flags those that it needs. A dozen questions at most. What is `enough` by
    itself, and all after it, needs none."""
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
    """Leave out the flags that a device can do without, the dearest first."""
    for move in sorted(node.moves, key=lambda change: -change.points):
        others = tuple(change for change in node.moves if change is not move)
        if move.kind not in FREE or len(others) < 2:
            continue
        node = surely(root, others) or node
    return node

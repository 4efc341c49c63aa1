"""Loops that train are left once their rounds are alike: nothing new happens to memory then.

A round is what runs from one head of a loop to the next. Two are alike if they request the same
bytes, one after another, come to the same peak and leave the same behind. After ALIKE rounds in a
row that repeat, one by one or in patterns of a few (accumulated gradients, two optimizers), the
loop ends as if it were done, and the script goes on after it. A loop in which no backward runs is
not touched, nor is a generator's (`yield`). If rounds request the same, and differ only by when
Python's collector frees cycles, their peak has to be settled for MOVED of them.

If rounds differ (images of other sizes, packed lengths, occasional penalties), the loop ends when
its peak has settled: none of the last STILL rounds that trained came higher, and none left more
behind than an earlier round.

Code under `if step % 500 == 0` or `if epoch >= 5` comes in later rounds: before the loop is left,
such a condition is taken to hold once; and of the numbers in `8 if step < 500 else 64` the other is
taken once. Code under another `if` that was never taken was not seen: its lines are reported. The
sizes of what a `for` still has are looked at, as far as there is time, and the largest batch has a
round of its own (ahead.py). Torch-free.
"""

import ast
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from weighbridge.base.records import frozen_record, replace
from weighbridge_lab.trace.ahead import ItemsAhead
from weighbridge_lab.trace.loop_marks import Loop, LoopMarker
from weighbridge_lab.trace.places import ScriptLine, is_own
from weighbridge_lab.trace.tape import Tape

ALIKE = 5  # rounds in a row
TURNS = 64  # rounds of a pattern, at most; also alike rounds that are enough if no optimizer steps
STILL = (
    24  # rounds that trained without a new peak; assumed: 16 to 50 find the same in what was tried
)
MOVED = 12  # rounds with the same requests without a new peak; assumed: the collector of cycles has
# come by then, whose later generations leave little more
REPEATS = 2  # times that a pattern of several rounds must be seen
Look = tuple[Any, ...]


@frozen_record
class LeftLoop:
    """A loop that was left early. `untaken`: lines of conditions under which nothing ran;
    `training`: those of them whose code trains more. `scanned`: all remaining items were looked at,
    and none is larger than those that ran."""

    place: str  # train.py:31
    rounds: int  # of its first run
    times: int = 1
    alike: bool = True
    still: bool = False  # its peak had settled; else, if its rounds differ, --steps ended it
    untaken: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    scanned: bool = False


class Loops:
    """The loops of a program. `worked` returns the runs of backward and the steps of optimizers so
    far. `most`: the user's limit of rounds. `left`: the loops that were left."""

    def __init__(
        self, tapes: Sequence[Tape], worked: Callable[[], tuple[int, int]], most: int | None
    ) -> None:
        self.tapes, self.worked, self.most = tapes, worked, most
        self.written: list[Loop] = []
        self.taken: set[tuple[str, int]] = set()
        self.left: dict[str, LeftLoop] = {}
        self.forced: set[tuple[str, int]] = set()  # conditions that are made to hold once
        self._rounds: dict[int, Rounds] = {}
        self._chosen: dict[tuple[str, int], bool] = {}

    def course(self) -> tuple[int, ...]:
        """Return how far the program has come: its training, and each device's events."""
        return (*self.worked(), *(len(tape.events) for tape in self.tapes))

    def marked(self, tree: ast.Module, path: str) -> ast.Module:
        """Return the tree of a file with our calls added at the heads of its loops."""
        marked: ast.Module = LoopMarker(self.written, path, branches=is_own(path)).visit(tree)
        return ast.fix_missing_locations(marked)

    def each(self, number: int, items: Iterable[Any]) -> Iterator[Any]:
        """Return the iterator that a `for` loop uses."""
        return _Each(iter(items), self, number)

    def starts(self, number: int) -> None:
        """Record that a `while` loop is about to begin."""
        self._rounds[number] = Rounds(self)

    def again(self, number: int, condition: Any) -> Any:
        """Return the condition that a `while` loop uses."""
        if not condition:
            return condition
        return False if self.enough(number, self._rounds[number]) else condition

    def takes(self, number: int, line: int) -> None:
        self.taken.add((self.written[number].path, line))

    def holds(self, number: int, line: int, condition: Any) -> Any:
        """Return the condition that a periodic `if` uses."""
        branch = self.written[number].path, line
        return condition if condition or branch in self.taken else branch in self.forced

    def chooses(self, number: int, line: int, condition: Any) -> bool:
        """Return the condition that chooses a number; once, if that is due, its opposite."""
        choice, way = (self.written[number].path, line), bool(condition)
        before = self._chosen.setdefault(choice, way)
        if way == before and choice in self.forced - self.taken:
            way = not way
        if way != before:
            self.taken.add(choice)
        return way

    def enough(self, number: int, rounds: "Rounds") -> bool:
        """Return whether a loop is left before its next round."""
        if not rounds.enough():
            return False
        loop = self.written[number]
        due = {(loop.path, n) for n in loop.periodic} - self.taken - self.forced
        if due and (rounds.alike or rounds.still):
            rounds.anew()
            self.forced |= due
            return False
        lines = [n for n in loop.branches if (loop.path, n) not in self.taken]
        untaken = {n: str(ScriptLine(loop.path, n)) for n in lines}
        training = tuple(place for n, place in untaken.items() if n in loop.training)
        self.leave(self.place(number), rounds, tuple(untaken.values()), training)
        return True

    def place(self, number: int) -> str:
        loop = self.written[number]
        return str(ScriptLine(loop.path, loop.line))

    def scanned(self, number: int, *, whole: bool) -> None:
        """Record that a left loop's remaining items were looked at; `whole`: all of them."""
        place = self.place(number)
        self.left[place] = replace(self.left[place], scanned=whole)

    def leave(
        self,
        place: str,
        rounds: "Rounds",
        untaken: tuple[str, ...] = (),
        training: tuple[str, ...] = (),
    ) -> None:
        before = self.left.get(place)
        if before is not None:
            still, more = (
                tuple(line for line in old if line in new)
                for old, new in ((before.untaken, untaken), (before.training, training))
            )
            times = before.times + 1
            self.left[place] = replace(before, times=times, untaken=still, training=more)
            return
        self.left[place] = LeftLoop(
            place=place,
            rounds=rounds.count,
            alike=rounds.alike,
            still=rounds.still and not rounds.alike,
            untaken=untaken,
            training=training,
        )


class Rounds:
    """The rounds of a loop, from its head on."""

    def __init__(self, loops: Loops) -> None:
        self.loops = loops
        self.count = -1
        self.alike = self.still = False
        self.peaks = _Peaks()
        self._trained = 0
        self._looks: deque[Look] = deque(maxlen=TURNS * (REPEATS + 1))
        self._worked = loops.worked()
        self._starts = [len(tape.events) for tape in loops.tapes]

    def enough(self) -> bool:
        """Return whether to leave the loop; called at its head."""
        self.count += 1
        worked = self.loops.worked()
        passes, steps = (now - before for now, before in zip(worked, self._worked, strict=True))
        if passes:
            self._trained += 1
        elif not self._trained:  # nothing that trains: nothing to remember
            return False
        if self.count:
            looks = tuple(map(self._look, range(len(self._starts))))
            requests = tuple(requests for requests, *_ in looks)
            self._looks.append((passes, steps, requests, looks))
            self.peaks.add(looks, passes, steps)
        self._worked = worked
        self._starts = [len(tape.events) for tape in self.loops.tapes]
        most = self.loops.most
        if most is not None:
            return self._trained >= most
        turns = [n for n in range(1, TURNS + 1) if self._repeats(n)]
        self.alike = any(self._repeats(n, whole=True) for n in turns)
        self.still = self.peaks.still or any(self.peaks.calm >= max(MOVED, n) for n in turns)
        return self.alike or self.still

    def anew(self) -> None:
        """Start counting anew, since the effect of a forced condition may show in the round after
        it."""
        self._looks.clear()
        self.peaks.rounds = self.peaks.calm = 0

    def _look(self, number: int) -> Look:
        """Return what one device did in the round that ends."""
        tape, start = self.loops.tapes[number], self._starts[number]
        levels, reserves = tape.levels[start:], tape.reserves[start:]
        end = tape.levels[-1] if tape.levels else 0
        requests = tuple(tape.storages[n - 1].nbytes for n in tape.events[start:] if n > 0)
        return hash(requests), max(levels, default=0), max(reserves, default=0), end

    def _repeats(self, turns: int, *, whole: bool = False) -> bool:
        """Return whether the last rounds requested one pattern of `turns` rounds, which trained;
        with `whole`, also whether their peaks repeat. If no optimizer has made a step yet, it may
        do so in the next."""
        pattern = list(self._looks)[-turns:]
        least = max(ALIKE if any(steps for _, steps, *_ in pattern) else TURNS, REPEATS * turns)
        looks = list(self._looks)[-least:]
        if len(looks) < least or not any(passes for passes, *_ in pattern):
            return False
        until = len(looks[0]) - (not whole)
        pairs = zip(looks, looks[turns:], strict=False)
        return all(one[:until] == other[:until] for one, other in pairs)


class _Peaks:
    """The highest memory that rounds reached and left behind, by device; the rounds since it rose
    (`calm`), the rounds that trained (`rounds`), and the `steps` of optimizers."""

    def __init__(self) -> None:
        self.rounds = self.steps = self.calm = 0
        self._highest: tuple[tuple[int, ...], ...] = ()

    @property
    def still(self) -> bool:
        return self.rounds >= STILL and self.steps >= REPEATS

    def add(self, looks: Sequence[tuple[int, ...]], passes: int, steps: int) -> None:
        now = tuple(levels for _, *levels in looks)
        before = self._highest or tuple((0,) * len(levels) for levels in now)
        highest = tuple(tuple(map(max, *pair)) for pair in zip(before, now, strict=True))
        if highest != self._highest:
            self.rounds = self.steps = self.calm = 0
        else:
            self.calm += 1
            self.rounds, self.steps = self.rounds + bool(passes), self.steps + steps
        self._highest = highest


class _Each:
    """An iterator that holds no item, so that only the loop's own variable does."""

    def __init__(self, items: Iterator[Any], loops: Loops, number: int) -> None:
        self._items, self._loops, self._number = items, loops, number
        self._rounds, self._ahead = Rounds(loops), ItemsAhead()

    def __iter__(self) -> "_Each":
        return self

    def __next__(self) -> Any:
        if self._ahead.over:
            raise StopIteration
        if self._loops.enough(self._number, self._rounds):
            return self._largest()
        item = next(self._items)
        self._ahead.saw(item)
        return item

    def _largest(self) -> Any:
        """Return the largest of the remaining items. Raises StopIteration if those that ran were as
        large, if they were looked at before, or if the user limits the rounds."""
        loops = self._loops
        if loops.left[loops.place(self._number)].times > 1 or loops.most is not None:
            raise StopIteration
        largest = self._ahead.look(self._items, loops.course)
        loops.scanned(self._number, whole=self._ahead.whole)
        if largest is None:
            raise StopIteration
        return largest

"""Loops that train are left once their rounds are alike: nothing new happens to memory then.

A round is what runs from one head of a loop to the next. Two are alike where as many requests and
releases came to the same peak and left the same behind. After ALIKE rounds in a row that repeat,
one by one or in turns of a few (accumulated gradients, two optimizers), the loop ends as if it
were through, and the script goes on behind it. A loop in which no backward runs is left alone, and
so is one that hands out what it has (`yield`).

Where rounds differ (images of other sizes, packed lengths, penalties every so often), the loop ends
when its peak is still: none of the last STILL rounds that trained came higher, and none left more
behind than some round before.

What stands under `if step % 500 == 0` comes in every so many rounds: before the loop is left, such
a condition is taken to hold once; and of the numbers in `8 if step < 500 else 64` the other is
taken once. What stands under another `if` that was never taken was not
seen: the lines are told. Torch-free.
"""

import ast
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from weighbridge.base.records import dataclass, replace
from weighbridge_lab.trace.places import SAID, ScriptLine
from weighbridge_lab.trace.tape import Tape

NAME = "__weighbridge_loops__"
ALIKE = 5  # rounds in a row
TURNS = 64  # rounds after which the pattern repeats, at most; alike ones, where no optimizer steps
STILL = (
    24  # rounds that trained without a new peak; assumed: 16 to 50 find the same in what was tried
)
REPEATS = 2  # times that a pattern of several rounds is seen
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
LEAVES = ast.Break | ast.Continue | ast.Return | ast.Raise
NUMBERS = ast.Constant | ast.Name | ast.BinOp | ast.operator | ast.expr_context
Look = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftLoop:
    """A loop that was left early. `untaken` are the lines of conditions under which nothing ran."""

    place: str  # train.py:31
    rounds: int  # of its first time
    times: int = 1
    alike: bool = True
    still: bool = False  # its peak was; else, if its rounds differ, it had as many as --steps says
    untaken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop as it is written, with the lines at which the branches in it begin."""

    path: str
    line: int
    branches: tuple[int, ...]
    periodic: tuple[int, ...]  # those that come in every so many rounds, or in later ones


class Loops:
    """The loops of a program. `worked` counts how often backward has run, and how often an
    optimizer has made a step. `most` rounds are enough, where somebody says so. `left` has what was
    left."""

    def __init__(
        self, tapes: Sequence[Tape], worked: Callable[[], tuple[int, int]], most: int | None
    ) -> None:
        self.tapes, self.worked, self.most = tapes, worked, most
        self.written: list[Loop] = []
        self.taken: set[tuple[str, int]] = set()
        self.left: dict[str, LeftLoop] = {}
        self.forced: set[tuple[str, int]] = set()  # conditions that hold once, or did
        self._rounds: dict[int, Rounds] = {}
        self._chosen: dict[tuple[str, int], bool] = {}

    def marked(self, tree: ast.Module, path: str) -> ast.Module:
        """Put calls of ours at the heads of the loops of a file."""
        marked: ast.Module = _LoopMarker(self.written, path).visit(tree)
        return ast.fix_missing_locations(marked)

    def each(self, number: int, items: Iterable[Any]) -> Iterator[Any]:
        """Return the iterator that a `for` goes through."""
        return _Each(iter(items), self, number)

    def starts(self, number: int) -> None:
        """Note that a `while` is about to begin."""
        self._rounds[number] = Rounds(self)

    def again(self, number: int, condition: Any) -> Any:
        """Return the condition that a `while` goes by."""
        if not condition:
            return condition
        return False if self.enough(number, self._rounds[number]) else condition

    def takes(self, number: int, line: int) -> None:
        self.taken.add((self.written[number].path, line))

    def holds(self, number: int, line: int, condition: Any) -> Any:
        """Return the condition that a periodic `if` goes by."""
        branch = self.written[number].path, line
        return condition if condition or branch in self.taken else branch in self.forced

    def chooses(self, number: int, line: int, condition: Any) -> bool:
        """Return the condition that a number goes by: the other way once, where that is due."""
        choice, way = (self.written[number].path, line), bool(condition)
        before = self._chosen.setdefault(choice, way)
        if way == before and choice in self.forced - self.taken:
            way = not way
        if way != before:
            self.taken.add(choice)
        return way

    def enough(self, number: int, rounds: "Rounds") -> bool:
        """Tell whether a loop is left before its next round."""
        if not rounds.enough():
            return False
        loop = self.written[number]
        due = {(loop.path, n) for n in loop.periodic} - self.taken - self.forced
        if due and (rounds.alike or rounds.still):
            rounds.peaks.rounds = 0
            self.forced |= due
            return False
        untaken = (n for n in loop.branches if (loop.path, n) not in self.taken)
        place = str(ScriptLine(loop.path, loop.line))
        self.leave(place, rounds, tuple(str(ScriptLine(loop.path, n)) for n in untaken))
        return True

    def leave(self, place: str, rounds: "Rounds", untaken: tuple[str, ...] = ()) -> None:
        before = self.left.get(place)
        if before is not None:
            still = tuple(line for line in before.untaken if line in untaken)
            self.left[place] = replace(before, times=before.times + 1, untaken=still)
            return
        self.left[place] = LeftLoop(
            place=place,
            rounds=rounds.count,
            alike=rounds.alike,
            still=rounds.still and not rounds.alike,
            untaken=untaken,
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
        """Tell, at the head of the loop, whether to leave it."""
        self.count += 1
        worked = self.loops.worked()
        passes, steps = (now - before for now, before in zip(worked, self._worked, strict=True))
        if passes:
            self._trained += 1
        elif not self._trained:  # nothing that trains: nothing to remember
            return False
        if self.count:
            looks = tuple(map(self._look, range(len(self._starts))))
            self._looks.append((passes, steps, *looks))
            self.peaks.add(looks, passes, steps)
        self._worked = worked
        self._starts = [len(tape.events) for tape in self.loops.tapes]
        most = self.loops.most
        if most is not None:
            return self._trained >= most
        self.alike = any(map(self._repeats, range(1, TURNS + 1)))
        self.still = self.peaks.still
        return self.alike or self.still

    def _look(self, number: int) -> Look:
        """Describe what one device saw in the round that ends."""
        tape, start = self.loops.tapes[number], self._starts[number]
        levels, reserves = tape.levels[start:], tape.reserves[start:]
        end = tape.levels[-1] if tape.levels else 0
        return len(levels), max(levels, default=0), max(reserves, default=0), end

    def _repeats(self, turns: int) -> bool:
        """Tell whether the last rounds were one pattern of so many, in which it trained. An
        optimizer that has not yet made a step may do so in the next."""
        pattern = list(self._looks)[-turns:]
        least = ALIKE if any(steps for _, steps, *_ in pattern) else TURNS
        looks = list(self._looks)[-max(least, REPEATS * turns) :]
        if len(looks) < max(least, REPEATS * turns) or not any(passes for passes, *_ in pattern):
            return False
        return all(one == other for one, other in zip(looks, looks[turns:], strict=False))


class _Peaks:
    """The highest that rounds came to and left behind, on each device; `rounds` that trained since
    it rose, and `steps` of optimizers."""

    def __init__(self) -> None:
        self.rounds = self.steps = 0
        self._highest: tuple[tuple[int, ...], ...] = ()

    @property
    def still(self) -> bool:
        return self.rounds >= STILL and self.steps >= REPEATS

    def add(self, looks: Sequence[tuple[int, ...]], passes: int, steps: int) -> None:
        now = tuple(levels for _, *levels in looks)
        before = self._highest or tuple((0,) * len(levels) for levels in now)
        highest = tuple(tuple(map(max, *pair)) for pair in zip(before, now, strict=True))
        if highest != self._highest:
            self.rounds = self.steps = 0
        else:
            self.rounds, self.steps = self.rounds + bool(passes), self.steps + steps
        self._highest = highest


class _Each:
    """An iterator that holds nothing: the loop's own variable does."""

    def __init__(self, items: Iterator[Any], loops: Loops, number: int) -> None:
        self._items, self._loops, self._number = items, loops, number
        self._rounds = Rounds(loops)

    def __iter__(self) -> "_Each":
        return self

    def __next__(self) -> Any:
        if self._loops.enough(self._number, self._rounds):
            raise StopIteration
        return next(self._items)


class _LoopMarker(ast.NodeTransformer):
    """Adds the calls, but to loops that yield."""

    def __init__(self, written: list[Loop], path: str) -> None:
        self.written, self.path = written, path
        self.inner: list[int] = []  # numbers of the loops around
        self.counters: list[set[str]] = []  # names that change in each

    def visit_For(self, node: ast.For) -> ast.AST:
        if self._plain(node):
            number = self._write(node)
            node.iter = _call("each", [ast.Constant(number), node.iter], node.iter)
        return self._visited(node)

    def visit_While(self, node: ast.While) -> Any:
        if not self._plain(node):
            return self._visited(node)
        number = self._write(node)
        node.test = _call("again", [ast.Constant(number), node.test], node.test)
        started = ast.Expr(_call("starts", [ast.Constant(number)], node))
        return [ast.copy_location(started, node), self._visited(node)]

    def visit_If(self, node: ast.If) -> ast.AST:
        branches = _branches(node) if self.inner else []
        periodic = bool(self.inner) and _periodic(node)
        self.generic_visit(node)
        if periodic:
            known = [ast.Constant(self.inner[-1]), ast.Constant(node.lineno)]
            node.test = _call("holds", [*known, node.test], node.test)
        for body, line in branches:
            arguments: list[ast.expr] = [ast.Constant(self.inner[-1]), ast.Constant(line)]
            body.insert(0, ast.copy_location(ast.Expr(_call("takes", arguments, node)), body[0]))
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        chooses = bool(self.inner) and _numeric(node, self.counters)
        self.generic_visit(node)
        if chooses:
            known = [ast.Constant(self.inner[-1]), ast.Constant(node.lineno)]
            node.test = _call("chooses", [*known, node.test], node.test)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.AST) -> ast.AST:
        before, self.inner, self.counters = (self.inner, self.counters), [], []
        self.generic_visit(node)
        self.inner, self.counters = before
        return node

    def _plain(self, node: ast.For | ast.While) -> bool:
        inside = chain.from_iterable(map(_within, node.body))
        return not any(isinstance(n, ast.Yield | ast.YieldFrom | ast.Await) for n in inside)

    def _write(self, node: ast.For | ast.While) -> int:
        inside = list(chain.from_iterable(map(_within, node.body)))
        conditions = [n for n in inside if isinstance(n, ast.If)]
        self.counters.append(_counters(node, inside))
        choices = (
            n.lineno for n in inside if isinstance(n, ast.IfExp) and _numeric(n, self.counters)
        )
        lines = tuple(line for n in conditions for _, line in _branches(n))
        periodic = (*(n.lineno for n in conditions if _periodic(n)), *choices)
        self.written.append(Loop(self.path, node.lineno, lines, periodic))
        self.inner.append(len(self.written) - 1)
        return len(self.written) - 1

    def _visited(self, node: ast.For | ast.While) -> ast.AST:
        plain = self._plain(node)
        self.generic_visit(node)
        if plain:
            self.inner.pop()
            self.counters.pop()
        return node


def _branches(node: ast.If) -> list[tuple[list[ast.stmt], int]]:
    """Return the bodies of a condition that call anything but `print`, and the line of each."""
    chained = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
    bodies = [(node.body, node.lineno)]
    if node.orelse and not chained:
        bodies.append((node.orelse, node.orelse[0].lineno))
    return [(body, line) for body, line in bodies if any(map(_works, body))]


def _periodic(node: ast.If) -> bool:
    """Tell whether a condition holds in every so many rounds, and leaves the loop alone."""
    inside = list(chain.from_iterable(map(_within, node.body)))
    if any(isinstance(n, LEAVES) for n in inside) or not any(map(_works, node.body)):
        return False
    return any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod) for n in _within(node.test))


def _counters(node: ast.For | ast.While, inside: Iterable[ast.AST]) -> set[str]:
    """Return the names that count in a loop: that it goes through, or are added to."""
    changed = [n.target for n in inside if isinstance(n, ast.AugAssign)]
    heads = [*changed, *([node.target] if isinstance(node, ast.For) else [])]
    return {n.id for head in heads for n in ast.walk(head) if isinstance(n, ast.Name)}


def _numeric(node: ast.IfExp, counters: Iterable[set[str]]) -> bool:
    """Tell whether an expression chooses between two numbers (names may be some) by comparing what
    counts."""
    compared = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
    if not isinstance(node.test, ast.Compare) or not compared & set().union(*counters):
        return False
    each = [*ast.walk(node.body), *ast.walk(node.orelse)]
    numbers = (n.value for n in each if isinstance(n, ast.Constant))
    plain = all(isinstance(n, NUMBERS) for n in each)
    return plain and all(type(n) is int for n in numbers)


def _works(statement: ast.stmt) -> bool:
    calls = (n.func for n in _within(statement) if isinstance(n, ast.Call))
    return any(getattr(called, "id", "") not in ("print", SAID) for called in calls)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a statement and all in it, but not what functions that are made there do."""
    yield node
    if not isinstance(node, FUNCTIONS):
        for child in ast.iter_child_nodes(node):
            yield from _within(child)


def _call(name: str, arguments: list[ast.expr], like: ast.AST) -> ast.Call:
    owner = ast.Attribute(ast.Name(NAME, ast.Load()), name, ast.Load())
    return ast.copy_location(ast.Call(owner, arguments, []), like)

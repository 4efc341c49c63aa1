"""Marks the loops of a file: calls at their heads, and at the conditions in them, by which
steady.py follows their rounds. Torch-free.

A condition is assumed to hold once before its loop is left if it holds in every n-th round (`step %
500 == 0`), or in later ones (`epoch >= 5`): if it compares what counts in the loop, and does not
leave the loop. Code under a condition that depends on what changes from round to round, and that
trains more (unfreezes, makes an optimizer, another batch), decides what the loop takes.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from weighbridge.base.records import dataclass, replace
from weighbridge_lab.trace.places import SAID

NAME = "__weighbridge_loops__"
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
LEAVES = ast.Break | ast.Continue | ast.Return | ast.Raise
LATER = ast.Gt | ast.GtE | ast.Eq | ast.Lt | ast.LtE
NUMBERS = ast.Constant | ast.Name | ast.BinOp | ast.operator | ast.expr_context
MORE = re.compile(
    r"requires_grad|unfreez|add_param_group|^backward$|^optim$|batch_?size|DataLoader",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop in the source, with the lines at which its branches begin."""

    path: str
    line: int
    branches: tuple[int, ...]
    periodic: tuple[int, ...]  # those that run in every n-th round, or in later ones
    training: frozenset[int]  # branches that may train more in some other round


class LoopMarker(ast.NodeTransformer):
    """Adds the calls to loops, except to those that yield. A library's loops have no marked
    branches."""

    def __init__(self, written: list[Loop], path: str, *, branches: bool = True) -> None:
        self.written, self.path, self.branches = written, path, branches
        self.inner: list[int] = []  # numbers of the enclosing loops
        self.counters: list[set[str]] = []  # names that change in each of them

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
        followed = bool(self.inner) and self.branches
        branches = _branches(node) if followed else []
        periodic = followed and _comes_later(node, self.counters)
        self.generic_visit(node)
        if periodic:
            known = [ast.Constant(self.inner[-1]), ast.Constant(node.lineno)]
            node.test = _call("holds", [*known, node.test], node.test)
        for body, line in branches:
            arguments: list[ast.expr] = [ast.Constant(self.inner[-1]), ast.Constant(line)]
            body.insert(0, ast.copy_location(ast.Expr(_call("takes", arguments, node)), body[0]))
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        chooses = bool(self.inner) and self.branches and _numeric(node, self.counters)
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
        self.counters.append(_counters(node, inside))
        loop = Loop(self.path, node.lineno, (), (), frozenset())
        self.written.append(self._with_branches(loop, node, inside) if self.branches else loop)
        self.inner.append(len(self.written) - 1)
        return len(self.written) - 1

    def _with_branches(
        self, loop: Loop, node: ast.For | ast.While, inside: Iterable[ast.AST]
    ) -> Loop:
        conditions = [n for n in inside if isinstance(n, ast.If)]
        choices = (
            n.lineno for n in inside if isinstance(n, ast.IfExp) and _numeric(n, self.counters)
        )
        later = (n.lineno for n in conditions if _comes_later(n, self.counters))
        changing = _assigned(node)
        trains = (
            line
            for n in conditions
            for body, line in _branches(n)
            if _names(n.test) & changing and _trains_more(body)
        )
        return replace(
            loop,
            branches=tuple(line for n in conditions for _, line in _branches(n)),
            periodic=(*later, *choices),
            training=frozenset(trains),
        )

    def _visited(self, node: ast.For | ast.While) -> ast.AST:
        plain = self._plain(node)
        self.generic_visit(node)
        if plain:
            self.inner.pop()
            self.counters.pop()
        return node


def _branches(node: ast.If) -> list[tuple[list[ast.stmt], int]]:
    """Return (body, line) of a condition's branches that call anything but `print`."""
    chained = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
    bodies = [(node.body, node.lineno)]
    if node.orelse and not chained:
        bodies.append((node.orelse, node.orelse[0].lineno))
    return [(body, line) for body, line in bodies if any(map(_works, body))]


def _comes_later(node: ast.If, counters: Iterable[set[str]]) -> bool:
    """Return whether a condition holds in every n-th round or in later ones, and does not leave the
    loop."""
    inside = list(chain.from_iterable(map(_within, node.body)))
    if any(isinstance(n, LEAVES) for n in inside) or not any(map(_works, node.body)):
        return False
    if any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod) for n in _within(node.test)):
        return True
    if not isinstance(node.test, ast.Compare) or not isinstance(node.test.ops[0], LATER):
        return False
    sides = [node.test.left, *node.test.comparators]
    if any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in sides):
        return False
    counted = set().union(*counters)
    return any(
        all(isinstance(n, NUMBERS) for n in ast.walk(one)) and _names(one) & counted
        for one in sides
    )


def _trains_more(body: Iterable[ast.stmt]) -> bool:
    """Return whether code may train more than what ran: other parameters, optimizers or batches."""
    inside = list(chain.from_iterable(map(_within, body)))
    if any(isinstance(n, LEAVES) for n in inside):
        return False
    names = (getattr(n, "attr", getattr(n, "id", getattr(n, "arg", ""))) for n in inside)
    return any(MORE.search(name) for name in names if isinstance(name, str))


def _assigned(node: ast.For | ast.While) -> set[str]:
    """Return the names that a loop assigns."""
    inside = ast.walk(node)
    return {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _counters(node: ast.For | ast.While, inside: Iterable[ast.AST]) -> set[str]:
    """Return the counters of a loop: its own targets, and names that it adds to."""
    changed = [n.target for n in inside if isinstance(n, ast.AugAssign)]
    heads = [*changed, *([node.target] if isinstance(node, ast.For) else [])]
    return {n.id for head in heads for n in ast.walk(head) if isinstance(n, ast.Name)}


def _numeric(node: ast.IfExp, counters: Iterable[set[str]]) -> bool:
    """Return whether an expression chooses between two numbers (or names) by comparing a
    counter."""
    if not isinstance(node.test, ast.Compare) or not _names(node.test) & set().union(*counters):
        return False
    each = [*ast.walk(node.body), *ast.walk(node.orelse)]
    numbers = (n.value for n in each if isinstance(n, ast.Constant))
    plain = all(isinstance(n, NUMBERS) for n in each)
    return plain and all(type(n) is int for n in numbers)


def _works(statement: ast.stmt) -> bool:
    calls = (n.func for n in _within(statement) if isinstance(n, ast.Call))
    return any(getattr(called, "id", "") not in ("print", SAID) for called in calls)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a statement and everything in it, except bodies of functions defined there."""
    yield node
    if not isinstance(node, FUNCTIONS):
        for child in ast.iter_child_nodes(node):
            yield from _within(child)


def _call(name: str, arguments: list[ast.expr], like: ast.AST) -> ast.Call:
    owner = ast.Attribute(ast.Name(NAME, ast.Load()), name, ast.Load())
    return ast.copy_location(ast.Call(owner, arguments, []), like)

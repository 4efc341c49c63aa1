"""Whether the program itself would catch an error, were it raised now: then it is raised.

The statements around each line that runs are read in its source. A handler catches what its class
names, but not where it ends in `raise` or leaves the process: that only says more of the end. Of a
line whose source is not here, nothing is known: it catches nothing. Torch-free.
"""

import ast
import linecache
import os
from collections.abc import Iterator, Sequence
from functools import cache
from types import CodeType, FrameType
from typing import Any

OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
SUPPRESSING = ("suppress", "raises")  # contextlib's, pytest's
LEAVING = ("exit", "_exit", "quit", "abort")
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
Around = ast.Try | ast.TryStar | ast.With | ast.AsyncWith


def catches(kind: type[BaseException], frame: FrameType | None, until: CodeType) -> bool:
    """Tell whether a frame from `frame` outwards, up to the code `until`, would catch `kind`."""
    while frame is not None and frame.f_code is not until:
        if not frame.f_code.co_filename.startswith(OURS):
            for node in _around(frame.f_code.co_filename, frame.f_lineno):
                if any(_named(kind, expression, frame) for expression in _caught(node)):
                    return True
        frame = frame.f_back
    return False


def _caught(node: Around) -> Iterator[ast.expr | None]:
    """Yield the classes that a statement catches for good; None is all of them."""
    if isinstance(node, ast.Try | ast.TryStar):
        for handler in node.handlers:
            if not _goes_out(handler.body):
                yield handler.type
        return
    for item in node.items:
        call = item.context_expr
        if isinstance(call, ast.Call) and _name(call.func) in SUPPRESSING:
            yield from call.args


def _goes_out(body: Sequence[ast.stmt]) -> bool:
    last = body[-1]
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return _name(last.value.func) in LEAVING
    return isinstance(last, ast.Raise)


def _name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _named(kind: type[BaseException], expression: ast.expr | None, frame: FrameType) -> bool:
    """Tell whether the class, or one of the classes, that an expression names there is one of
    `kind`."""
    if expression is None:
        return True
    code = compile(ast.Expression(expression), "<handler>", "eval")
    try:
        caught: Any = eval(code, frame.f_globals, frame.f_locals)
        return issubclass(kind, caught)
    except Exception:  # whatever its names mean, it is somebody's handler
        return True


def _around(path: str, line: int) -> list[Around]:
    """Return what stands around a line, within the innermost function that it is in."""
    statements: list[Around] = []
    nodes: Sequence[ast.AST] = _parsed(path)
    while nodes:
        inner = [node for node in nodes if _covers(node, line)]
        for node in inner:
            if isinstance(node, FUNCTIONS):
                statements.clear()
            elif isinstance(node, Around) and any(_covers(s, line) for s in node.body):
                statements.append(node)
        nodes = [child for node in inner for child in ast.iter_child_nodes(node)]
    return statements


@cache
def _parsed(path: str) -> Sequence[ast.AST]:
    source = "".join(linecache.getlines(path))
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError):
        return ()


def _covers(node: ast.AST, line: int) -> bool:
    first, last = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
    if first is None or last is None:  # handlers' lists, operators: what they hold has lines
        return any(_covers(child, line) for child in ast.iter_child_nodes(node))
    return bool(first <= line <= last)

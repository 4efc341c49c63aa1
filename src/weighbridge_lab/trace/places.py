"""Places where a program looks at an unknown value, and what the user says that it is.

A look is at an expression, of the innermost function that is neither torch's nor ours; its place is
the program's own line, if there is one.

A turn is where the course of a script depended on such a value: each way out of a loop, of a
function or of the script under an `if` or in a loop's condition reports that it was taken.
Afterwards we find which of them depend on a look: by names that were assigned what was looked at,
or that were assigned anything where that decided. Torch-free.
"""

import ast
import linecache
import operator
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from types import FrameType, TracebackType

import weighbridge
from weighbridge.base.records import NamedTuple, dataclass, frozen_record

LONGEST = 80  # characters of a line that is shown
PATHS = sysconfig.get_paths()
LIBRARIES = tuple({PATHS[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
# libraries installed by a user or a distribution
INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
OURS = (
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    os.path.dirname(os.path.abspath(weighbridge.__file__)) + os.sep,
    "<frozen",
)
COMMAND = os.path.join(OURS[1], "faces", "cli")  # a command that calls it is no line of a program
TORCH = f"{os.sep}torch{os.sep}"
# files of libraries that loop over batches; those of OTHERWISE are left by other means
LOOPING = re.compile(r"(?:^|/)\w*(?:loops?|engine|trainer|learner|runner)(?:/\w+)?\.py$")
OTHERWISE = ("torch", "torchvision", "transformers", "trl", "weighbridge")
COMPARED: dict[str, Callable[[float, float], bool]] = {
    name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")
}


@frozen_record
class ValueQuestion:
    """Looks of one kind at one place. `told`: the value that the first of them got."""

    place: str  # train.py:31
    code: str  # the line
    op: str
    told: str
    times: int
    assumed: bool = False  # by the user


Assume = Mapping[str, float] | Callable[[ValueQuestion], float | None]


@dataclass(frozen=True, slots=True)
class ValuePlace:
    """A place, and the expressions in which its value is looked at, innermost first."""

    path: str
    line: int
    code: str
    expressions: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the place as users write it: train.py:31"""
        return f"{os.path.basename(self.path)}:{self.line}"


class ScriptLine(NamedTuple):
    """A line of the program's own files, not a library's or ours."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.path)}:{self.line}"


@cache
def is_own(path: str) -> bool:
    """Return whether a file is the program's own, not a library's or ours."""
    return not path.startswith(OURS) and not is_library(path) and TORCH not in path


def is_library(path: str) -> bool:
    return path.startswith(LIBRARIES) or any(folder in path for folder in INSTALLED)


def trains(path: str) -> bool:
    """Return whether a library's file loops over batches, by its name: loops/fit_loop.py,
    engine.py, trainer.py. torch has none, and transformers' loops are left by its callbacks."""
    folder = next((folder for folder in INSTALLED if folder in path), None)
    if folder is None:
        return False
    package, _, below = path.rpartition(folder)[2].lstrip(os.sep).partition(os.sep)
    return package not in OTHERWISE and bool(LOOPING.search(below.replace(os.sep, "/")))


def line() -> ScriptLine | None:
    """Return the innermost running line of the program's own files, None without one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.startswith(COMMAND):
        if is_own(frame.f_code.co_filename):
            return ScriptLine(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and the errors that caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def ended(trace: TracebackType | None) -> ScriptLine | None:
    """Return the program's own line that an error came from, the last in its traceback; None
    without one."""
    last = None
    while trace is not None:
        if is_own(trace.tb_frame.f_code.co_filename):
            last = ScriptLine(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return last


def seen() -> ValuePlace:
    """Return the place in the program that is now looking at a value."""
    frames = list(_outside(sys._getframe(1)))
    program_frames = [f for f in frames if not is_library(f.f_code.co_filename)]
    frame = (program_frames or frames or [sys._getframe(1)])[0]
    path, line = frame.f_code.co_filename, frame.f_lineno
    asking = dict.fromkeys([*frames[:1], frame])
    code = linecache.getline(path, line).strip()[:LONGEST]
    return ValuePlace(path, line, code, tuple(map(_expression, asking)))


def _outside(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(OURS) and TORCH not in path:
            yield frame
        frame = frame.f_back


def _expression(frame: FrameType) -> str:
    """Return the source of what runs in a frame: of the instruction, else of the line."""
    positions = list(frame.f_code.co_positions())
    first, last, start, end = positions[frame.f_lasti // 2]
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    if first is None or first != last or start is None:
        return line.strip()
    return line.encode()[start:end].decode(errors="replace")


def assumed(assume: Assume, place: ValuePlace, look: ValueQuestion) -> float | None:
    """Return the user's value for a name in the expression, or for a line ("train.py:31"); None
    without one."""
    if not isinstance(assume, Mapping):
        return assume(look)
    for name, value in assume.items():
        if name == place.name:
            return value
        word = rf"(?<!\w){re.escape(name)}(?!\w)"
        if ":" not in name and any(re.search(word, text) for text in place.expressions):
            return value
    return None


# ---- turns

SAID = "__weighbridge_turned__"
ENDS = ("exit", "quit", "_exit")
WAYS = (
    "{place}: `{code}` was told {told}, so the run left {what} at line {line}; "
    "--assume NAME=VALUE sets it"
)
Branch = ast.If | ast.While


class Turns:
    """The turns of one script: `prepared` returns its tree with calls, `taken` has what these
    reported."""

    def __init__(self) -> None:
        self.path = ""
        self.tree = ast.Module(body=[], type_ignores=[])
        self.taken: dict[tuple[int, int], str] = {}  # lines of a condition and of the way out

    def prepared(self, source: bytes, path: str) -> ast.Module:
        self.path, self.tree = path, ast.parse(source)
        marked: ast.Module = _Marker().visit(ast.parse(source))
        return ast.fix_missing_locations(marked)

    def say(self, condition: int, line: int, what: str) -> None:
        self.taken.setdefault((condition, line), what)

    def lines(self, looks: Iterable[tuple[ValuePlace, ValueQuestion]]) -> Iterator[str]:
        """Yield a sentence for each way out that a look decided."""
        questions = {
            place.line: look
            for place, look in looks
            if place.path == self.path and not look.assumed
        }
        decided = _decided(self.tree, questions) if self.taken and questions else {}
        for (condition, line), what in self.taken.items():
            look = decided.get(condition)
            if look is not None:
                yield WAYS.format(
                    place=look.place, code=look.code, told=look.told, what=what, line=line
                )


class _Marker(ast.NodeTransformer):
    """Adds a call before each way out under a condition."""

    def __init__(self) -> None:
        self.conditions: list[int] = []

    def visit_If(self, node: ast.If) -> ast.If:
        self.conditions.append(node.lineno)
        node.body = self._block(node.body)
        node.orelse = self._block(node.orelse)
        self.conditions.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        before, self.conditions = self.conditions, []
        self.generic_visit(node)
        self.conditions = before
        return node

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        marked: list[ast.stmt] = []
        for statement in body:
            what = _way(statement)
            if what:
                arguments = ", ".join(map(repr, (self.conditions[-1], statement.lineno, what)))
                call = ast.parse(f"{SAID}({arguments})").body[0]
                marked.append(ast.copy_location(call, statement))
            marked.append(self.visit(statement))
        return marked


def _way(statement: ast.stmt) -> str:
    """Return what a statement leaves (a loop, a function, the script); "" if it leaves nothing."""
    if isinstance(statement, ast.Break):
        return "a loop"
    if isinstance(statement, ast.Return):
        return "a function"
    if isinstance(statement, ast.Raise):
        return "with an error"
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return "the script" if called_name(statement.value) in ENDS else ""
    return ""


def called_name(call: ast.Call) -> str:
    """Return the last word of a call's function: "exit" for `sys.exit(1)`."""
    called = call.func
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _decided(tree: ast.Module, questions: dict[int, ValueQuestion]) -> dict[int, ValueQuestion]:
    """Return conditions by line, with the look that each depends on. Names are compared as spelled,
    whatever function they are in."""
    names: dict[str, ValueQuestion] = {}
    while True:
        before = len(names)
        conditions = {n.lineno: look for n, look in _hanging(tree, questions, names)}
        _given(tree, questions, names)
        for node, look in _hanging(tree, questions, names):
            for inner in (*node.body, *node.orelse):
                for name in _targets(ast.walk(inner)):
                    names.setdefault(name, look)
        if len(names) == before:
            return conditions


def _hanging(
    tree: ast.Module, questions: dict[int, ValueQuestion], names: dict[str, ValueQuestion]
) -> Iterator[tuple[Branch, ValueQuestion]]:
    for node in ast.walk(tree):
        if isinstance(node, Branch):
            look = _of(node.test, questions, names)
            if look is not None:
                yield node, look


def _given(
    tree: ast.Module, questions: dict[int, ValueQuestion], names: dict[str, ValueQuestion]
) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
            look = _of(node.value, questions, names)
            if look is not None:
                names |= dict.fromkeys(_targets([node]), look) | names


def _of(
    value: ast.expr, questions: dict[int, ValueQuestion], names: dict[str, ValueQuestion]
) -> ValueQuestion | None:
    """Return the look in an expression, or whose result it uses; None without one."""
    for line in range(value.lineno, (value.end_lineno or value.lineno) + 1):
        if line in questions:
            return questions[line]
    for node in ast.walk(value):
        if isinstance(node, ast.Name | ast.Attribute):
            look = names.get(ast.unparse(node))
            if look is not None:
                return look
    return None


def _targets(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names and attributes that are assigned."""
    for node in nodes:
        for part in ast.walk(node):
            if isinstance(part, ast.Name | ast.Attribute) and isinstance(part.ctx, ast.Store):
                yield ast.unparse(part)

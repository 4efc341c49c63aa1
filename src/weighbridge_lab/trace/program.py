"""Somebody's program, run in this process as `python` would run it: a script, one function of it,
or a module (`python -m`).

`sys.argv`, `sys.path[0]`, `__main__` and the collector's thresholds are as Python has them
meanwhile, and as before afterwards.

An error that the program itself would catch, were it raised now, is raised: `catches` reads the
statements around each line that runs in its source. A handler catches what its class names, but not
where it ends in `raise` or leaves the process: that only says more of the end. Of a line whose
source is not here, nothing is known: it catches nothing. Torch-free.
"""

import ast
import builtins
import contextlib
import gc
import io
import linecache
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from functools import cache, update_wrapper
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from types import CodeType, FrameType
from typing import Any, ParamSpec, TypeVar

from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge_lab.trace import notebooks
from weighbridge_lab.trace.loop_marks import FUNCTIONS, NAME
from weighbridge_lab.trace.places import SAID, Turns, called_name, is_own, trains
from weighbridge_lab.trace.steady import Loops

COLLECT_EVERY = (700, 10, 10)  # Python's own: when cycles are freed decides what they hold


# Errors that the program would catch

OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
SUPPRESSING = ("suppress", "raises")  # contextlib's, pytest's
PROGRAMS = (".py", notebooks.SUFFIX)
DATA = (
    *(".json", ".yaml", ".yml", ".toml", ".safetensors", ".gguf", ".bin"),
    *(".pt", ".pth", ".ckpt", ".sh", ".md"),
)
LEAVING = ("exit", "_exit", "quit", "abort")
P = ParamSpec("P")
T = TypeVar("T")
SLOTS = 1 << 17  # of 8 bytes, not touched: their chunk, with what Python adds, is 2 MiB
NETS = ast.FunctionDef | ast.ClassDef  # nodes that may define a module
Around = ast.Try | ast.TryStar | ast.With | ast.AsyncWith


@frozen_record
class Request:
    """A program to run, with the arguments of its `sys.argv`. `script` is a module's name if
    `module` is set. `then` receives the function, which is not called then."""

    script: str
    function: str | None = None
    module: bool = False
    arguments: tuple[str, ...] = ()
    then: Callable[[Any], None] | None = None


def request(
    target: str,
    arguments: Sequence[str],
    *,
    module: bool = False,
    then: Callable[[Any], None] | None = None,
) -> Request:
    """Return the request in "train.py", "train.py:step" or, with `module`, "package.module"; with
    `then`, in "net.py:Net", or "net.py" for a file with one class. Raises NotFoundError."""
    if module:
        return Request(script=target, module=True, arguments=tuple(arguments))
    path, colon, name = target.rpartition(":")
    if os.path.exists(target) or not (colon and name.isidentifier()):
        path, name = target, ""
    _startable(path, name)
    if name or then is not None:
        name = _defined(path, name, ast.FunctionDef if then is None else NETS)
    return Request(script=path, function=name or None, arguments=tuple(arguments), then=then)


def _startable(path: str, name: str) -> None:
    """Raise UsageError or NotFoundError for a path that is no Python file."""
    path = path if name else path.rstrip(":")
    if os.path.isfile(path) and not path.lower().endswith(DATA):
        return
    if path.startswith("-"):
        raise UsageError(sentence("trace.no_option", name=path))
    if path.endswith(PROGRAMS) or (os.sep in path and not os.path.exists(path)):
        raise NotFoundError(sentence("trace.no_script"), where=path)
    raise NotFoundError(sentence("trace.no_program", name=path), where=path)


def _defined(path: str, name: str, kinds: Any) -> str:
    """Return the name `name` if the file defines it; without a name, that of its only class. Raises
    an error for others."""
    with open(path, "rb") as file:
        source = file.read()
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise UsageError(f"{path}: line {error.lineno}: {error.msg}") from None
    name = name or _only_class(path, body)
    names = [defined for node in body for defined in _names(node, kinds)]
    if name not in names:
        if kinds is not NETS and name in (net for node in body for net in _names(node, NETS)):
            raise UsageError(sentence("trace.net_first", net=f"{path}:{name}"))
        nets = (node.name for node in body if isinstance(node, ast.ClassDef))
        known = ", ".join(dict.fromkeys((*names, *nets))) or "none"
        raise NotFoundError(sentence("trace.not_defined", path=path, name=name, known=known))
    return name


def _only_class(path: str, body: Sequence[ast.stmt]) -> str:
    """Return the name of a file's only class; "" without one. Raises UsageError for several."""
    classes = [node.name for node in body if isinstance(node, ast.ClassDef)]
    if len(classes) > 1:
        known, example = ", ".join(classes), f"{path}:{classes[-1]}"
        raise UsageError(sentence("trace.which_net", path=path, known=known, example=example))
    return "".join(classes)


def _names(node: ast.stmt, kinds: Any) -> Iterator[str]:
    """Yield the names of `kinds` that a statement defines; a net may also be assigned."""
    if isinstance(node, kinds):
        yield node.name
    elif isinstance(node, ast.Assign) and kinds == NETS:
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


@contextlib.contextmanager
def as_python(request: Request) -> Iterator[types.ModuleType]:
    """Prepare Python for a program, inside the block. Yield its `__main__`, which must be read
    inside."""
    before = sys.argv, sys.path[:], sys.modules["__main__"], gc.get_threshold()
    sys.argv = [request.script, *request.arguments]
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd() if request.module else os.path.dirname(_real(request.script))
    if request.script.endswith(notebooks.SUFFIX):
        sys.path.insert(0, os.getcwd())  # where its cells write files
    gc.set_threshold(*COLLECT_EVERY)
    try:
        yield _main(request)
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = before[:3]
        gc.set_threshold(*before[3])


def roomy(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that has a mebibyte for the frames of what it calls.

    CPython keeps frames in chunks of 16 KiB, asks the system for one whenever a call crosses the
    end of the last, and gives it back when that returns (Python/pystate.c: push_chunk): a third of
    the time of a program whose every operation crosses it. A frame that says that it needs more has
    a chunk of twice as much, and those above it the other half.
    """

    def above(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    above.__code__ = above.__code__.replace(co_stacksize=SLOTS)
    return update_wrapper(above, function)


@roomy
def execute(
    request: Request,
    main: types.ModuleType,
    turns: Turns | None = None,
    loops: Loops | None = None,
) -> None:
    """Run a program. Raises what it raises, including SystemExit."""
    if request.module:
        exec(_code_of_module(request.script, main), main.__dict__)
        return
    with io.open_code(os.path.abspath(request.script)) as file:
        source = file.read()
    path = main.__file__ or ""
    if path.endswith(notebooks.SUFFIX):
        source = notebooks.source(source, path)
        main.__dict__.setdefault("display", print)
    code = compile(source, path, "exec", dont_inherit=True)
    if turns is not None:
        main.__dict__[SAID] = turns.say
        tree = turns.prepared(source, path)
        code = compile(loops.marked(tree, path) if loops else tree, path, "exec", dont_inherit=True)
    exec(code, main.__dict__)
    if request.function is not None:
        function = vars(main)[request.function]
        function() if request.then is None else request.then(function)


@contextlib.contextmanager
def following(loops: Loops) -> Iterator[None]:
    """Follow the loops of the program's own files and of libraries' trainers, inside the block;
    their compiled files are neither read nor written."""
    code_of = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> types.CodeType | None:
        path = loader.get_filename(name)
        if not is_own(path) and not trains(path):
            return code_of(loader, name)
        tree = loops.marked(ast.parse(loader.get_data(path), path), path)
        code: types.CodeType = compile(tree, path, "exec", dont_inherit=True)
        return code

    setattr(builtins, NAME, loops)
    setattr(SourceFileLoader, "get_code", get_code)  # noqa: B010  a patch
    try:
        yield
    finally:
        delattr(SourceFileLoader, "get_code")  # it is its parent's
        delattr(builtins, NAME)


def _real(path: str) -> str:
    return os.path.realpath(path)


def _main(request: Request) -> types.ModuleType:
    """Return a new module `__main__`. If only one function is wanted, it has the file's name
    instead, so that code under `if __name__ == "__main__"` does not run."""
    stem = os.path.splitext(os.path.basename(request.script))[0]
    module = types.ModuleType("__main__" if request.function is None else stem)
    module.__dict__["__builtins__"] = __builtins__
    module.__spec__ = None
    if not request.module:
        module.__file__ = os.path.abspath(request.script)
    if request.function is None:
        sys.modules["__main__"] = module
    return module


def _code_of_module(name: str, main: types.ModuleType) -> types.CodeType:
    """Return the code of a module, or of a package's `__main__`, as `runpy` finds it."""
    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(f"{name}.__main__")
    code = None if spec is None else getattr(spec.loader, "get_code", lambda _: None)(spec.name)
    if spec is None or code is None:
        raise ImportError(f"No module named {name}")
    main.__spec__, main.__file__, main.__package__ = spec, spec.origin, spec.parent
    sys.argv[0] = spec.origin or name
    compiled: types.CodeType = code
    return compiled


def catches(kind: type[BaseException], frame: FrameType | None, until: CodeType) -> bool:
    """Return whether a frame from `frame` outwards, up to the code `until`, would catch `kind`."""
    while frame is not None and frame.f_code is not until:
        if not frame.f_code.co_filename.startswith(OURS):
            for node in _around(frame.f_code.co_filename, frame.f_lineno):
                if any(_named(kind, expression, frame) for expression in _caught(node)):
                    return True
        frame = frame.f_back
    return False


def _caught(node: Around) -> Iterator[ast.expr | None]:
    """Yield the classes that a statement catches without raising again; None stands for all."""
    if isinstance(node, ast.Try | ast.TryStar):
        for handler in node.handlers:
            if not _goes_out(handler.body):
                yield handler.type
        return
    for item in node.items:
        call = item.context_expr
        if isinstance(call, ast.Call) and called_name(call) in SUPPRESSING:
            yield from call.args


def _goes_out(body: Sequence[ast.stmt]) -> bool:
    last = body[-1]
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return called_name(last.value) in LEAVING
    return isinstance(last, ast.Raise)


def _named(kind: type[BaseException], expression: ast.expr | None, frame: FrameType) -> bool:
    """Return whether a class in an `except` expression of a frame catches `kind`."""
    if expression is None:
        return True
    code = compile(ast.Expression(expression), "<handler>", "eval")
    try:
        caught: Any = eval(code, frame.f_globals, frame.f_locals)
        return issubclass(kind, caught)
    except Exception:  # whatever its names mean, it is somebody's handler
        return True


def _around(path: str, line: int) -> list[Around]:
    """Return the statements around a line, inside its innermost function."""
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
    if first is None or last is None:  # handlers' lists, operators: their children have lines
        return any(_covers(child, line) for child in ast.iter_child_nodes(node))
    return bool(first <= line <= last)

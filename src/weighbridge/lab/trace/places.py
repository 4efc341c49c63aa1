"""Places where a program looks at a value that is not known, and what the user says that it is.

A look is at an expression, of the innermost function that is neither torch's nor ours; its place is
the program's own line, where there is one. Torch-free.
"""

import linecache
import operator
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import FrameType, TracebackType
from typing import NamedTuple

LONGEST = 80  # signs of a line that is shown
PATHS = sysconfig.get_paths()
LIBRARIES = tuple({PATHS[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
TORCH = f"{os.sep}torch{os.sep}"
COMPARED: dict[str, Callable[[float, float], bool]] = {
    name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueQuestion:
    """One kind of question for a value, at one place. `told` is what it was told first."""

    place: str  # train.py:31
    code: str  # the line
    op: str
    told: str
    times: int
    assumed: bool = False  # the user said what


Assume = Mapping[str, float] | Callable[[ValueQuestion], float | None]


@dataclass(frozen=True, slots=True)
class ValuePlace:
    """A place, and the expressions in which its value is asked for, the innermost first."""

    path: str
    line: int
    code: str
    expressions: tuple[str, ...]

    @property
    def name(self) -> str:
        """Spell the place as users do: train.py:31"""
        return f"{os.path.basename(self.path)}:{self.line}"


class ScriptLine(NamedTuple):
    """One line of the program's own, which is neither in a library nor ours."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.path)}:{self.line}"


@cache
def is_own(path: str) -> bool:
    """Tell whether a file is the program's: no library's, and not ours."""
    return not path.startswith((OURS, "<frozen", *LIBRARIES)) and TORCH not in path


def line() -> ScriptLine | None:
    """Return the innermost line of the program's own that runs now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_own(frame.f_code.co_filename):
            return ScriptLine(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def ended(trace: TracebackType | None) -> ScriptLine | None:
    """Return the program's own line that an error came from: the last in its traceback."""
    last = None
    while trace is not None:
        if is_own(trace.tb_frame.f_code.co_filename):
            last = ScriptLine(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return last


def seen() -> ValuePlace:
    """Find the line that asks now."""
    frames = list(_outside(sys._getframe(1)))
    program_frames = [f for f in frames if not f.f_code.co_filename.startswith(LIBRARIES)]
    frame = (program_frames or frames or [sys._getframe(1)])[0]
    path, line = frame.f_code.co_filename, frame.f_lineno
    asking = dict.fromkeys([*frames[:1], frame])
    code = linecache.getline(path, line).strip()[:LONGEST]
    return ValuePlace(path, line, code, tuple(map(_expression, asking)))


def _outside(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith((OURS, "<frozen")) and TORCH not in path:
            yield frame
        frame = frame.f_back


def _expression(frame: FrameType) -> str:
    """Return the text of what runs in a frame: that of the instruction, else of the line."""
    positions = list(frame.f_code.co_positions())
    first, last, start, end = positions[frame.f_lasti // 2]
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    if first is None or first != last or start is None:
        return line.strip()
    return line.encode()[start:end].decode(errors="replace")


def assumed(assume: Assume, place: ValuePlace, look: ValueQuestion) -> float | None:
    """Return what the user says of a name in the expression, or of a line ("train.py:31")."""
    if not isinstance(assume, Mapping):
        return assume(look)
    for name, value in assume.items():
        if name == place.name:
            return value
        word = rf"(?<!\w){re.escape(name)}(?!\w)"
        if ":" not in name and any(re.search(word, text) for text in place.expressions):
            return value
    return None

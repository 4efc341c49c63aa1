"""Whether a program would catch what is raised: the real interpreter is asked for the truth."""

import sys
from textwrap import dedent, indent

import pytest

from weighbridge_lab.trace.program import catches


class NoMemoryError(RuntimeError):
    pass


CASES = {
    "nobody": ("probe()", False),
    "itself": ("try:\n    probe()\nexcept NoMemoryError:\n    pass", True),
    "a parent": ("try:\n    probe()\nexcept (OSError, RuntimeError):\n    pass", True),
    "everything": ("try:\n    probe()\nexcept:\n    pass", True),
    "another": ("try:\n    probe()\nexcept ValueError:\n    pass", False),
    "a caller": ("def f():\n    probe()\ntry:\n    f()\nexcept RuntimeError:\n    pass", True),
    "its words": ("try:\n    probe()\nexcept RuntimeError as e:\n    if e.args: x = 1", True),
    "and goes out": ("try:\n    probe()\nexcept RuntimeError:\n    x = 1\n    raise", False),
    "and leaves": ("try:\n    probe()\nexcept RuntimeError:\n    sys.exit(1)", False),
    "in a handler": ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    probe()", False),
    "in else": ("try:\n    x = 1\nexcept RuntimeError:\n    pass\nelse:\n    probe()", False),
    "at last": ("try:\n    probe()\nfinally:\n    x = 1", False),
    "made there": (
        "try:\n    def f():\n        probe()\nexcept RuntimeError:\n    pass\nf()",
        False,
    ),
    "suppressed": ("with contextlib.suppress(RuntimeError):\n    probe()", True),
    "another one": ("with contextlib.suppress(ValueError):\n    probe()", False),
}


def execute(code, names):
    exec(code, names)


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_is_what_python_does(tmp_path, name):
    text, caught = CASES[name]
    path = tmp_path / "s.py"
    path.write_text(f"import contextlib, sys\n{indent(dedent(text), '')}\n")
    code = compile(path.read_text(), str(path), "exec")
    said = []

    def ask():
        said.append(catches(NoMemoryError, sys._getframe(1), execute.__code__))

    def fail():
        raise NoMemoryError("no")

    try:
        execute(code, {"probe": fail, "NoMemoryError": NoMemoryError})
        really = True
    except (NoMemoryError, SystemExit):
        really = False
    execute(code, {"probe": ask, "NoMemoryError": NoMemoryError})
    assert said == [caught] and really == caught


def test_beyond_the_program_nobody_is_asked(tmp_path):
    """What runs the program catches everything."""
    path = tmp_path / "s.py"
    path.write_text("probe()\n")
    said = []
    try:
        execute(
            compile("probe()\n", str(path), "exec"),
            {"probe": lambda: said.append(catches(OSError, sys._getframe(1), execute.__code__))},
        )
    except OSError:
        raise AssertionError from None
    assert said == [False]

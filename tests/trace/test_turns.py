"""Which ways out of a script a look decided. No torch: looks are given by line."""

import contextlib
import types
from textwrap import dedent

import pytest

from tests.cases import all_of
from weighbridge.faces import api
from weighbridge_lab.trace.places import Turns, ValuePlace, ValueQuestion, assumed, is_own
from weighbridge_lab.trace.program import Request, execute


def ran(tmp_path, text, *lines):
    """What is said of a script in which a value was looked at in these lines."""
    path = tmp_path / "s.py"
    path.write_text(dedent(text).lstrip())
    main = types.ModuleType("__main__")
    main.__file__ = str(path)
    turns = Turns()
    with contextlib.suppress(SystemExit):
        execute(Request(script=str(path)), main, turns)
    looks = []
    for line in lines:
        look = ValueQuestion(place=f"s.py:{line}", code="x", op="item", told="0", times=1)
        looks.append((ValuePlace(str(path), line, "x", ("x",)), look))
    return list(turns.lines(looks))


PATIENCE = """
    best, bad = 9, 0
    for epoch in range(9):
        value = 0
        if value < best:
            best, bad = value, 0
        else:
            bad += 1
        if bad >= 2:
            break
"""


def test_patience_that_ran_out_hangs_on_what_was_looked_at(tmp_path):
    (line,) = ran(tmp_path, PATIENCE, 3)
    assert line.startswith("s.py:3: `x` was told 0, so the run left a loop at line 9")
    assert ran(tmp_path, PATIENCE) == [] and ran(tmp_path, PATIENCE, 1)


def test_a_way_that_was_not_taken_is_not_said(tmp_path):
    assert ran(tmp_path, PATIENCE.replace(">= 2", ">= 99"), 3) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import sys\nif 0 < 1:\n    sys.exit(0)", "the script"),
        ("def f():\n    if 0 < 1:\n        return\n    return 2\nf()", "a function"),
        ("while True:\n    if 0 < 1:\n        break", "a loop"),
    ],
)
def test_each_way_out(tmp_path, text, what):
    (line,) = ran(tmp_path, text, 2)
    assert f"left {what} at line 3" in line


def test_what_is_not_of_the_look_is_left_alone(tmp_path):
    text = """
        loss = 0
        for step in range(9):
            if step > 3:
                break
        print(loss)
    """
    assert ran(tmp_path, text, 1, 5) == []


def test_names_are_whole_words_and_lines_are_places():
    at = ValuePlace("/a/train.py", 31, "x", ("losses.item()", "step(outputs.loss)"))
    look = ValueQuestion(place=at.name, code="x", op="item", told="0", times=0)
    assert assumed({"loss": 2.0}, at, look) == 2.0
    assert assumed({"outputs.loss": 3.0}, at, look) == 3.0
    assert assumed({"los": 2.0}, at, look) is None
    assert assumed({"train.py:31": 4.0}, at, look) == 4.0
    assert assumed(lambda look: 5.0, at, look) == 5.0


@all_of(
    ("path", "own"),
    [
        ("/home/me/train.py", True),
        ("/root/.local/lib/python3.11/site-packages/timm/layers/norm.py", False),
        ("/usr/lib/python3/dist-packages/yaml/__init__.py", False),
        ("/home/me/my-site-packages/train.py", True),
        (contextlib.__file__, False),
        (api.__file__, False),  # ours, also where it is not installed
    ],
)
def test_what_is_installed_is_no_code_of_the_program_s_own(path, own):
    assert is_own(path) is own

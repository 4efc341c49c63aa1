"""The count of the house: on a small one that is counted by hand, and the page that shows ours."""

import subprocess
import sys
from pathlib import Path

import pytest
from tools import house

ROOT = Path(__file__).parent.parent
FILES = {
    "__init__.py": "from weighbridge.upper import ask\n",
    "lower.py": 'X = 1\n\n\ndef of(a: int) -> int:\n    """Of a number."""\n    return a\n',
    "middle/__init__.py": "",
    "middle/one.py": "from weighbridge import lower\n",
    "middle/two.py": (
        "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from weighbridge.upper import ask\n"
    ),
    "upper.py": "from weighbridge.middle.one import lower\nfrom weighbridge.lower import X\n",
}


@pytest.fixture
def small(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "src" / "weighbridge" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_room_stands_above_what_it_imports(small):
    """A name that a module only passes on, and an import for types alone, lead nowhere else."""
    counted = house.House(small)
    assert counted.floors == [["lower"], ["middle"], ["upper"]]
    assert counted.arrows == {("middle", "lower"): 1, ("upper", "lower"): 1, ("upper", "middle"): 1}
    assert counted.up == set()
    assert counted.readers["middle.one"] == {"upper"}
    assert counted.readers["middle.two"] == set()


def test_the_lightest_arrow_of_a_circle_leads_up(small):
    lower = small / "src" / "weighbridge" / "lower.py"
    lower.write_text("def late():\n    from weighbridge.middle import two\n    return two\n")
    (lower.parent / "middle" / "two.py").write_text("import weighbridge.lower\n")
    counted = house.House(small)
    assert counted.up == {("lower", "middle")}
    assert counted.floors[0] == ["lower"]


def test_each_line_is_of_one_kind(small):
    table = "ROWS = {\n    1: 1,\n    2: 2,\n    3: 3,\n}\n"
    text = f'"""A module."""\n\nimport os\n\n# why\n{table}x = 2  # not a line of comment\n'
    kinds = house.lines_by_kind(house.Module("x", text))
    assert kinds == {
        "docstrings": 1,
        "blank": 2,
        "imports": 1,
        "comments": 1,
        "tables": 5,
        "statements": 1,
    }


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("def f(): return 1", 0),
        ("def f(a):\n for x in a:\n  if x and a or x: return [y for y in a if y]", 5),
        ("def f(a):\n try: pass\n except OSError: pass\n while a: a = 1 if a else 0", 3),
    ],
)
def test_a_branch_is_where_a_function_goes_one_way_or_another(text, count):
    assert house.branches(house.Module("x", text).tree) == count


@pytest.mark.parametrize(("ifs", "lines", "found"), [(13, 61, ["x.f"]), (12, 60, [])])
def test_functions_are_branched_or_long_above_the_limit(ifs, lines, found):
    branched = house.Module("x", "def f():\n" + " if a: pass\n" * ifs)
    long = house.Module("x", "def f():\n a\n" + " a\n" * lines)
    assert house.branched(branched) == house.long_functions(long) == found


@pytest.mark.house
def test_the_picture_of_the_house_is_current():
    text = house.PAGE.read_text()
    assert house.page(text, "floors") == text, "run make house"
    command = [sys.executable, "-m", "tools.house", "--check", "way"]  # of a new process
    assert subprocess.run(command, cwd=ROOT).returncode == 0, "run make house"

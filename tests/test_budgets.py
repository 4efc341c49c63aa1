"""Budgets of the house: counted by hand on a small one, broken on purpose, and kept by ours."""

import pytest
from tools import budgets
from tools.house import ROOT, House, Module

FILES = {
    "lower.py": 'X = 1\n\n\ndef of(found: int) -> int:\n    """Of a number."""\n    told = found\n    return told\n',
    "upper.py": "from weighbridge.lower import X\n",
}
TABLE = """[house]
floors = 2
[lines]  # a comment
lower = 200
upper = 100
[vague]
lower = 300
[unkeyed]
lower = 1
"""


@pytest.fixture
def small(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "src" / "weighbridge" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "commands.md").write_text("")
    return House(tmp_path)


def test_figures_of_a_small_house(small):
    figures = budgets.counted(small)
    assert figures["floors"] == 2
    assert figures["modules"] == 2
    assert figures["lines.lower"] == 7
    assert figures["vague.lower"] == round(1000 * 2 / 7, 1)  # found and told are bound once each
    assert figures["vague.upper"] == 0
    assert figures["riddles"] == 1  # "Of a number."


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("def f(): return 1", 0),
        ("def f(a):\n for x in a:\n  if x and a or x: return [y for y in a if y]", 5),
        ("def f(a):\n try: pass\n except OSError: pass\n while a: a = 1 if a else 0", 3),
    ],
)
def test_a_branch_is_where_a_function_goes_one_way_or_another(text, count):
    assert budgets.branches(Module("x", text).tree) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("raise UsageError('the card is gone')", 1),
        ("raise errors.UsageError(f'{x} is no card')", 1),
        ("raise UsageError(sentence('card_gone', card=x))", 0),
        ("raise ValueError('the card is gone')", 0),  # of Python, which nobody reads
        ("raise UsageError(name)", 0),
        ("def f():\n yield f'{x} is not counted'", 1),
        ("def f():\n yield f'{x} and {y}'", 0),  # no sentence of ours
        ("reading.warn('it is left out')\nnotes.append('it is left out')", 2),
        ("names.append('it is left out')\nnotes.append('two words')", 0),
    ],
)
def test_a_sentence_without_a_key_is_one_that_code_says_in_english(text, count):
    assert budgets.unkeyed(Module("x", text)) == count


def test_lines_of_a_program_are_no_sentences():
    text = 'def f():\n    yield "from datasets import load_dataset"\n    raise UsageError("no such a thing")'
    assert [budgets.unkeyed(Module(name, text)) for name in ("x", budgets.CODE[0])] == [2, 1]


def test_a_module_is_long_and_a_function_branched_above_the_limit(small):
    ifs = "".join(f" if {n}: pass\n" for n in range(9))
    path = small.source / "upper.py"
    path.write_text(f"def f():\n{ifs}" + "\n" * 391)
    figures = budgets.counted(House(small.source.parent.parent))
    assert (figures["branched_functions"], figures["long_modules"]) == (1, 1)
    path.write_text(f"def f():\n{ifs.removeprefix(' if 0: pass' + chr(10))}" + "\n" * 391)
    figures = budgets.counted(House(small.source.parent.parent))
    assert (figures["branched_functions"], figures["long_modules"]) == (0, 0)


def test_a_figure_above_its_budget_is_named_with_what_to_do():
    (line,) = budgets.broken({"floors": 2, "lines.lower": 201}, budgets.budgets(TABLE))
    assert line == f"lines.lower: 201 is above the budget of 200; {budgets.MEND}"


def test_a_new_room_has_no_budget():
    assert budgets.broken({"lines.attic": 1}, budgets.budgets(TABLE))


def test_a_budget_is_raised_with_a_reason():
    row = '[[raised]]\nfigure = "lines.lower"\nby = 1\nreason = "{}"\n'
    allowed = budgets.budgets(TABLE + row.format("a new cache"))
    assert not budgets.broken({"lines.lower": 201}, allowed)
    assert budgets.broken({"lines.lower": 202}, allowed)
    with pytest.raises(ValueError, match=r"lines\.lower is raised without a reason"):
        budgets.budgets(TABLE + row.format(" "))


def test_budgets_are_lowered_and_never_raised_by_themselves():
    figures = {"floors": 3, "lines.lower": 101, "lines.upper": 7, "vague.lower": 0}
    text = budgets.lowered(TABLE, figures)
    assert budgets.budgets(text) == {
        "floors": 2,
        "lines.lower": 200,
        "lines.upper": 100,
        "vague.lower": 0,
    }
    assert budgets.broken({"unkeyed.lower": 2, "unkeyed.upper": 1}, budgets.budgets(TABLE)) != []
    assert (
        budgets.budgets(budgets.lowered(TABLE, figures | {"lines.lower": 100}))["lines.lower"]
        == 100
    )
    gone = budgets.budgets(budgets.lowered(TABLE, {"floors": 1, "lines.lower": 1}))
    assert gone == {"floors": 1, "lines.lower": 100}


@pytest.mark.house
def test_the_house_keeps_its_budgets():
    figures = budgets.counted(House(ROOT))
    assert budgets.broken(figures, budgets.budgets(budgets.TABLE.read_text())) == []

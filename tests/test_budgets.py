"""Budgets of the house: counted by hand on a small one, broken on purpose, and kept by ours."""

import pytest
from tools import budgets
from tools.house import House, Module, read_house

from tests.cases import all_of

FILES = {
    "lower.py": 'X = 1\n\n\ndef of(a: int) -> int:\n    """Of a number."""\n    b = a\n    return b\n',
    "upper.py": "from weighbridge.lower import X\n",
}
TABLE = """[ceiling]  # a comment
lines = 200
nodes = 1000
[house]
floors = 2
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
    assert figures["ceiling.lines"] == 8
    # modules 2, the import 2, X = 1 has 4; the function's head 7, its text 2, b = a 5, return 3
    assert figures["ceiling.nodes"] == 25


@all_of(
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


def test_the_laboratory_is_not_below_the_ceiling(small):
    before = budgets.counted(small)
    path = small.source.with_name("weighbridge_lab") / "tape.py"
    path.parent.mkdir()
    path.write_text("X = 1\n" * 1000)
    after = budgets.counted(House(small.source.parent.parent))
    assert [after[x] - before[x] for x in ("ceiling.lines", "ceiling.nodes")] == [0, 0]


def test_a_figure_above_its_budget_is_named_with_what_to_do():
    (line,) = budgets.broken({"floors": 2, "ceiling.lines": 201}, budgets.budgets(TABLE))
    assert line == f"ceiling.lines: 201 is above the budget of 200; {budgets.MEND}"


def test_a_room_without_a_budget_has_none_of_it():
    assert budgets.broken({"unkeyed.attic": 1}, budgets.budgets(TABLE))


def test_the_lower_one_of_two_ceilings_holds():
    shared = "[ceiling]\nlines = 150\nnodes = 2000\n[aims]\nlines = 1\n"
    allowed = budgets.budgets(TABLE, shared)
    assert (allowed["ceiling.lines"], allowed["ceiling.nodes"]) == (150, 1000)
    assert budgets.broken({"ceiling.lines": 151}, allowed)
    assert not budgets.broken({"ceiling.lines": 150, "ceiling.nodes": 1000}, allowed)


def test_budgets_are_lowered_and_never_raised():
    """The ceiling stays: what is counted would leave no room for the next change."""
    figures = {"floors": 3, "ceiling.lines": 101, "ceiling.nodes": 1001, "unkeyed.lower": 1}
    assert budgets.lowered(TABLE, figures) == TABLE
    assert budgets.broken({"unkeyed.lower": 2}, budgets.budgets(TABLE)) != []
    gone = budgets.budgets(budgets.lowered(TABLE, {"floors": 1, "ceiling.lines": 1}))
    assert gone == {"floors": 1, "ceiling.lines": 200, "ceiling.nodes": 1000}


@pytest.mark.house
def test_the_house_keeps_its_budgets():
    assert budgets.broken(budgets.counted(read_house()), budgets.ours()) == []

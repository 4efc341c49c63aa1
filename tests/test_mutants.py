"""The sample of changed signs (tools/mutants.py): what can be changed, and that each change has a switch."""

import ast
from pathlib import Path

import pytest
from tools import mutants

from tests.cases import all_of

SOURCE = '''"""Docstring: 1 + 1."""
from typing import Literal
MOST: Literal[7] = 7
def price(a: int, b=2) -> Literal[1]:
    match a:
        case 3:
            return f"{a + 4}"
    return "x" + str(a) if a < 5 < b else a * b - 1
'''


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mutants, "PACKAGE", tmp_path)
    (tmp_path / "room").mkdir()
    path = tmp_path / "room" / "one.py"
    path.write_text(SOURCE)
    return path


def run(text: str, active: int) -> dict[str, object]:
    tree = ast.parse(text)
    assert "import on as _mutant" in ast.unparse(tree.body.pop(1)), "after the docstring"
    names: dict[str, object] = {"_mutant": lambda number: number == active}
    exec(compile(tree, "one.py", "exec"), names)
    return names


def test_annotations_patterns_and_texts_stay_as_they_are(source: Path) -> None:
    found = [(one.line, one.was, one.becomes) for one in mutants.mutants(source)]
    assert found == [
        (3, "7", "8"),
        (4, "2", "3"),
        (8, "a < 5 < b", "a <= 5 < b"),
        (8, "5", "6"),
        (8, "a * b - 1", "a * b + 1"),
        (8, "a * b", "a + b"),
        (8, "1", "2"),
    ]


def test_each_change_is_made_by_its_own_switch(source: Path) -> None:
    text = mutants.with_switches(source, {place: place for place in range(7)})
    told = [
        (names["MOST"], *(names["price"](a, *b) for a, b in ((6, ()), (5, (9,)))))  # type: ignore[operator]
        for names in (run(text, active) for active in range(-1, 7))
    ]
    assert told == [
        (7, 11, 44),
        (8, 11, 44),
        (7, 17, 44),
        (7, 11, "x5"),
        (7, 11, "x5"),
        (7, 13, 46),
        (7, 7, 13),
        (7, 10, 43),
    ]


def test_the_same_seed_draws_the_same(source: Path) -> None:
    drawn = mutants.drawn(["room"], 3, 5)
    assert len(set(drawn)) == 3
    assert drawn == mutants.drawn(["room"], 3, 5) == mutants.drawn(["room/one"], 3, 5)
    assert len(mutants.drawn(["room"], 99, 5)) == 7


@all_of(
    ("file", "tests"),
    [
        ("weighbridge/answers/verdict/on_devices.py", ["tests/verdict"]),
        ("weighbridge/engines/vllm/rules.py", ["tests/engines", "tests/launch"]),
        ("weighbridge/answers/questions/fit/search.py", ["tests/questions/fit"]),
        ("weighbridge/answers/questions/jobs.py", ["tests/questions"]),
        ("weighbridge_lab/trace/gpu.py", ["tests/trace", "tests/evidence", "tests/measure"]),
        ("weighbridge/training/forward/ops/norm.py", ["tests/forward", "tests/training"]),
    ],
)
def test_a_mutant_is_asked_of_the_innermost_room_that_has_tests(
    file: str, tests: list[str]
) -> None:
    assert mutants.near(mutants.Mutant(file, 0, 1, "1", "2")) == tests

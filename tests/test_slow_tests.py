"""The list of slow tests is written from times (tools/slow_tests.py), of tests that -m leaves out no
cases are made, and a run does not do what costs all tests (tests/conftest.py)."""

import gc
from pathlib import Path

import pytest
from hypothesis.internal.conjecture import providers
from tools import slow_tests

from tests.cases import all_of
from tests.conftest import COLLECT_EVERY, NIGHT, may_be_selected

HERE = Path(__file__).relative_to(slow_tests.ROOT)


def test_a_case_is_listed_if_it_is_slow_and_a_test_if_most_of_its_cases_are(tmp_path):
    path = tmp_path / "slow.txt"
    path.write_text("")
    times = {"a.py::test_x[1]": 0.01, "a.py::test_x[2 b]": 0.04, "a.py::test_y": 0.03}
    times |= {"a.py::test_z[1]": 0.2, "a.py::test_z[2]": 0.3, "a.py::test_z[3]": 0.03}
    slow_tests.write_list(times, path)
    assert path.read_text() == "a.py::test_x[2 b]\na.py::test_z\n"


def test_a_listed_test_stays_if_it_was_not_run_and_exists(tmp_path):
    path = tmp_path / "slow.txt"
    mine = f"{HERE}::test_a_listed_test_stays_if_it_was_not_run_and_exists"
    path.write_text(f"a.py::test_quick\n{HERE}::test_gone\n{mine}\n{mine}[a case]\n")
    slow_tests.write_list({"a.py::test_quick[1]": 0.01}, path)
    assert path.read_text() == f"{mine}\n{mine}[a case]\n"


def test_times_are_measured_in_reverse_order_too(tmp_path, monkeypatch):
    path = tmp_path / "times.json"
    path.write_text("")
    monkeypatch.setenv(slow_tests.TIMES, str(path))
    for took, order, left in ((0.3, [1, 2], 0.3), (0.2, [2, 1], 0.2), (0.4, [2, 1], 0.2)):
        cases = [1, 2]
        slow_tests.pytest_collection_modifyitems(cases)
        assert cases == order
        monkeypatch.setattr(slow_tests, "seconds", {"a.py::test_x": took})
        slow_tests.pytest_sessionfinish()
        assert slow_tests._earlier_times() == {"a.py::test_x": left}


@all_of(
    ("expression", "marks", "selected"),
    [
        ("not slow and not house", {"slow"}, False),
        ("not slow and not house", {"house", "parametrize"}, False),
        ("not slow and not house", {"whole"}, True),
        ("slow and not nightly", set(), True),  # a case may be slow
        ("slow and not nightly", {"slow", "nightly"}, False),
        ("slow or not slow", {"slow"}, True),
        ("not slow and not another", {"slow"}, True),
        ("", {"slow"}, True),
    ],
)
def test_cases_are_made_if_one_may_be_selected(expression, marks, selected):
    assert may_be_selected(expression, marks) is selected


@pytest.mark.skipif(NIGHT, reason="the night draws them")
def test_examples_do_not_go_by_which_modules_are_imported():
    assert len(providers._get_local_constants()) == 0


def test_garbage_is_looked_for_among_what_tests_make_and_seldom():
    assert gc.get_threshold()[0] == COLLECT_EVERY
    assert gc.get_freeze_count() > COLLECT_EVERY

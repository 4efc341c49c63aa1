"""Write tests/slow.txt: the tests of the fast suite that take more than 0.03 s of CPU, and the
cases where half of a test's or fewer do.

    python -m tools.slow_tests            measure the fast suite on one core, and write the list

A case counts with the lower of two runs. The second one is in reverse order, so that no test counts
for being the first that fills a cache. Lines of tests that cannot run here stay as they are: they
need an extra.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIST = ROOT / "tests" / "slow.txt"
MOST = 0.03  # seconds of CPU, child processes included
TIMES = "WEIGHBRIDGE_CPU_TIMES"  # the file of times; while it is set, tests/conftest.py has no list
seconds: dict[str, float] = {}  # id of a case -> seconds, in this process


def _earlier_times() -> dict[str, float]:
    return dict(json.loads(Path(os.environ[TIMES]).read_text() or "{}"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _earlier_times():
        items.reverse()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    before = sum(os.times()[:4])
    yield  # a test that fails or is skipped ends here
    seconds[item.nodeid] = sum(os.times()[:4]) - before


def pytest_sessionfinish() -> None:
    earlier = _earlier_times()
    least = {case: min(took, earlier.get(case, took)) for case, took in seconds.items()}
    Path(os.environ[TIMES]).write_text(json.dumps(least))


def measure() -> dict[str, float]:
    """Return the seconds of each case of the fast suite: case id -> seconds."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tools.slow_tests", "-n", "0"]
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(2):
            subprocess.run(command, cwd=ROOT, env={**os.environ, TIMES: file.name}, check=True)
        return dict(json.loads(Path(file.name).read_text()))


def write_list(times: Mapping[str, float], path: Path = LIST) -> None:
    """Write what is above the limit: a test if more than half of its cases are, else those cases.
    Keep listed lines of tests that have no times."""
    cases = Counter(test_of(case) for case in times)
    above = [case for case, took in times.items() if took > MOST]
    slow = Counter(test_of(case) for case in above)
    most = {test for test, count in slow.items() if 2 * count > cases[test]}
    lines = most | {case for case in above if test_of(case) not in most}
    listed = path.read_text().splitlines()
    lines |= {line for line in listed if test_of(line) not in cases and _exists(test_of(line))}
    path.write_text("".join(f"{line}\n" for line in sorted(lines)))


def test_of(case: str) -> str:
    return case.partition("[")[0]


def _exists(test: str) -> bool:
    file, name = ROOT / test.partition("::")[0], test.rpartition("::")[2]
    return file.exists() and f"def {name}(" in file.read_text()


if __name__ == "__main__":
    write_list(measure())

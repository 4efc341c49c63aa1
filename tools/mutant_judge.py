"""A plugin of pytest that `tools/mutants.py` runs its tests with: who notices which mutant?

The tests are collected once. A first child runs them all and notes which come by which switch;
then a child for each mutant, with its switch on, runs those, cheap ones first, and then whatever
else is in their files, where a fixture or a cache may have hidden that they come by it.
"""

import functools
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from _pytest.main import pytest_runtestloop as run_tests

FOLDER = Path(os.environ["MUTANTS"])
NOTES = FOLDER / "notes.txt"
SPENT = FOLDER / "spent.json"  # seconds of each test that passes
SECONDS = float(os.environ["MUTANT_SECONDS"])
PATIENCE = min(1200.0, 60 + 4 * SECONDS)  # for one mutant: what never ends is noticed

_spent: dict[str, float] = {}
_broken: set[str] = set()
_file: list[str] = []  # whose tests run


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _spent[report.nodeid] = _spent.get(report.nodeid, 0.0) + report.duration
    if report.failed:
        _broken.add(report.nodeid)


def pytest_runtest_setup(item: pytest.Item) -> None:
    file = item.nodeid.partition("::")[0]
    if "MUTANT" not in os.environ and _file != [file]:
        _file[:] = [file]
        _forget()


def _forget() -> None:
    """What an earlier file left in caches hides what this one comes by."""
    for one in _caches():
        one.cache_clear()


@functools.cache
def _caches() -> list[Any]:
    kind = functools._lru_cache_wrapper
    return [
        one
        for one in gc.get_objects()
        if isinstance(one, kind) and str(one.__module__).startswith(("weighbridge", "tests"))
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    from weighbridge import _switches

    chosen = json.loads((FOLDER / "chosen.json").read_text())
    for file in dict.fromkeys(one[0] for one in chosen):
        name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        importlib.import_module(name)
    _caches()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    _in_child(lambda: _recorded(session))
    _switches.NOTES = ""
    del os.environ["MUTANT_NOTES"]
    passed, spent = _passed(), json.loads(SPENT.read_text())
    items = {item.nodeid: item for item in session.items}
    broken = [one for one in items if one not in spent]
    survivors = 0
    for number, (file, _, line, was, becomes) in enumerate(chosen):
        tests = passed.get(number, [])
        if "" in tests:
            near = _near(file, spent)
            asked = sum(one.partition("::")[0] in near for one in spent)
            code = _alone(session, number, near, broken)
        else:
            order = _order(tests, spent)
            asked = len(order)
            code = _in_child(lambda n=number, o=order: _judged(session, n, [items[i] for i in o]))
        survivors += code == 0
        verdict = "SURVIVES" if code == 0 else "noticed "
        reporter.write_line(f"{verdict}  {file}:{line}  {was}  ->  {becomes}  ({asked} tests)")
    (FOLDER / "survivors").write_text(str(survivors))
    return True


def _in_child(work: Callable[[], int]) -> int:
    """The exit code of some work in a child; 1 where it was ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)
    return 1 if os.waitpid(child, 0)[1] else 0


def _quiet(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    session.config.pluginmanager.unregister(reporter)


def _recorded(session: pytest.Session) -> int:
    _quiet(session)
    run_tests(session)
    SPENT.write_text(json.dumps({k: v for k, v in _spent.items() if k not in _broken}))
    return 0


def _passed() -> dict[int, list[str]]:
    """The tests that came by each switch; "" is the import."""
    passed: dict[int, list[str]] = {}
    for line in NOTES.read_text().splitlines() if NOTES.exists() else ():
        number, _, test = line.partition(" ")
        passed.setdefault(int(number), []).append(test.rpartition(" ")[0])
    return passed


def _order(tests: Iterable[str], spent: dict[str, float]) -> list[str]:
    def cheap(some: Iterable[str]) -> list[str]:
        return sorted((one for one in some if one in spent), key=lambda one: spent[one])

    first = cheap(dict.fromkeys(tests))
    files = {one.partition("::")[0] for one in first}
    order = [*first, *cheap({one for one in spent if one.partition("::")[0] in files} - {*first})]
    total, kept = 0.0, []
    for one in order:
        total += spent[one]
        if total > SECONDS:
            break
        kept.append(one)
    return kept


def _judged(session: pytest.Session, number: int, items: list[pytest.Item]) -> int:
    from weighbridge import _switches

    os.environ["MUTANT"], _switches.ACTIVE = str(number), number
    _forget()
    signal.alarm(round(PATIENCE))
    session.items[:] = items
    session.config.option.maxfail = 1
    _quiet(session)
    if items:
        run_tests(session)
    return 1 if session.testsfailed else 0


def _near(file: str, spent: dict[str, float]) -> list[str]:
    """Files of tests within the seconds of a mutant, those first that name the module."""
    cost: dict[str, float] = {}
    for test, seconds in spent.items():
        name = test.partition("::")[0]
        cost[name] = cost.get(name, 0.0) + seconds
    path = Path(file.removesuffix("/__init__.py"))

    def distance(name: str) -> tuple[int, float]:
        text = f"{name} {Path(name).read_text()}"
        return (path.stem not in text) + (path.parent.name not in text), cost[name]

    total, kept = 0.0, []
    for one in sorted(cost, key=distance):
        total += cost[one]
        if kept and total > SECONDS:
            break
        kept.append(one)
    return kept


def _alone(session: pytest.Session, number: int, files: list[str], broken: list[str]) -> int:
    """Asks in a process that imports the package with the switch on."""
    without = [f"--deselect={one}" for one in broken]
    line = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
    line += ["-m", session.config.option.markexpr]
    env = {**os.environ, "MUTANT": str(number)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        done = subprocess.run(
            [*line, *without, *files], env=env, timeout=PATIENCE, check=False, **quiet
        )
    except subprocess.TimeoutExpired:
        return 1
    return 0 if done.returncode == 0 else 1

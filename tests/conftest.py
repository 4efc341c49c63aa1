"""Facts that hold for all tests, and work that a run of them does once: it shares out what is to be
compiled, and lets the collector of garbage pass by what every test keeps."""

import gc
import importlib
import inspect
import os
import signal
import zlib
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path

import huggingface_hub.constants  # its settings are read once: the session's, not a test's # noqa: F401
import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from weighbridge.models.sources import search

TESTS = Path(__file__).parent
# A busy machine is no reason to fail: what `deadline` bounds is the time of one example. Examples are
# the same ones in every run, so that a change fails for what it changed; the night draws new ones.
NIGHT = bool(os.environ.get("WEIGHBRIDGE_NIGHT"))
settings.register_profile("house", deadline=None, derandomize=not NIGHT)
settings.load_profile("house")
# Hypothesis also draws the constants that it reads in all modules of ours that are imported: seconds
# of every run, and examples that go by which other tests run. The night has them.
if not NIGHT:
    providers._get_local_constants = lambda: providers._local_constants
# A script that starts a run in the background has it ignore SIGINT, and every process that a test
# starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


WHOLE = ("nightly", "whole")  # marks of tests whose cases were chosen where they stand
SEVERAL = 3  # cases of a test beside torch, up to which all of them run
NEAR = os.environ.get("WEIGHBRIDGE_NEAR")  # file with the output of tools/near.py
MOST_NEAR = 500  # tests near the change that the gate runs; of more, it runs a share
SHARE = 16  # the gate runs one of so many tests that are not near the change, always the same ones
# Tests whose cases take half a minute or more: the gate runs them only near the change
EXPENSIVE = ("tests/evidence/", "tests/contract/test_doors.py")
SHOWN = 0.005  # seconds of a setup that --durations shows
COLLECT_EVERY = 50_000  # objects: Python looks for garbage every 700, a fifteenth of all time
# Tests and cases that take more than 0.05 s by measurement (`make slow-list`): slow without a mark.
# While they are measured (tools/slow_tests.py), none is.
MEASURING = "WEIGHBRIDGE_CPU_TIMES" in os.environ
MEASURED_SLOW = frozenset(() if MEASURING else (TESTS / "slow.txt").read_text().splitlines())


def _send_what_is_shown(config):
    """Have a worker send what somebody reads: what a test came to. Of six messages for each test,
    four say that it begins, that its setup and its teardown passed at once, and that it ended."""
    plugins = config.pluginmanager.get_plugins()
    worker = next((one for one in plugins if type(one).__name__ == "WorkerInteractor"), None)
    send = getattr(worker, "sendevent", None)
    if send is None:  # a release of xdist that is made otherwise sends everything
        return

    def send_what_is_shown(event, **about):
        report = about.get("data", {}) if event == "testreport" else {}
        passed = report.get("when") in ("setup", "teardown") and report["outcome"] == "passed"
        if event not in ("logstart", "logfinish") and not (passed and report["duration"] < SHOWN):
            send(event, **about)

    worker.sendevent = send_what_is_shown


def pytest_sessionstart(session):
    """Let each of several workers import a part of the test modules first. On a fresh checkout an
    import rewrites and compiles them, most of what it takes to collect them, and what one worker has
    written the others read."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    if session.config.option.verbose <= 0 and not session.config.option.xmlpath:
        _send_what_is_shown(session.config)
    if session.config.args != session.config.getini("testpaths"):
        return
    here, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    paths = [path for path in TESTS.rglob("test_*.py") if path.parent.name != "torch"]
    for path in sorted(paths)[here::count]:
        name = ".".join(path.relative_to(TESTS.parent).with_suffix("").parts)
        try:
            importlib.import_module(name)
        except (Exception, pytest.skip.Exception):  # collecting it says so
            continue


@pytest.fixture(autouse=True, scope="session")
def nobody_is_searched():
    """Leave the Hub's search to the tests that have a stand-in of it: an unknown name asks it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "named", lambda name, options: search.NamedRepositories())
        yield


MARKS = ("slow", "nightly", "house", "whole")  # those that -m may ask for


@cache
def _condition(expression):
    """Return the code of the expression after -m, None if it names other marks or has none."""
    try:
        code = compile(expression.strip(), "-m", "eval")
    except SyntaxError:
        return None
    return code if {*code.co_names} <= {*MARKS} else None


def may_be_selected(expression, marks):
    """Return whether -m may select a test that has these marks, whichever others its cases have."""
    code = _condition(expression)
    others = [mark for mark in MARKS if mark not in marks]
    return code is None or any(
        eval(code, {mark: mark in marks or mark in more for mark in MARKS})
        for count in range(len(others) + 1)
        for more in combinations(others, count)
    )


def pytest_pycollect_makeitem(collector, name, obj):
    """Make no cases of a test function that -m leaves out whatever they are: a third of all cases.
    Whoever names a test hears from pytest that -m leaves it out."""
    named = any("::" in word for word in collector.config.args)
    if named or not (inspect.isfunction(obj) and collector.funcnamefilter(name)):
        return None
    marks = {mark.name for mark in (*collector.iter_markers(), *getattr(obj, "pytestmark", ()))}
    if f"{collector.nodeid}::{name}" in MEASURED_SLOW or "nightly" in marks:
        marks.add("slow")
    return None if may_be_selected(collector.config.option.markexpr, marks) else []


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -m does not ask for
def pytest_collection_modifyitems(items):
    """Leave two of each three cases of a slow test to the night, and three of each four of a test of
    several that asks torch (tests/cases.py)."""
    chosen = []
    for item in items:
        marks, name = {mark.name for mark in item.iter_markers()}, item.nodeid.partition("[")[0]
        slow = "slow" in marks
        if not slow and ("nightly" in marks or {item.nodeid, name} & MEASURED_SLOW):
            item.add_marker("slow")
            slow = True
        if marks.isdisjoint(WHOLE):
            chosen.append((item, name, slow))
    several, before = Counter(name for _, name, _ in chosen), Counter()
    for item, name, slow in chosen:
        if slow:
            step = 3
        else:
            step = 4 if item.path.parent.name == "torch" and several[name] > SEVERAL else 1
        if before[name] % step:
            item.add_marker("slow")
            item.add_marker("nightly")
        before[name] += 1


def is_in_shares(name, shares):
    """Return whether a test is in the share of the gate, if there are so many shares."""
    return zlib.crc32(name.encode()) % shares == 0


# After -m left out its part. Pytest ignores a hook whose name does not begin with pytest_.
@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def pytest_leave_to_the_night(config, items):
    """In the gate, keep the tests near the change and a share of all others."""
    if NEAR is None:
        return
    places = {*Path(NEAR).read_text().split()}
    paths = {item: item.path.relative_to(TESTS.parent) for item in items}
    near = {
        item
        for item, path in paths.items()
        if not places.isdisjoint(map(str, (path, *path.parents)))
    }
    shares = -(-len(near) // MOST_NEAR)
    kept = {
        item
        for item in items
        if is_in_shares(item.nodeid, shares if item in near else SHARE)
        and (item in near or not item.nodeid.startswith(EXPENSIVE))
    }
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


gc.set_threshold(COLLECT_EVERY)  # collecting tests makes next to none


def pytest_collection_finish():
    gc.collect()
    gc.freeze()

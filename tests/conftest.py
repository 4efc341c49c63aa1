"""Facts that hold for all tests, and work that a run of them does once: it shares out what is to be
compiled, and lets the collector of garbage pass by what every test keeps."""

import gc
import importlib
import os
from collections import Counter
from pathlib import Path

import huggingface_hub.constants  # its settings are read once: the session's, not a test's # noqa: F401
import pytest
from hypothesis import settings

from weighbridge.models.sources import search

TESTS = Path(__file__).parent
# A busy machine is no reason to fail: what `deadline` bounds is the time of one example. Examples are
# the same ones in every run, so that a change fails for what it changed; the night draws new ones.
NIGHT = bool(os.environ.get("WEIGHBRIDGE_NIGHT"))
settings.register_profile("house", deadline=None, derandomize=not NIGHT)
settings.load_profile("house")


WHOLE = ("nightly", "whole")  # whose cases were chosen where they stand
SEVERAL = 3  # cases of a test beside torch that all run


def pytest_sessionstart(session):
    """Let each of several workers import a part of the test modules first. On a fresh checkout an
    import rewrites and compiles them, most of what it takes to collect them, and what one worker has
    written the others read."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != session.config.getini("testpaths"):
        return
    here, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    paths = [path for path in TESTS.rglob("test_*.py") if path.parent.name != "torch"]
    for path in sorted(paths)[here::count]:
        name = ".".join(path.relative_to(TESTS.parent).with_suffix("").parts)
        try:
            importlib.import_module(name)
        except (Exception, pytest.skip.Exception):  # collecting it says so
            continue


@pytest.fixture(autouse=True)
def nobody_is_searched(monkeypatch):
    """Leave the Hub's search to the tests that have a stand-in of it: an unknown name asks it."""
    monkeypatch.setattr(search, "named", lambda name, options: search.NamedRepositories())


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -m does not ask for
def pytest_collection_modifyitems(items):
    """Leave two of each three cases of a slow test to the night, and three of each four of a test of
    several that asks torch (tests/cases.py)."""
    chosen = [item for item in items if not any(map(item.get_closest_marker, WHOLE))]
    cases = [item.nodeid.partition("[")[0] for item in chosen]
    several, before = Counter(cases), Counter()
    for item, name in zip(chosen, cases, strict=True):
        if item.get_closest_marker("slow"):
            step = 3
        else:
            step = 4 if item.path.parent.name == "torch" and several[name] > SEVERAL else 1
        if before[name] % step:
            item.add_marker("slow")
            item.add_marker("nightly")
        before[name] += 1


def pytest_collection_finish():
    gc.collect()
    gc.freeze()

"""These tests run where somebody names their folder or one of its files: what all others come to does
not change with what is installed. Without torch none of them runs, and some cannot even be read: then
they are left out, and it is said."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.torch.emitted")  # what it compares is told where it differs
HERE = Path(__file__).parent
WITHOUT = find_spec("torch") is None


def pytest_ignore_collect(collection_path, config):
    """Return True, which leaves a file out, if torch is not here or nobody named these tests."""
    words = (word.partition("::")[0] for word in config.args)
    named = (config.invocation_params.dir / word for word in words)
    asked = any(path.resolve().is_relative_to(HERE) for path in named)
    return True if WITHOUT or not asked else None


@pytest.fixture(autouse=True)
def no_device_is_remembered():
    """accelerate remembers the first device of a process: arguments that were read on the host would
    put a model of the fake GPU there, too."""
    yield
    state = sys.modules.get("accelerate.state")
    if state is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True, scope="session")
def constructors_are_torchs_own():
    """torch keeps the set of its constructors at the first `with torch.device(...)`: one that is made
    while a trace stands in for them would leave torch.tensor out for the process's life."""
    if not WITHOUT:
        from torch.utils import _device

        _device._device_constructors()


def pytest_report_header():
    return "torch is not installed: tests/torch is left out" if WITHOUT else ""

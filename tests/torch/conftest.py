"""Without torch none of these tests runs, and some cannot even be read: then they are left out, and it
is said."""

import sys
from importlib.util import find_spec

import pytest

pytest.register_assert_rewrite("tests.torch.emitted")  # what it compares is told where it differs
WITHOUT = find_spec("torch") is None
collect_ignore_glob = ["test_*.py"] if WITHOUT else []


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

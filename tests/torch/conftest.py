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


def pytest_report_header():
    return "torch is not installed: tests/torch is left out" if WITHOUT else ""

"""Without torch none of these tests runs, and some cannot even be read: then they are left out, and it
is said."""

from importlib.util import find_spec

WITHOUT = find_spec("torch") is None
collect_ignore_glob = ["test_*.py"] if WITHOUT else []


def pytest_report_header():
    return "torch is not installed: tests/torch is left out" if WITHOUT else ""

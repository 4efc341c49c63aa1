"""The tests of the fake GPU cannot even be read without torch: then they are left out, and it is
said."""

from importlib.util import find_spec

WITHOUT = find_spec("torch") is None
collect_ignore_glob = ["test_fake_gpu*.py"] if WITHOUT else []


def pytest_report_header():
    return "torch is not installed: tests/torch/test_fake_gpu*.py are left out" if WITHOUT else ""

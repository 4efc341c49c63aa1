"""What is linear is told from what is quadratic, and what ends from what hangs."""

import subprocess

import pytest

from tests import work


def linear(size):
    return sum(len(str(n)) for n in range(size))


def quadratic(size):
    return sum(len(str(n)) for n in range(size) for _ in range(size))


def test_calls_of_python_and_of_c_are_counted():
    nothing = work.calls_made(lambda: None)
    assert work.calls_made(lambda: [len(one) for one in ("a", "b", "c")]) >= nothing + 3
    assert work.calls_made(lambda: [linear(0) for _ in range(3)]) >= nothing + 3


@pytest.mark.parametrize(("act", "found"), [(linear, True), (quadratic, False)])
def test_growth_is_told(act, found):
    assert work.is_linear(lambda size: work.calls_made(lambda: act(size)), 20) is found


def test_what_fails_or_hangs_is_no_end(monkeypatch):
    work.end("import sys; assert sys.argv[1:] == ['a']", "a")
    with pytest.raises(subprocess.CalledProcessError):
        work.end("raise SystemExit(1)")
    monkeypatch.setattr(work, "HANGS", 1)
    with pytest.raises(subprocess.TimeoutExpired):
        work.end("import time; time.sleep(100)")

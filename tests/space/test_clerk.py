"""The process that answers for the Space: a line for a line, and a time for each."""

import json
from io import BytesIO
from types import SimpleNamespace

import pytest

from weighbridge.base.units import MIB
from weighbridge.faces.web.space import clerk
from weighbridge.faces.web.space.office import _Clerk


def test_every_line_is_answered_and_has_its_time(monkeypatch, tmp_path):
    alarms, out = [], BytesIO()
    monkeypatch.setattr(clerk.signal, "alarm", alarms.append, raising=False)
    lines = BytesIO(b'{"a": 1}\n{"a": 2}\n')
    clerk.serve(lines, out, lambda asked: {"b": asked["a"]}, seconds=7, cache=tmp_path)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [{"b": 1}, {"b": 2}]
    assert out.getvalue().endswith(b"\n")
    assert alarms == [7, 0, 7, 0], "none runs while nothing is asked"


@pytest.mark.parametrize(("nbytes", "kept"), [(MIB, True), (MIB + 1, False)])
def test_a_cache_that_is_full_goes(monkeypatch, tmp_path, nbytes, kept):
    monkeypatch.setattr(clerk, "MOST_CACHE", MIB)
    (tmp_path / "of").mkdir()
    (tmp_path / "of" / "it").write_bytes(b"0" * nbytes)
    clerk._tidied(tmp_path)
    assert (tmp_path / "of").exists() is kept
    assert tmp_path.exists()


@pytest.mark.parametrize(
    ("error", "says"),
    [(TimeoutError, "no answer within 7 s"), (OSError, "the process that answered died")],
)
def test_a_clerk_that_does_not_answer_is_replaced(error, says):
    def asked(line):
        raise error

    stopped = []
    one = SimpleNamespace(_asked=asked, _seconds=7, stop=lambda: stopped.append(True))
    told = json.loads(_Clerk.ask(one, b"{}"))["error"]
    assert (told["message"].startswith(says), told["code"]) == (True, 3)
    assert stopped == [True]

"""What the office allows, without its processes: what it keeps, who waits, and what its page says."""

import json
import sys
import threading
import time
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.faces.web.space import clerk, guard, office
from weighbridge.faces.web.space.office import Limits, Office

PAGE = (Path(__file__).parents[2] / "docs" / "space.md").read_text(encoding="utf-8")


class Clerk:
    """A worker that answers at once, and keeps what it was asked."""

    def __init__(self, answer=b'{"report": 1}\n'):
        self.answer, self.asked = answer, []

    def ask(self, line):
        self.asked.append(json.loads(line))
        return self.answer

    def stop(self):
        pass


def desk(answer=b'{"report": 1}\n', limits=Limits(clerks=1, patience=0.01)):  # noqa: B008
    """An office whose one process is a clerk of ours."""
    made, one = Office(limits), Clerk(answer)
    made._clerks = [one]
    made._free.queue[:] = [one]
    return made, one


def test_the_page_says_what_is_allowed():
    """docs/space.md: what strangers may ask."""
    own, rates = Limits(), guard.Rates()
    memory = clerk.MOST_MEMORY // GIB
    for row in (
        f"| one answer | {own.seconds} seconds and {memory} GiB;",
        f"| at once | {own.clerks} answers; others wait up to {own.patience:g} seconds",
        f"{own.waiting} at most",
        f"| one client | {rates.per_minute} requests a minute, {rates.burst} at once (429 beyond)",
        f"| a request | {guard.MOST_BODY // MIB} MiB; an address {guard.MOST_QUERY:,} characters",
        f"| an answer | {office.MOST_ANSWER // MIB} MiB at most;",
        f"the last {office.MANY} of up to {office.MOST_KEPT // KIB} KiB are given again",
        f"again for {office.FRESH // 60} minutes",
    ):
        assert row in PAGE, row
    assert (clerk.MOST_MEMORY % GIB, office.MOST_ANSWER % MIB, office.FRESH % 60) == (0, 0, 0)


def test_a_request_is_answered_again_for_five_minutes(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(office.time, "monotonic", lambda: now[0])
    made, one = desk()
    for later, asked in ((0.0, 1), (299.9, 1), (0.2, 2)):
        now[0] += later
        assert made.ask({"model": "7B"}) == {"report": 1}
        assert len(one.asked) == asked
    made.close()


@all_of(
    ("request_", "answer", "times"),
    [
        ({"model": "7B"}, b'{"report": 1}\n', 1),
        ({"model": "7B", "token": "hf_x"}, b'{"report": 1}\n', 2),  # somebody's own
        ({"model": "7B"}, b'{"error": {"code": 3}}\n', 2),  # which may be over by then
        ({"model": "7B"}, b'{"report": {"error": 1}}\n', 1),
        ({"model": "7B"}, b'"' + b"x" * (512 * 1024 - 3) + b'"\n', 1),
        ({"model": "7B"}, b'"' + b"x" * (512 * 1024 - 2) + b'"\n', 2),
        ({"m": "x" * (512 * 1024 - 10)}, b"1\n", 1),  # nine signs around it, and the line's end
        ({"m": "x" * (512 * 1024 - 9)}, b"1\n", 2),
    ],
)
def test_what_is_kept(request_, answer, times):
    """A request and its answer are of half a MiB at most."""
    made, one = desk(answer)
    first = made.ask(request_)
    assert made.ask(request_) == first
    assert len(one.asked) == times
    made.close()


def test_the_last_128_answers_are_kept():
    made, one = desk()
    for n in range(128):
        made.ask({"n": n})
    made.ask({"n": 0})
    assert len(one.asked) == 128
    made.ask({"n": 128})  # and the first of them goes
    made.ask({"n": 1})
    assert len(one.asked) == 129
    made.ask({"n": 0})
    assert len(one.asked) == 130
    made.close()


def test_as_many_wait_as_may():
    """One is answered, two wait; the next is told at once, though there is time to wait."""
    made, one = desk(limits=Limits(clerks=1, waiting=2, patience=60.0))
    go, told = threading.Event(), []
    one.ask = lambda line: (go.wait(60), b"1\n")[1]
    those = [
        threading.Thread(target=lambda n=n: told.append(made.ask({"n": n})), daemon=True)
        for n in range(3)
    ]
    for thread in those:
        thread.start()
    while made._seats._value:
        time.sleep(0.001)
    busy = made.ask({"n": 3})["error"]
    assert (busy["code"], told) == (3, [])
    go.set()
    for thread in those:
        thread.join(60)
    assert told == [1] * 3
    assert made.ask({"n": 4}) == 1
    made.close()


def test_who_waited_long_enough_is_told_so():
    made, _one = desk()
    made._free.get()
    assert made.ask({"n": 0})["error"]["code"] == 3
    made.close()


# One process


@pytest.mark.parametrize(
    ("written", "answered"), [(b'{"a": 1}\n', True), (b'{"a": 1', False), (b"", False)]
)
def test_a_line_that_ends_is_an_answer(written, answered):
    one = office._Clerk(Path(), 5)
    process = SimpleNamespace(stdout=BytesIO(written))
    if answered:
        assert one._line(process) == written
        return
    with pytest.raises(OSError, match="no answer"):
        one._line(process)


def test_an_answer_is_bounded(monkeypatch):
    monkeypatch.setattr(office, "MOST_ANSWER", 8)
    one = office._Clerk(Path(), 5)
    assert one._line(SimpleNamespace(stdout=BytesIO(b"1234567\n"))) == b"1234567\n"
    with pytest.raises(OSError, match="no answer"):
        one._line(SimpleNamespace(stdout=BytesIO(b"12345678\n")))


def test_a_process_ends_itself_after_the_office_would_have(monkeypatch, tmp_path):
    """In an empty folder, without the caller's path; its own alarm is some seconds later."""
    started = []
    monkeypatch.setattr(
        office.subprocess, "Popen", lambda line, **how: started.append((line, how)) or None
    )
    office._Clerk(tmp_path, 7)._started()
    ((line, how),) = started
    assert line[:4] == [sys.executable, "-P", "-m", "weighbridge.faces.web.space.clerk"]
    assert line[4] == how["env"]["HF_HOME"] == str(tmp_path / "cache")
    assert 7 < int(line[5]) < 2 * 7
    assert how["cwd"] == tmp_path / "empty"

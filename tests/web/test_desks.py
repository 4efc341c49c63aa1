"""Processes that answer the page: one for each that asks, and none for who has left."""

import json
import multiprocessing
import signal
import threading
import time
from functools import partial

import pytest

from tests.cases import all_of
from weighbridge.faces.web import desks as rooms
from weighbridge.faces.web.desks import DeskProcess, Desks, own, serve, unsearched

FIT = {"task": "fit", "model": "gpt2", "workload": {"gpu": "3060"}}


def staying():
    return False


def unheard(part):
    pytest.fail("nobody has asked for parts")


class Thread:
    """A process of these tests: a thread, which ends with its line."""

    def __init__(self, desk, line):
        self.desk, self.killed = desk, False
        self._thread = threading.Thread(target=serve, args=(line, desk), daemon=True)
        self._thread.start()

    def kill(self):
        self.killed = True
        self.desk.let.set()

    def join(self):
        pass


class Slow:
    """Answers when it is let."""

    def __init__(self):
        self.asked, self.let, self.ends = [], threading.Event(), False
        self.parts = []

    def answer(self, line, tell=None):
        self.asked.append(json.loads(line))
        assert self.let.wait(60)
        for part in self.parts if tell else ():
            tell(part)
        if self.ends:
            raise OSError("the process ends")
        return {"told": self.asked[-1]}


class Room:
    """Desks in threads, in the order in which they were started."""

    def __init__(self, count):
        self.begun = []
        self.desks = Desks(Slow, count, self._started)

    def _started(self, made):
        ours, its = multiprocessing.Pipe()
        self.begun.append(Thread(made(), its))
        return DeskProcess(self.begun[-1], ours)

    def ask(self, ask, gone=staying, tell=unheard):
        """The place for an answer, on its way."""
        found = []
        line = json.dumps(ask).encode()
        thread = threading.Thread(target=lambda: found.append(self.desks.answer(line, gone, tell)))
        thread.start()
        return found, thread


@pytest.fixture
def room():
    made = []

    def room_(count):
        made.append(Room(count))
        return made[-1]

    yield room_
    for one in made:
        for thread in one.begun:
            thread.desk.let.set()
        one.desks.close()


def until(so):
    end = time.monotonic() + 60
    while not so():
        assert time.monotonic() < end
        time.sleep(0.001)


def told(found, thread):
    thread.join(60)
    return json.loads(found[0])


def test_a_slow_ask_holds_up_nobody(room):
    here = room(2)
    first = here.ask({"task": "form"})
    until(lambda: here.begun)
    second = here.ask({"task": "gpus"})
    until(lambda: len(here.begun) == 2)
    here.begun[1].desk.let.set()
    assert told(*second) == {"told": {"task": "gpus"}}
    assert first[0] == []
    here.begun[0].desk.let.set()
    assert told(*first) == {"told": {"task": "form"}}


def test_the_process_that_answered_last_is_asked_next(room):
    here = room(3)
    for number in range(3):
        found = here.ask({"task": number})
        until(lambda: here.begun)
        here.begun[0].desk.let.set()
        assert told(*found) == {"told": {"task": number}}
    assert len(here.begun) == 1


def test_an_ask_that_was_given_up_ends_its_process(room):
    here = room(1)
    left = threading.Event()
    found, thread = here.ask({"task": "form"}, left.is_set)
    until(lambda: here.begun and here.begun[0].desk.asked)
    left.set()
    thread.join(60)
    assert found == [None] and here.begun[0].killed
    again = here.ask({"task": "form"})
    until(lambda: len(here.begun) == 2)
    here.begun[1].desk.let.set()
    assert told(*again) == {"told": {"task": "form"}}


def test_who_leaves_while_waiting_is_not_answered(room):
    here = room(1)
    first = here.ask({"task": "form"})
    until(lambda: here.begun and here.begun[0].desk.asked)
    left = threading.Event()
    found, thread = here.ask({"task": "gpus"}, left.is_set)
    left.set()
    thread.join(60)
    here.begun[0].desk.let.set()
    assert told(*first) == {"told": {"task": "form"}}
    assert found == [None] and here.begun[0].desk.asked == [{"task": "form"}]


def test_an_ask_does_not_wait_for_ever(room, monkeypatch):
    monkeypatch.setattr(rooms, "BUSY", 0.03)
    here = room(1)
    here.ask({"task": "form"})
    until(lambda: here.begun and here.begun[0].desk.asked)
    found, thread = here.ask({"task": "gpus"})
    thread.join(60)
    assert "take too long" in json.loads(found[0])["error"]["message"]


def test_another_process_is_made_ready_while_one_searches(room):
    here = room(3)
    found = here.ask(FIT)
    until(lambda: len(here.begun) == 2 and here.begun[1].desk.asked)
    assert here.begun[1].desk.asked == [{**FIT, "remedies": False}]
    here.begun[1].desk.let.set()
    newer = here.ask({**FIT, "model": "qwen3-8b", "remedies": False})
    until(lambda: len(here.begun[1].desk.asked) == 2)
    assert told(*newer)["told"]["model"] == "qwen3-8b"
    assert len(here.begun) == 2 and found[0] == []


def test_a_process_that_ended_is_told_and_started_again(room):
    here = room(1)
    found = here.ask({"task": "form"})
    until(lambda: here.begun and here.begun[0].desk.asked)
    here.begun[0].desk.ends = True
    here.begun[0].desk.let.set()
    assert "it may have run out of memory" in told(*found)["error"]["message"]
    again = here.ask({"task": "gpus"})
    until(lambda: len(here.begun) == 2)
    here.begun[1].desk.let.set()
    assert told(*again) == {"told": {"task": "gpus"}}


@pytest.mark.parametrize("task", ["fit", "load", "infer", "train"])
def test_what_is_worked_out_ahead(task):
    asked = {"task": task, "model": "gpt2"}
    assert json.loads(unsearched(json.dumps(asked).encode())) == {**asked, "remedies": False}
    assert unsearched(json.dumps({**asked, "remedies": False}).encode()) is None


@all_of("line", [b"", b"{", b"[1]", b'{"task": "form"}', b'{"task": []}', b"[" * 70_000])
def test_what_is_not_worked_out_ahead(line):
    assert unsearched(line) is None


def test_parts_are_told_before_the_answer_and_to_who_asked_alone(room):
    here = room(1)
    heard = []
    found, thread = here.ask({"task": "form"}, tell=heard.append)
    until(lambda: here.begun and here.begun[0].desk.asked)
    here.begun[0].desk.parts = [{"part": 1}, {"part": 2}]
    here.begun[0].desk.let.set()
    assert told(found, thread) == {"told": {"task": "form"}}
    assert heard == [b'{"part": 1}', b'{"part": 2}']


def test_as_many_as_the_machine_has(monkeypatch):
    for cores, count in ((None, 2), (1, 2), (3, 3), (64, 4)):
        monkeypatch.setattr(rooms.os, "cpu_count", lambda cores=cores: cores)
        assert len(Desks(Slow)._all) == count


@pytest.mark.slow
def test_processes_answer_and_end():
    desks = Desks(partial(own, None, True), 2)
    desks.begin()
    try:
        line = json.dumps({"task": "load", "model": "gpt2"}).encode()
        answer = json.loads(desks.answer(line, staying, unheard))
        assert answer["report"]["model"]["name"] == "gpt2"
        heavy = {"task": "fit", "model": "deepseek-v3", "workload": {"gpu": "h100:8"}}
        process, stays = desks._free[-1]._running.process, iter([True])  # gone once it is asked
        left = desks.answer(json.dumps(heavy).encode(), lambda: not next(stays, False), unheard)
        assert left is None
        assert process.exitcode == -signal.SIGKILL, "nobody waits for its answer"
        assert json.loads(desks.answer(line, staying, unheard)) == answer
    finally:
        desks.close()
    assert all(seat._running is None for seat in desks._all)

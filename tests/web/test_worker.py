"""Python's side of the static edition's worker."""

import json
import os

import pytest

from weighbridge.answers.questions.requests import settled
from weighbridge.base.watching import NotWantedError, go_on
from weighbridge.faces.web import worker

HUB = "https://hub.example"


class Searching:
    """A desk that asks three times whether its answer is wanted."""

    def __init__(self, *, ours):
        assert not ours

    def answer(self, line, tell):
        for _ in range(3):
            go_on()
        tell({"part": "显"})
        return {"said": line, "名": "显存"}


@pytest.fixture
def answer(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "")
    monkeypatch.setattr(worker, "AskDesk", Searching)
    made = worker.answering(HUB)
    assert os.environ["HF_ENDPOINT"] == HUB
    return made


def test_what_is_wanted_is_answered(answer):
    parts = []
    told = answer("a", lambda: True, parts.append)
    assert json.loads(told) == {"said": "a", "名": "显存"}
    assert "显存" in told
    assert parts == ['{"part": "显"}']


def test_what_nobody_wants_any_more_is_null_and_the_next_is_answered(answer):
    said = iter((True, False))
    assert answer("a", lambda: next(said), pytest.fail) == "null"
    assert next(said, "asked twice") == "asked twice"
    assert json.loads(answer("b", lambda: True, [].append))["said"] == "b"


def test_what_was_given_up_is_no_error_of_a_request():
    def left():
        raise NotWantedError

    with pytest.raises(NotWantedError):
        settled(left)

"""What is told of a fit, or of a rank, that was stopped: what was found until then."""

import pytest

from weighbridge import prepare
from weighbridge.answers.questions.fit import answers, ranking
from weighbridge.answers.questions.fit.answers import STOPPED, QuestionOutcome
from weighbridge.answers.questions.fit.request import FitRequest
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import replace
from weighbridge.base.watching import NotWantedError, Watch, watched
from weighbridge.memory.report.fit import NAMES, Question


def outcomes(monkeypatch, ends):
    """The outcomes of the five questions, where that many are answered before Ctrl-C."""
    asked = []

    def told(asker, request, name):
        if len(asked) == ends:
            raise KeyboardInterrupt
        asked.append(name)
        return QuestionOutcome(Question(name=name, reason="answered"))

    monkeypatch.setattr(answers, "_told", told)
    return [answers._unless_stopped(None, None, name).question.reason for name in NAMES]


def test_questions_after_ctrl_c_are_not_asked(monkeypatch):
    with watched(Watch(keeps=True)):
        assert outcomes(monkeypatch, 2) == ["answered"] * 2 + [STOPPED] * 3


def test_ctrl_c_is_one_where_nothing_is_kept(monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        outcomes(monkeypatch, 2)


def test_a_fit_of_which_nothing_was_answered_is_stopped(monkeypatch):
    monkeypatch.setattr(answers, "_wrong", lambda *_: None)
    monkeypatch.setattr(answers, "inference", lambda *_: "")
    for error, raised in ((None, KeyboardInterrupt), (UnsupportedError("no"), UnsupportedError)):
        outcome = QuestionOutcome(Question(name="load", reason=STOPPED), error)
        monkeypatch.setattr(answers, "_told", lambda *_, outcome=outcome: outcome)
        with pytest.raises(raised):
            answers._answered(None, FitRequest(settings={}))


def test_a_rank_has_the_rows_until_then():
    told = []
    with watched(Watch(trying=lambda *what: told.append(what), keeps=True)) as watch:
        rows = ranking._rows(["a", "b", "c"], str.upper, lambda name: {"name": name})
        assert rows == [{"name": "a"}, {"name": "b"}, {"name": "c"}]
        assert told == [("A", 1, 3), ("B", 2, 3), ("C", 3, 3)]
        watch.wanted = lambda: len(told) < 4
        assert ranking._rows("de", str, lambda name: {"name": name}) == [{"name": "d"}]
        assert watch.stopped


def test_a_rank_without_a_row_is_none():
    with watched(Watch(wanted=lambda: False, keeps=True)), pytest.raises(KeyboardInterrupt):
        ranking._rows(["a"], str, lambda name: {})
    with watched(Watch(wanted=lambda: False)), pytest.raises(NotWantedError):
        ranking._rows(["a"], str, lambda name: {})


@pytest.mark.slow
def test_a_report_says_that_its_search_was_stopped():
    model = prepare("llama-3.1-8b")
    tried = []
    watch = Watch(
        wanted=lambda: len(tried) < 3, trying=lambda *what: tried.append(what), keeps=True
    )
    with watched(watch):
        report = model.infer(gpu="3060")
    assert (watch.stopped, len(tried)) == (True, 3)
    assert report.derived["search_stopped"] is True
    whole = model.infer(gpu="3060")
    assert "search_stopped" not in whole.derived
    assert 0 < len(report.remedies) < len(whole.remedies)
    assert "No change was found" not in str(replace(report, remedies=()))
    assert "No change was found" in str(replace(whole, remedies=()))


@pytest.mark.slow
def test_a_fit_that_was_stopped_has_what_was_answered():
    model, tried = prepare("llama-3.1-8b"), []
    with watched(Watch(trying=lambda *what: tried.append(what), keeps=True)) as watch:
        watch.wanted = lambda: not any("--method qlora" in what for what, *_ in tried)
        answer = model.fit(gpu="3060")
    assert watch.stopped
    assert [question.reason == STOPPED for question in answer.questions] == [False] * 3 + [True] * 2
    assert answer.ladder, "it was asked before"

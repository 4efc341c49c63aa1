"""The law of doors: one question, whichever way it is asked, has one verdict, one set of figures and
one exit code."""

import pytest

from tests import doors

QUESTIONS = doors.questions()
TOGETHER = 10  # questions of a test


@pytest.fixture(scope="module")
def asked_once():
    with doors.asked_once():
        yield


def test_there_are_some_three_hundred_questions_of_every_task():
    assert len(QUESTIONS) >= doors.MANY - 5
    assert {question.task for question in QUESTIONS} == {
        *("load", "infer", "train", "fit", "image", "train_image")
    }


def test_a_door_that_answers_otherwise_is_told(asked_once):
    question = doors.Question("infer", "qwen3-0.6b", {"gpu": "3060"})
    other = question._replace(settings={"gpu": "3060", "context": 8192})
    wrong = {"another length": lambda _: doors.by_api(other), "none": lambda _: None}
    ((name, _, _),) = doors.differences(question, wrong)
    assert name == "another length"


def test_what_is_kept_for_the_next_door_is_what_it_would_have_answered(asked_once):
    question = doors.Question("infer", "qwen3-0.6b", {"gpu": "4090", "engine": "vllm"})
    kept = [doors.by_api(question), doors.by_request(question)]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in doors.KEPT:
            patch.setattr(owner, name, doors.KEPT[owner, name])
        assert kept == [doors.by_api(question), doors.by_request(question)]


@pytest.mark.slow
@pytest.mark.whole
@pytest.mark.parametrize("start", range(0, len(QUESTIONS), TOGETHER))
def test_every_door_has_the_same_answer(start, asked_once):
    asked = QUESTIONS[start : start + TOGETHER]
    differ = [(q, *row) for q in asked for row in doors.differences(q)]
    assert differ == []

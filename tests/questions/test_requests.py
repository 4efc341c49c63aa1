"""Requests and the processes that answer them: edges of what is read, and what each limit lets by."""

import json
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests import tiny
from tests.cases import all_of, each
from weighbridge import prepare, together
from weighbridge.answers.questions import jobs, requests
from weighbridge.answers.questions.echoes import OF_KINDS, OF_REPORTS, is_echo
from weighbridge.answers.questions.estimator import Estimator
from weighbridge.answers.questions.opening import following
from weighbridge.answers.questions.question import serving
from weighbridge.answers.questions.requests import FAILED, Requests, marked, parsed
from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.units import MIB
from weighbridge.engines.engine import Engine
from weighbridge.engines.table import record
from weighbridge.models.catalogue import find, names

REQUEST = b'{"model":"gpt2"}'


def test_a_line_may_be_as_long_as_the_limit_and_no_longer():
    assert parsed(REQUEST, most=len(REQUEST)) == {"model": "gpt2"}
    with pytest.raises(BadFileError, match="longer than"):
        parsed(REQUEST, most=len(REQUEST) - 1)
    with pytest.raises(BadFileError, match="longer than 16 MiB, our limit"):
        parsed(b" " * (16 * MIB + 1))


def test_a_model_is_looked_for_in_lines_of_64_kib_and_less():
    room = 65536 - len(REQUEST)
    assert jobs._model(REQUEST + b" " * room) == "gpt2"
    assert jobs._model(REQUEST + b" " * (room + 1)) == ""
    assert [jobs._model(one) for one in (b"[]", b"{", b'{"task":"load"}')] == ["", "", ""]


TUNED = {"eos_token_id": [1, 2], "transformers_version": "5.1", "max_length": 30}


def test_configs_that_decide_the_same_are_one_model():
    """A tune of another name is a model of its own: answers say the name."""
    answering = Requests()
    first = answering.model({"config": tiny.NAMED})
    assert answering.model({"config": {**tiny.NAMED, **TUNED}}) is first
    assert answering.model({"config": {**tiny.NAMED, "_name_or_path": "a/tune"}}) is not first
    assert answering.model({"config": {**tiny.NAMED, "num_key_value_heads": 4}}) is not first


@pytest.mark.slow
@pytest.mark.parametrize("name", each(16, names()))
def test_an_answer_about_a_tune_is_the_one_that_it_has_alone(name):
    """Word by word, whoever was asked about before."""
    config = dict(find(name).config)
    both = Requests()
    for task in ("load", "infer", "train"):
        asked = [
            {"task": task, "model": {"config": one}, "remedies": False, "workload": {"gpu": "4090"}}
            for one in (config, {**config, **TUNED})
        ]
        together = [both.answer(json.dumps(one)) for one in asked]
        assert together == [Requests().answer(json.dumps(one)) for one in asked]


def test_configs_that_decide_the_same_go_to_one_process():
    line = [json.dumps({"model": {"config": {**tiny.NAMED, **more}}}) for more in ({}, TUNED)]
    assert jobs._model(line[0].encode()) == jobs._model(line[1].encode()) != ""


@pytest.mark.parametrize(("behind", "home"), [(7, 0), (8, 0), (9, 1)])
def test_a_model_leaves_its_process_when_more_than_eight_requests_wait_there(behind, home):
    class Busy:
        waiting = 0

        def ask(self, line):
            return Future()

    workers = [Busy(), Busy()]
    office = jobs._Office(workers)
    assert office.ask(REQUEST).worker is workers[0]
    workers[0].waiting, workers[1].waiting = 3 + behind, 3
    assert office.ask(REQUEST).worker is workers[home]


def test_homes_are_forgotten_when_there_are_too_many(monkeypatch):
    class Idle:
        waiting = 0

    monkeypatch.setattr(jobs, "HOMES", 2)
    office = jobs._Office([Idle()])
    for name, known in (("a", "a"), ("b", "ab"), ("c", "c"), ("c", "c"), ("d", "cd")):
        office._worker(name)
        assert "".join(office._homes) == known


def test_only_training_runs_follow_tensors_one_by_one(monkeypatch):
    monkeypatch.setattr("weighbridge.answers.estimate.train.followed", lambda model, workload: 7)
    asked = [SimpleNamespace(task=task, workload=None) for task in ("load", "infer", "train")]
    followed = [Estimator(one, None).followed() for one in asked]
    assert followed == [0, 0, 7]


@pytest.mark.parametrize(
    ("form", "engine", "format_"),
    [
        ("", "vllm", ""),  # no usual format of its own
        ("", "ollama", ""),  # what it downloads is what it takes by itself
        ("tagged", "ollama", "Q8_0"),  # a tag of another format
        ("F16", "vllm", ""),  # which plain checkpoints are in
        ("F16", "llama.cpp", "F16"),
        ("nf4", "vllm", "nf4"),
    ],
)
def test_the_format_that_a_name_alone_means(monkeypatch, form, engine, format_):
    tagged = "Q8_0" if form == "tagged" else record("ollama").usual
    monkeypatch.setattr(Engine, "tagged", lambda kind, name: tagged if kind.usual else "")
    model = prepare("gpt2")
    source = replace(model.source, form="" if form == "tagged" else form)
    assert replace(model, source=source)._named_form(engine) == format_


def test_settings_of_a_report_are_an_echo_with_or_without_more():
    for kind in OF_KINDS:
        assert is_echo(dict.fromkeys((*OF_REPORTS, *kind)))
        assert is_echo(dict.fromkeys((*OF_REPORTS, *kind, "context")))
        assert not is_echo(dict.fromkeys((*sorted(OF_REPORTS)[1:], *kind)))
    assert not is_echo(dict.fromkeys(OF_REPORTS))


def test_what_contradicts_itself_names_the_line_that_gave_up():
    def inner():
        raise ZeroDivisionError("no heads")

    with pytest.raises(BadFileError) as error, following({"model_type": "llama"}):
        inner()
    line = inner.__code__.co_firstlineno + 1
    assert f"(ZeroDivisionError: no heads at test_requests.py:{line})" in str(error.value)


@all_of(
    ("command", "engine", "fits"),
    [
        ("vllm serve gpt2", "vllm", True),
        ("vllm serve gpt2", "sglang", False),
        ("llama-server -m a.gguf", "llama.cpp", True),
        ("llama-server -m a.gguf", "ik_llama.cpp", True),  # the fork has the parent's programs
        ("ollama run gemma3", "llama.cpp", False),
    ],
)
def test_a_command_is_of_the_engine_that_was_asked_or_of_its_parent(command, engine, fits):
    if fits:
        assert serving(None, command, {"engine": engine}).workload.engine == engine
    else:
        with pytest.raises(UsageError, match="the command launches"):
            serving(None, command, {"engine": engine})


def test_what_is_kept_is_collected_after_so_many_answers(monkeypatch):
    collected = []
    monkeypatch.setattr(requests, "COLLECT_AFTER", 3)
    monkeypatch.setattr(requests.gc, "collect", lambda: collected.append(desk._answered))
    desk = Requests(offline=True)
    for _ in range(7):
        desk.answer(b'{"task":"none"}')
    assert collected == [3, 6]


@all_of(
    ("request_", "says"),
    [
        ({"task": "load", "model": "gpt2", "batch_size": 2}, 'write it under "workload"'),
        ({"task": "load", "model": "gpt2", "colour": 1}, "a request has no 'colour'"),
        ({"task": "chat", "model": "gpt2"}, "task 'chat' is not known"),
        ({"task": "load", "model": ""}, "model is a reference"),
        ({"task": "load", "model": "gpt2", "remedies": 1}, "remedies is true or false"),
        ({"task": "load", "model": "gpt2", "workload": []}, "workload is an object"),
        ({"task": "load", "model": "gpt2", "workload": {"revision": 1}}, "revision is text"),
        ({"task": "load", "model": "gpt2", "workload": {"gpu": "4090,h100"}}, "lists 2 cards"),
        ({"task": "load", "model": "gpt2", "workload": {"engine": "vllm"}}, "loads such files"),
    ],
)
def test_what_a_request_cannot_say_is_named(request_, says):
    error = Requests(offline=True).answer(json.dumps(request_))["error"]
    assert error["code"] == 2
    assert says in error["message"]


SEVERAL = {"task": "infer", "models": ["gpt2", "bge-m3"], "workload": {"gpu": "3060"}}


@pytest.mark.slow
def test_several_models_are_asked_about_at_once():
    told = Requests(offline=True).answer(json.dumps(SEVERAL))
    alone = together(["gpt2", "bge-m3"], gpu="3060", offline=True).to_dict()
    assert told["schema"] == "weighbridge.together/1"
    assert told == alone


@all_of(
    ("change", "why"),
    [
        ({"task": "load"}, "task is infer, not 'load'"),
        ({"models": "gpt2"}, "models is a list of references, not 'gpt2'"),
        ({"models": ["gpt2"]}, "name two or more"),
        ({"models": ["gpt2", 3]}, "model is a reference"),
        ({"remedies": False}, "a request of several models has no 'remedies'"),
        ({"model": "gpt2"}, "a request of several models has no 'model'"),
        ({"workload": {"gpu": "3060", "command": "vllm serve a"}}, "workload.command is about one"),
        ({"workload": {}}, "--gpu"),
    ],
)
def test_what_several_models_are_not_asked(change, why):
    error = Requests(offline=True).answer(json.dumps({**SEVERAL, **change}))["error"]
    assert error["code"] == 2
    assert why in error["message"]


def test_a_report_is_about_one_model():
    with pytest.raises(UsageError, match="a request has no 'models'"):
        Requests(offline=True).report(dict(SEVERAL))


@pytest.mark.parametrize("mark", ["row 7", 7, "", -1])
def test_an_id_comes_back_in_its_answer(mark):
    asked = {"task": "load", "model": "llama-3.2-1b", "id": mark}
    answer = Requests().answer(json.dumps(asked))
    assert answer["id"] == mark
    del asked["id"], answer["id"]
    assert answer == Requests().answer(json.dumps(asked))


def test_an_error_has_the_id_of_its_request_behind_it():
    answer = Requests().answer(b'{"task": "load", "model": 3, "id": "x"}')
    assert list(answer) == ["error", "id"]
    assert json.dumps(answer).startswith(FAILED)
    assert marked(b'{"id": "x"}') == {"id": "x"}
    assert marked(b"no JSON") == marked(b'{"task": "load"}') == {}


@all_of("mark", [None, True, 1.5, ["a"], {}, "x" * 257, 10**300])
def test_an_id_is_text_or_a_whole_number(mark):
    answer = Requests().answer(json.dumps({"task": "load", "model": "gpt2", "id": mark}))
    assert answer["error"]["message"].startswith("id is text or a whole number")


def test_an_unknown_pipeline_is_no_language_model():
    """Settings say what a request is: names that are near are told, of pipelines."""
    request = {"task": "train", "model": "ltx-9", "workload": {"frames": 1}}
    said = Requests(offline=True).answer(json.dumps(request))["error"]["message"]
    assert "ltx-2" in said and "frames" not in said

"""The command beside an answer gives that answer."""

import json
import shlex

import click
import pytest

from tests.cases import all_of, each
from tests.web.asked import SMALL, requests
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import WeighbridgeError
from weighbridge.faces.cli.menu import menu
from weighbridge.faces.web.asks import AnswerView
from weighbridge.faces.web.command import command

REQUESTS = list(requests(seed=14, count=20))


@pytest.fixture(scope="module")
def run():
    return Requests(offline=True)


def printed(line, capsys):
    """What the command line prints as JSON, or "refused"."""
    program, *words = shlex.split(line)
    assert program == "weighbridge"
    try:
        menu.main(args=[*words, "--json"], prog_name="weighbridge", standalone_mode=False)
    except (WeighbridgeError, click.ClickException):
        return "refused"
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_a_command_gives_the_same_answer(run, request_, capsys):
    gives_the_same(run, request_, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("request_", each(3, requests(seed=5, count=90, typed=SMALL)), ids=str)
def test_a_command_gives_the_same_remedies(run, request_, capsys):
    gives_the_same(run, request_, capsys)


def gives_the_same(run, request_, capsys):
    found = json.loads(json.dumps(run.answer(json.dumps(request_))))
    again = printed(command(request_, AnswerView()), capsys)
    assert again == ("refused" if "error" in found else found)


@pytest.mark.slow
def test_most_of_these_requests_have_an_answer(run):
    asked = [{**request_, "remedies": False} for request_ in requests(seed=14, count=40)]
    refused = sum("error" in run.answer(json.dumps(one)) for one in asked)
    assert refused < len(asked) / 2


TYPED = (  # request, and the command of it
    ({"task": "load", "model": "-x"}, "weighbridge load -- -x"),
    ({"task": "load", "model": "a b'c"}, """weighbridge load 'a b'"'"'c'"""),
    (
        {"task": "infer", "model": "gpt2", "workload": {"n_gpu_layers": -1, "no_mmap": True}},
        "weighbridge infer gpt2 --n-gpu-layers=-1 --no-mmap",
    ),
    (
        {"task": "train", "model": "gpt2", "workload": {"compile": False, "padded": True}},
        "weighbridge train gpt2 --no-compile --padded",
    ),
    (
        {"task": "infer", "model": "gpt2", "workload": {"image_size": [336, 224], "context": None}},
        "weighbridge infer gpt2 --image-size 224x336",
    ),
    (
        {"task": "fit", "model": "gpt2", "workload": {"for": "qlora", "max": "users"}},
        "weighbridge fit gpt2 --for qlora --max users",
    ),
    (
        {"task": "infer", "workload": {"command": "vllm serve gpt2 -tp 2"}},
        "weighbridge infer --command 'vllm serve gpt2 -tp 2'",
    ),
    ({"task": "load", "model": {"config": {}}}, "weighbridge load ./config.json"),
    (
        {"task": "load", "model": "gpt2", "workload": {"engine": "transformers"}},
        "weighbridge load gpt2",
    ),
    (
        {"task": "load", "model": "gpt2", "workload": {"gpu": "4090,3090"}},
        "weighbridge load gpt2 --gpu 4090:3090",
    ),
)


@all_of(("request_", "line"), TYPED)
def test_a_command_as_it_is_typed(request_, line):
    assert command(request_, AnswerView()) == line


def test_the_look_of_an_answer_is_said():
    look = AnswerView(lang="zh", unit="GB", details=True, explain=True)
    told = command({"task": "load", "model": "gpt2"}, look)
    assert told == "weighbridge load gpt2 --unit GB --lang zh --details --explain"

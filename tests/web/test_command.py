"""The command beside an answer gives that answer."""

import json
import shlex

import click
import pytest

from tests.web.asked import requests
from weighbridge.cli.menu import menu
from weighbridge.errors import WeighbridgeError
from weighbridge.requests import Requests
from weighbridge.web.asks import View
from weighbridge.web.command import command

REQUESTS = list(requests(seed=14, count=60))


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


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_a_command_gives_the_same_answer(run, request_, capsys):
    found = json.loads(json.dumps(run.answer(json.dumps(request_))))
    again = printed(command(request_, View()), capsys)
    assert again == ("refused" if "error" in found else found)


def test_most_of_these_requests_have_an_answer(run):
    refused = sum("error" in run.answer(json.dumps(r)) for r in REQUESTS)
    assert refused < len(REQUESTS) / 2

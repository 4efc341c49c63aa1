"""Options may stand before the command, as they may before its arguments."""

import pytest

from tests.cases import all_of
from weighbridge.faces.cli.menu import COMMANDS, in_order, run

LINES = (
    (("fit", "qwen3-0.6b"), ("--gpu", "4090", "-q")),
    (("qwen3-0.6b",), ("--gpu", "4090", "-q")),
    (("load", "qwen3-0.6b"), ("-q",)),
    (("infer", "qwen3-32b"), ("--check", "--gpu", "t4", "-q")),
    (("image", "sd-1.5"), ("--gpu", "3060", "--lang", "zh", "-q")),
    (("sd-1.5",), ("--gpu", "3060", "-q")),
)


@pytest.mark.parametrize(("command", "options"), LINES)
def test_options_before_the_command_are_its_own(command, options, capsys):
    behind = run([*command, *options]), capsys.readouterr()
    assert behind[1].out
    assert (run([*options, *command]), capsys.readouterr()) == behind


@all_of("command", COMMANDS)
def test_what_the_menu_takes_itself_and_what_it_does_not_know_stay_where_they_are(command):
    for word in ("-h", "--help", "--version", "--", "-"):
        assert in_order([word, command]) == [word, command]
    assert in_order(["--verison"]) == ["--verison"]
    assert in_order([command, "--gpu", "4090", "fit"]) == [command, "--gpu", "4090", "fit"]

"""Ctrl-C while a search goes on: what was found is printed, and the code says that it was stopped."""

from weighbridge.base.watching import kept_so_far
from weighbridge.faces.cli import progress
from weighbridge.faces.cli.menu import run


def interrupted(monkeypatch):
    """Let Ctrl-C come while the search goes on."""

    def search(case, **beside):
        with kept_so_far():
            raise KeyboardInterrupt
        return ()

    monkeypatch.setattr("weighbridge.answers.remedies.search", search)


def test_what_was_found_is_printed_and_the_code_is_130(monkeypatch, capsys):
    interrupted(monkeypatch)
    assert run(["load", "llama-3.1-8b", "--gpu", "3060", "--json"]) == 130
    done = capsys.readouterr()
    assert done.out
    assert done.err.splitlines()[-1] == "stopped: this is what was found until then"


def test_answers_beside_each_other_are_not_told_in_part(monkeypatch, capsys):
    interrupted(monkeypatch)
    assert run(["load", "llama-3.1-8b", "--gpu", "3060", "--gpu", "t4", "--json"]) == 130
    assert capsys.readouterr().out == ""


def test_the_line_says_what_is_read_and_then_what_is_tried():
    shown = progress.Progress("qwen3-8b", "files", keeps=True)
    shown(3, 7)
    assert shown._text() == "reading qwen3-8b (3 of 7 files)"
    shown.watch.trying("--loss liger [bold]", 3, 12)
    assert shown._text() == r"qwen3-8b: trying 3 of 12: --loss liger \[bold]"


def test_what_was_not_stopped_has_its_own_code(capsys):
    shown = progress.Progress("qwen3-8b", "files", keeps=True)
    assert shown.code(4) == 4
    assert capsys.readouterr().err == ""

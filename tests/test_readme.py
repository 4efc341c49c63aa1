"""The two READMEs: an answer on the first screen, every command and engine, figures that are true."""

import re
from pathlib import Path

import pytest
from tools.screens import BLOCK, PAGES, printed

from weighbridge.answers.bounds.accuracy import FORWARD, NOW, holding
from weighbridge.engines.table import ENGINES, STAND_INS
from weighbridge.faces.cli.menu import COMMANDS, FILE

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh.md")
COMMANDS_OF = ("docs/reference.md", "docs/zh/reference.md")
LIMITS = ("docs/limits.md", "docs/zh/limits.md")


@pytest.mark.parametrize("name", READMES)
def test_the_first_screen_has_an_answer_as_it_is_printed_today(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    found = BLOCK.search(text)
    assert text[: found.start()].count("\n") < 8
    assert found["shown"].rstrip() == printed(found["command"]).rstrip()
    assert name in PAGES  # `make records` writes it


def test_the_readmes_are_short():
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in READMES)
    assert len(english.split()) < 800 and chinese.count("\n") <= english.count("\n")


@pytest.mark.parametrize("name", COMMANDS_OF)
def test_every_command_is_in_the_table(name):
    rows = re.findall(r"^\| `weighbridge ([\w-]+)", (ROOT / name).read_text(encoding="utf-8"), re.M)
    assert {*rows} == COMMANDS.keys() - {"completion"} | {FILE}


@pytest.mark.parametrize("name", READMES)
def test_every_engine_is_named(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [engine.title for engine in ENGINES.values() if engine.title not in text] == []


@pytest.mark.parametrize("name", LIMITS)
def test_what_it_is_not_good_at_has_the_figures_of_the_evidence(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    heading = r"^##? (?:What it is not good at|它不擅长什么)\n(.*?)(?:^## |\Z)"
    part = re.search(heading, text, re.M | re.S)[1]
    accuracy = (ROOT / "docs/accuracy.md").read_text(encoding="utf-8")
    said = re.findall(r"[\d.,]*\d%|\d,\d{3}", part)
    assert said
    assert [figure for figure in said if figure not in accuracy] == []


@pytest.mark.parametrize(
    ("name", "lang"),
    [
        ("README.md", "en"),
        ("README.zh.md", "zh"),
        ("docs/limits.md", "en"),
        ("docs/zh/limits.md", "zh"),
    ],
)
def test_how_intervals_hold_is_said_forward_in_time_first(name, lang):
    """Stale: run python -m tools.evidence."""
    later, now = holding(FORWARD), holding(NOW)
    figures = [
        f"{later['inside']:.1%}",
        f"{later['n']:,}",
        f"{later['above']:.1%}",
        f"{now['n']:,}",
        f"{now['inside']:.1%}",
        f"{now['above']:.1%}",
    ]
    sentence = re.search(
        r"<!-- held: .*?-->(.*?)<!-- held: end -->", (ROOT / name).read_text(encoding="utf-8"), re.S
    )[1]
    said = re.findall(r"\d[\d.,]*\d%|\d%|\d,\d{3}", sentence)
    order = {"en": [0, 1, 2, 3, 4, 5], "zh": [1, 0, 2, 3, 4, 5]}[lang]
    assert said == [figures[n] for n in order]


def test_engines_that_were_not_read_are_those_of_the_page_of_limits():
    text = (ROOT / "docs/limits.md").read_text()
    part = text[text.index("Engines that it has not read") :]
    for name in ("tensorrt-llm", "lmdeploy", "tgi", "exllamav2"):
        assert name in STAND_INS
        assert name.rstrip("v2") in part.lower()

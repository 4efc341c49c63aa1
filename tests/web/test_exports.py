"""An answer as a file, several beside each other, and the catalogues as tables."""

import csv
import json
import shlex
import xml.etree.ElementTree as Xml
from io import StringIO
from pathlib import Path

import pytest

from tests.ask import answered as ask
from weighbridge.answers.questions.requests import Requests, parsed
from weighbridge.faces.charts.reports import bars
from weighbridge.faces.charts.svg import svg
from weighbridge.faces.web.exports import FORMS
from weighbridge.faces.web.protocol import AskDesk

TESTS = Path(__file__).parent.parent
ONE = {"task": "infer", "model": "qwen3-0.6b", "workload": {"engine": "vllm", "gpu": "t4"}}
FIT = {"task": "fit", "model": "gpt2", "workload": {"gpu": "t4"}}
SIDES = [{**ONE, "workload": {**ONE["workload"], "gpu": gpu}} for gpu in ("t4", "4090", "3060")]
EVIL = "<img src=x onerror=alert(1)>=HYPERLINK(1)"


@pytest.fixture(scope="module")
def desk():
    return AskDesk(offline=True)


def error(desk, **told):
    found = desk.answer(json.dumps(told))["error"]
    assert "defect" not in found["message"]
    return found["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "of", [ONE, FIT, {"task": "compare", "asks": SIDES}], ids=["one", "fit", "3"]
)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_answer(desk, of, form):
    found = ask(desk, task="export", of=of, form=form)
    assert found["text"]
    assert found["name"].startswith("weighbridge-")
    assert found["name"].replace("-", "").replace(".", "").isalnum()
    assert "/" in found["type"]


@pytest.mark.slow
def test_json_is_what_the_command_line_prints(desk):
    report = json.loads(ask(desk, task="export", of=ONE, form="json")["text"])
    assert report == json.loads(json.dumps(Requests().answer(json.dumps(ONE))))
    several = json.loads(
        ask(desk, task="export", of={"task": "compare", "asks": SIDES}, form="json")["text"]
    )
    assert [r["workload"]["gpu"] for r in several] == ["t4", "4090", "3060"]


@pytest.mark.slow
def test_csv_has_every_component_once_and_adds_up(desk):
    text = ask(desk, task="export", of=ONE, form="csv")["text"]
    rows = list(csv.DictReader(StringIO(text)))
    report = Requests().answer(json.dumps(ONE))
    (gpu,) = (d for d in report["devices"] if d["kind"] == "gpu")
    for phase in gpu["phases"]:
        own = [r for r in rows if r["kind"] == "gpu" and r["phase"] == phase["name"]]
        assert sum(int(r["expected"]) for r in own) == phase["bytes"]["expected"]


@pytest.mark.slow
def test_svg_is_the_chart_of_the_command_line(desk):
    text = ask(desk, task="export", of=ONE, form="svg")["text"]
    assert text == svg(bars(Requests().report(parsed(json.dumps(ONE)))))
    assert ask(desk, **ONE, view={"svg": True})["svg"] == text
    assert Xml.fromstring(text).tag.endswith("svg")


def test_the_commands_of_a_comparison_are_one_a_line(desk):
    told = ask(desk, task="export", of={"task": "compare", "asks": SIDES}, form="command")["text"]
    assert [shlex.split(line)[-1] for line in told.splitlines()] == ["t4", "4090", "3060"]


def test_the_view_of_an_export_is_that_of_the_ask(desk):
    zh = ask(desk, task="export", of=ONE, form="markdown", view={"lang": "zh", "unit": "GB"})[
        "text"
    ]
    assert "放得下" in zh
    assert " GB" in zh


def test_a_hostile_name_is_text_in_every_form(desk):
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 128, "vocab_size": 100}
    config = {"model_type": "gpt2", "_name_or_path": EVIL, **sizes}
    of = {"task": "load", "model": {"config": config}, "workload": {"gpu": "t4"}}
    for form in ("html", "svg", "markdown"):
        assert "<img" not in ask(desk, task="export", of=of, form=form)["text"]
    assert "<" not in ask(desk, task="export", of=of, form="html")["name"]
    formula = {**config, "_name_or_path": "=HYPERLINK(1)"}
    of = {"task": "load", "model": {"config": formula}}
    for row in csv.reader(StringIO(ask(desk, task="export", of=of, form="csv")["text"])):
        assert not any(cell.startswith(("=", "+", "@")) for cell in row)


def test_a_comparison_has_a_column_for_each_answer(desk):
    found = ask(desk, task="compare", asks=SIDES)
    assert found["labels"] == ["t4", "4090", "3060"]
    assert [r["workload"]["gpu"] for r in found["reports"]] == found["labels"]
    (grid,) = found["screen"]["sections"][0]
    assert [column["head"] for column in grid["columns"][1:]] == found["labels"]


def test_an_answer_that_failed_stands_in_its_place(desk):
    asks = [SIDES[0], {"task": "infer", "model": "no-such-model"}, SIDES[1]]
    found = ask(desk, task="compare", asks=asks)
    assert [("error" in r) for r in found["reports"]] == [False, True, False]
    assert found["labels"] == ["t4", "4090"]
    assert "no-such-model" in error(desk, task="compare", asks=asks[1:2])


def test_equal_questions_are_told_apart(desk):
    assert len(set(ask(desk, task="compare", asks=[SIDES[0]] * 2)["labels"])) == 2


@pytest.mark.slow
def test_fits_stand_beside_fits(desk):
    found = ask(desk, task="compare", asks=[FIT, {**FIT, "workload": {"gpu": "4090"}}])
    assert found["labels"] == ["t4", "4090"]
    assert "compare one or the other" in error(desk, task="compare", asks=[FIT, ONE])


@pytest.mark.parametrize("asks", [None, [], [1], {}, [ONE] * 13, [None], "x"])
def test_what_is_no_comparison_is_one_line(desk, asks):
    assert error(desk, task="compare", asks=asks)


@pytest.mark.parametrize(
    "told",
    [
        {"of": ONE, "form": "exe"},
        {"of": ONE},
        {"of": None, "form": "csv"},
        {"of": {"task": "form"}, "form": "csv"},
        {"of": {"task": "compare"}, "form": "csv"},
        {"of": ONE, "form": "csv", "view": {"lang": "tlh"}},
    ],
)
def test_what_is_no_export_is_one_line(desk, told):
    assert error(desk, task="export", **told)


@pytest.mark.slow
def test_the_tables_are_those_of_the_command_line(desk, capsys):
    from weighbridge.faces.cli.menu import menu

    for words, told in (
        (["gpus", "4090"], {"task": "gpus", "workload": {"pattern": "4090"}}),
        (
            ["gpus", "--fp8", "--vendor", "amd"],
            {"task": "gpus", "workload": {"fp8": True, "vendor": "amd"}},
        ),
        (["models", "qwen3"], {"task": "models", "workload": {"pattern": "qwen3"}}),
        (
            ["models", "qwen3-0.6b", "--gpu", "t4"],
            {"task": "models", "workload": {"pattern": "qwen3-0.6b", "gpu": "t4"}},
        ),
    ):
        menu.main(args=[*words, "--json"], standalone_mode=False)
        printed = json.loads(capsys.readouterr().out)
        found = ask(desk, **told)
        assert json.loads(json.dumps(found["report"])) == printed
        assert any(block["block"] == "grid" for s in found["screen"]["sections"] for block in s)


def test_accuracy_has_the_rows_that_are_pinned(desk):
    pins = json.loads((TESTS / "accuracy.json").read_text())
    rows = ask(desk, task="accuracy", workload={"by_source": True})["report"]["rows"]
    told = {" | ".join(r[k] for k in ("source", "engine", "quantity", "level")): r for r in rows}
    assert {n: {k: r[k] for k in pins[n]} for n, r in told.items()} == pins
    every = ask(desk, task="accuracy")["report"]["rows"]
    assert sum(r["n"] for r in every) == sum(r["n"] for r in rows)
    one = ask(desk, task="accuracy", workload={"engine": "vllm", "source": "qwen_docs"})
    assert {(r["engine"], r["source"]) for r in one["report"]["rows"]} <= {("vllm", "qwen_docs")}


@pytest.mark.parametrize(
    "told",
    [
        {"task": "gpus", "workload": {"pattern": "no such card"}},
        {"task": "gpus", "workload": {"sort": "price"}},
        {"task": "gpus", "workload": {"fp8": "yes"}},
        {"task": "gpus", "workload": {"min_memory": "much"}},
        {"task": "gpus", "workload": {"colour": "red"}},
        {"task": "gpus", "workload": []},
        {"task": "models", "workload": {"pattern": "x" * 300}},
        {"task": "models", "workload": {"pattern": "nothing like it"}},
        {"task": "models", "workload": {"gpu": "t4", "pattern": "e"}},
        {"task": "models", "workload": {"for": "infer", "pattern": "gpt2"}},
        {"task": "models", "workload": {"gpu": "t4", "pattern": "gpt2", "min_context": "long"}},
        {"task": "accuracy", "workload": {"engine": "none"}},
        {"task": "gpus", "view": {"unit": "furlong"}},
        {"task": "gpus", "view": {"colour": "red"}},
        {"task": "gpus", "view": {"details": 1}},
    ],
    ids=str,
)
def test_what_no_table_has_is_one_line(desk, told):
    assert error(desk, **told)


def test_rows_of_several_answers_begin_with_their_names(desk):
    """The first column tells answers apart; of a single one there is nothing in it."""
    for asks, names in ((SIDES[:1], {""}), (SIDES[:2], {"t4", "4090"})):
        of = {"task": "compare", "asks": asks} if len(asks) > 1 else asks[0]
        text = ask(desk, task="export", form="csv", of=of)["text"]
        first = [next(iter(row.values())) for row in csv.DictReader(StringIO(text))]
        assert set(first) == names

"""The command, as it is typed."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from tests.scan import small
from tests.scan.conftest import QUESTIONS
from weighbridge.cli.menu import menu
from weighbridge.cli.scan import scan as command

pytestmark = pytest.mark.slow


def typed(*words):
    done = CliRunner().invoke(menu, ["scan", *map(str, words)], standalone_mode=False)
    code = done.return_value if isinstance(done.return_value, int) else 0
    return done, code


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "q.yaml"
    path.write_bytes(QUESTIONS)
    return path


def test_one_command_for_a_folder(folder, questions, tmp_path):
    picture = tmp_path / "fits.svg"
    done, _ = typed(folder, "--gpu", "4090", "--questions", questions, "--picture", picture)
    assert done.exception is None, done.exception
    assert "12 models of models on rtx-4090" in done.stdout
    line = next(line for line in done.stdout.splitlines() if "llama-7" in line)
    assert line.count("✓") == 4
    assert "4 of them have no answer" in done.stdout
    assert "There # stands for a name or a number." in done.stdout
    assert "✓ fits, ✗ does not" in " ".join(done.stdout.split())
    assert "Asked:" not in done.stdout  # four questions have room
    assert "serve/512" in picture.read_text()
    assert picture.read_text().count("llama-7") >= 1
    assert not list(tmp_path.glob("**/plan.json"))


def test_options_may_stand_before_the_source(folder, questions):
    done, _ = typed("--gpu", "4090", "--questions", questions, "--format", "csv", folder)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["fits"] for row in rows} == {"yes"}
    assert len(rows) == 8 * small.QUESTIONS  # of models; one of them is a tune of another


def test_several_cards_name_the_smallest_that_fits(folder, questions):
    done, _ = typed(folder, "--gpu", "h100", "--gpu", "4090", "--questions", questions)
    line = next(line for line in done.stdout.splitlines() if "llama-7" in line)
    assert line.count("✓ rtx-4090") == 4


def test_step_by_step(folder, questions, tmp_path):
    out = tmp_path / "out"
    done, _ = typed("plan", folder, out, "--questions", questions, "--gpu", "4090", "--parts", "4")
    assert done.stdout == "12 models, 9 keys, 2 not read; 4 questions, 4 parts\n"
    assert typed("check", out)[1] == 1
    for share in ("0-0/2", "1-1/2"):
        typed("run", out, "--parts", share)
    done, code = typed("check", out)
    assert (done.stdout, code) == ("37 answers about 9 keys; 0 of 4 parts are left\n", 0)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["rows"] == 37
    sql = (
        "select id, need > 0 as some from weighed where question = 'load/4090' order by id limit 1"
    )
    done, _ = typed("query", out, sql, "--format", "json")
    assert json.loads(done.stdout) == [{"id": "llama-1", "some": True}]
    done, _ = typed("query", out, sql)
    assert done.stdout.split() == ["id", "some", "llama-1", "True"]
    done, _ = typed("query", out, "--rows", "2")
    assert "The first 2 of 12" in done.stdout
    done, _ = typed("query", out, "--rows", "2", "--format", "json")
    assert len(json.loads(done.stdout)["models"]) == 2


def test_chinese(folder, questions):
    done, _ = typed(folder, "--gpu", "4090", "--questions", questions, "--lang", "zh")
    assert "参数量" in done.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["./no-such-folder"], "no such folder"),
        (["check", "./no-such-folder"], "no plan.json"),
        (["run", ".", "--parts", "9"], "no plan.json"),
        (["{folder}", "--memory", "1MiB"], "512 MiB"),
        (["{folder}", "--questions", "no.yaml"], "no.yaml: no such file"),
        (["{folder}", "--gpu", "no-such-card"], "no-such-card"),
        (["{folder}", "--picture", "x.gif"], "x.gif"),
    ],
)
def test_what_is_wrong_is_one_line(folder, words, why):
    done, _ = typed(*(word.format(folder=folder) for word in words))
    assert why in str(getattr(done.exception, "message", done.exception))


def test_a_hidden_command_stays_hidden():
    assert (
        "here"
        not in command.get_help(command.make_context("scan", [], resilient_parsing=True)).split()
    )

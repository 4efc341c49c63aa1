"""The command, as it is typed."""

import csv
import io
import json
import shlex

import pytest
from click.testing import CliRunner

from tests.scan import small
from tests.scan.conftest import QUESTIONS
from weighbridge.faces.cli.menu import menu
from weighbridge.faces.cli.scan import scan as command

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
    assert "12 models of models/ on rtx-4090" in done.stdout
    line = next(line for line in done.stdout.splitlines() if "llama-7" in line)
    assert line.count("✓") == 4
    assert "4 models could not be weighed:" in done.stdout
    assert "broken: is not JSON" in done.stdout
    assert "'no-such-type'" in done.stdout  # in full, with its name
    assert "more; all of them" not in done.stdout
    assert "the card alone does not decide" not in done.stdout
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
    assert done.stderr == f"`weighbridge scan run {out}` answers them\n"
    done, code = typed("check", out)
    assert (done.stdout, code) == ("0 answers about 9 keys; 4 of 4 parts left to answer\n", 1)
    assert done.stderr == f"`weighbridge scan run {out}` goes on\n"
    done, _ = typed("run", out, "--parts", "0-0/2")
    assert "2 parts to answer\n" in done.stderr
    assert "could not be weighed" not in done.stderr  # before all are asked
    done, _ = typed("run", out, "--parts", "1-1/2")
    assert "4 models could not be weighed:\nbroken: is not JSON" in done.stderr
    assert done.stderr.endswith(f"`weighbridge scan query {out}` shows the answers\n")
    assert "nothing is left to answer\n" in typed("run", out)[0].stderr
    done, code = typed("check", out)
    assert (done.stdout, code) == ("37 answers about 9 keys; none is left to answer\n", 0)
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


def many(folder, count):
    """Models of which none can be weighed, beside those that are there."""
    for number in range(count):
        place = folder / f"a-{number}"
        place.mkdir()
        (place / "config.json").write_text("{")


def test_models_that_cannot_be_weighed_are_named_and_all_can_be_asked_for(
    folder, questions, tmp_path
):
    many(folder, 3)
    out = tmp_path / "o ut"
    words = (folder, "--gpu", "4090", "--questions", questions)
    done, _ = typed(*words, "--out", out)
    assert "7 models could not be weighed:" in done.stdout
    assert "and 2 more; all of them by\n" in done.stdout
    line = next(one for one in done.stdout.splitlines() if "from unweighed" in one)
    assert line == f"  weighbridge scan query '{out}' \"select id, why from unweighed\""
    done, _ = typed(*shlex.split(line)[2:], "--format", "json")
    found = {one["id"]: one["why"] for one in json.loads(done.stdout)}
    assert found.keys() == {"a-0", "a-1", "a-2", "broken", "listed", "of-no-type", "of-no-sizes"}
    assert "no-such-type" in found["of-no-type"]
    done, _ = typed(*words, "--format", "json", "--rows", "1")
    assert json.loads(done.stdout)["counts"]["unweighed"] == 7  # not of the one row alone
    done, _ = typed(*words)  # which keeps nothing
    assert "`--out DIR` keeps" in done.stdout
    assert '  weighbridge scan query DIR "select id, why from unweighed"' in done.stdout


def test_one_of_each_is_said_as_one(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "config.json").write_text("{")
    asked = tmp_path / "q.yaml"
    asked.write_text("questions: [{name: load, task: load}]")
    out = tmp_path / "out"
    done, _ = typed("plan", tmp_path / "models", out, "--questions", asked)
    assert done.stdout == "1 model, 0 keys, 1 not read; 1 question, 1 part\n"
    done, _ = typed("run", out)
    assert done.stderr.splitlines()[:3] == [
        "1 part to answer",
        "1 of 1 part, 0 answers",
        "1 model could not be weighed:",
    ]
    assert "1 model of models/" in typed("query", out)[0].stdout
    done, _ = typed("diff", out, out)
    assert f"From {out} to {out}: no verdict changed; 1 model in both" in " ".join(
        done.stdout.split()
    )


def test_faults_past_the_first_are_counted(folder, questions, tmp_path):
    out = tmp_path / "out"
    typed(folder, "--gpu", "4090", "--questions", questions, "--out", out, "--parts", "7")
    for path in out.glob("answers/*/*"):
        path.write_bytes(b"")
    done, code = typed("check", out)
    assert code == 2
    assert len(done.stderr.splitlines()) == 21
    assert done.stderr.endswith("and 8 more of the kind\n")
    assert "goes on" not in done.stderr


def test_chinese(folder, questions):
    done, _ = typed(folder, "--gpu", "4090", "--questions", questions, "--lang", "zh")
    assert "参数量" in done.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "Missing command."),
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

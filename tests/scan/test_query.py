"""SQL over a dataset: what it sees, and what it must not."""

import json
import re
from pathlib import Path

import pytest

from tests.scan import small
from tests.scan.conftest import make
from tests.scan.test_running import run
from weighbridge.base.errors import UsageError
from weighbridge.faces.scan import asking, planning, registry
from weighbridge.faces.scan.dataset import ANSWERS, MODELS, answers_file, note_file
from weighbridge.faces.scan.query import ScanView
from weighbridge.models import catalogue

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("query")
    for name, text in small.texts().items():
        (root / "models" / name).mkdir(parents=True)
        (root / "models" / name / "config.json").write_text(text)
    out, plan = make(root / "models", root / "out")
    run(out, plan)
    return out, plan


@pytest.fixture
def view(whole):
    return ScanView(*whole)


def test_a_tune_has_the_answers_of_its_base(view):
    found = view.ask(
        "select id, need, fits from weighed where question = 'serve/512/4090' and id like ? order by id",
        ["%-2"],
    )
    assert found.names == ("id", "need", "fits")
    other = view.ask(
        "select need from weighed where question = 'serve/512/4090' and id = 'somebody/a-tune'"
    )
    assert [row[1] for row in found.rows] == [row[0] for row in other.rows]
    assert len(found.rows) == 1


def test_counts(view):
    assert view.ask("select count(*) from models").rows == [(small.MODELS,)]
    assert view.ask("select count(distinct key) from answers").rows == [(small.KEYS,)]
    assert view.ask("select 1 from answers", most=3).rows == [(1,)] * 3


@pytest.mark.parametrize(
    "sql",
    [
        "select * from '/etc/passwd'",
        "select * from read_csv('/etc/passwd')",
        "select * from read_parquet('{out}/models.parquet')",
        "select * from glob('/*')",
        "copy models to '{out}/stolen.csv'",
        "attach '{out}/other.db'",
        "export database '{out}/all'",
        "install httpfs",
        "load '{out}/x.duckdb_extension'",
        "set enable_external_access = true",
        "reset lock_configuration",
        "select * from whole",
        "selekt 1",
    ],
)
def test_a_query_reaches_nothing_else(whole, sql):
    out, plan = whole
    before = sorted(out.rglob("*"))
    with pytest.raises(UsageError, match="the query: "):
        ScanView(out, plan).ask(sql.format(out=out))
    assert sorted(out.rglob("*")) == before


def test_a_summary_has_a_line_for_each_model(whole, view):
    found = view.summary(whole[1], 50)
    assert found.questions == ("load", "serve/512", "serve/1024", "tune")
    assert found.cards == ("nvidia-geforce-rtx-4090",)
    lines = {line.id: line for line in found.lines}
    assert len(lines) == small.MODELS
    assert lines["llama-7"].best("load").fits == "yes"
    assert lines["llama-7"].best("none") is None
    assert "not JSON" in lines["broken"].reason
    assert "'no-such-type'" in lines["of-no-type"].reason
    rows = view.ask("select reason from answers where code <> 0").rows
    assert not any("no-such-type" in reason for (reason,) in rows)  # to be counted by
    assert found.unweighed.models == small.UNREAD + small.REFUSED
    assert [name for name, _ in found.unweighed.first] == [
        *("broken", "listed", "of-no-sizes", "of-no-type")
    ]
    assert next(iter(lines)) == "llama-7"  # nobody counts downloads here: the largest first
    assert len(view.summary(whole[1], 2).lines) == 2


def test_files_that_no_note_knows_are_not_read(planned):
    out, plan = planned
    run(out, plan)
    note_file(out, "vllm", 1).unlink()
    answers_file(out, "vllm", 1).write_bytes(b"not ours")
    assert (
        ScanView(out, plan).ask("select count(*) from answers where family = 'vllm'").rows[0][0] > 0
    )


def test_before_the_first_answer_there_are_none(planned):
    view = ScanView(*planned)
    assert view.ask("select count(*) from answers").rows == [(0,)]
    assert view.summary(planned[1], 5).cards == ()


PAGE = Path(__file__).parents[2] / "docs" / "scan.md"
QUERIES = re.findall(r"```sql\n(.+?)```", PAGE.read_text(), re.S)


def test_the_page_has_queries():
    assert QUERIES


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_queries_of_the_page_are_answered(number, asked):
    """They find something among ten models of all kinds, but for what is rare."""
    found = asked.ask(QUERIES[number])
    assert found.names
    assert found.rows or number in (3, 4)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Models of the catalogue and a tune, with the default questions."""
    root = tmp_path_factory.mktemp("page")
    names = ("qwen3-0.6b", "llama-3.1-8b", "bert-base-uncased")
    rows = [{"id": name, "config": catalogue.find(name).config} for name in names]
    rows += [{**rows[1], "id": "a-tune"}, {"id": "of-no-type", "config": {"model_type": "x"}}]
    source = root / "models.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    plan = planning.plan(registry.models(source), root, asking.default(["4090", "h100"]), source="")
    run(root, plan, jobs=2)
    return ScanView(root, plan)


def test_every_column_is_on_the_page():
    for column in (*MODELS, *ANSWERS):
        assert f"| `{column.name}` | {column.meaning} |" in PAGE.read_text()


@pytest.mark.parametrize("sql", ["", "  ", ";"])
def test_an_empty_query_is_said(view, sql):
    with pytest.raises(UsageError, match="the query: it is empty"):
        view.ask(sql)

"""What `scan diff` says of two datasets: each reason that a verdict may have to change, alone."""

import json
import re
import shutil

import pytest

from tests.scan import small
from tests.scan.conftest import make
from tests.scan.test_command import typed
from tests.scan.test_running import run
from weighbridge.faces.scan import asking, planning, registry
from weighbridge.faces.scan.dataset import ANSWERS, answers_file, json_of, plan_of, put, put_json
from weighbridge.faces.scan.dataset import parquet as written
from weighbridge.faces.scan.differing import diff

files = pytest.importorskip("pyarrow.parquet", reason="it is in the extra test-scan")

pytestmark = pytest.mark.slow
ONE = "llama-5"  # whose key no other model has


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A dataset that is answered, and its source."""
    root = tmp_path_factory.mktemp("diff")
    source = root / "models"
    for name, text in small.texts().items():
        (source / name).mkdir(parents=True)
        (source / name / "config.json").write_text(text)
    out, plan = make(source, root / "old")
    run(out, plan)
    return out, source


@pytest.fixture
def again(first, tmp_path):
    """A copy of it that a test may change."""
    out = tmp_path / "new"
    shutil.copytree(first[0], out)
    return out


def compared(old, new, most=100):
    return diff((old, plan_of(old)), (new, plan_of(new)), most)


def edited(out, question, name=None, **changed):
    """Write other answers to a question into a dataset; of one model, where it is named."""
    models = files.read_table(out / "models.parquet").to_pylist()
    keys = {m["key"] for m in models if name in (None, m["id"])}
    plan = plan_of(out)
    family = next(q.family for q in plan.questions if q.name == question)
    for number in range(plan.parts):
        path = answers_file(out, family, number)
        rows = files.read_table(path).to_pylist()
        for row in rows:
            if row["question"] == question and row["key"] in keys:
                row |= changed
        put(path, written(rows, ANSWERS))


def test_the_same_is_no_change(first, again):
    found = compared(first[0], again)
    assert (found.total, found.code, found.changes) == (0, 0, ())
    assert found.models == (small.MODELS, 0, 0)
    assert (dict(found.rules), dict(found.moved), found.left) == ({}, {}, (0, 0))
    assert found.questions == ((), (), ())
    done, code = typed("diff", first[0], again, "--check")
    assert "no verdict changed; 12 models in both" in " ".join(done.stdout.split())
    assert code == 0


@pytest.mark.parametrize(
    ("changed", "why", "code"),
    [
        ({"fits": "no"}, ("limits",), 1),
        ({"fits": "no", "rules": "other"}, ("rules",), 1),
        ({"fits": "no", "engine_version": "9", "rules": "other"}, ("engine", "rules"), 1),
        ({"fits": "unknown", "rules": "other"}, ("rules",), 4),
        ({"code": 2, "fits": None, "reason": "too odd", "rules": "other"}, ("rules",), 1),
    ],
)
def test_why_a_verdict_changed(first, again, changed, why, code):
    edited(again, "serve/512/4090", ONE, **changed)
    found = compared(first[0], again)
    (change,), (turn,) = found.changes, found.turns
    now = "refused" if changed.get("code") else changed["fits"]
    assert (change.id, change.question, change.was, change.now) == (
        ONE,
        "serve/512/4090",
        "yes",
        now,
    )
    assert change.why == turn.why == why
    assert (turn.models, found.total, found.code) == (1, 1, code)
    back = compared(again, first[0])
    assert (back.total, back.code) == (1, 0)  # what fits at last is no loss


def test_a_fine_tune_changes_with_its_base(first, again):
    edited(again, "load/4090", "llama-2", fits="no")
    found = compared(first[0], again)
    assert {change.id for change in found.changes} == {"llama-2", "somebody/a-tune"}
    assert found.total == found.turns[0].models == 2
    one = compared(first[0], again, most=1)
    assert (one.total, len(one.changes)) == (2, 1)


def test_numbers_that_moved_are_counted_by_family(first, again):
    edited(again, "tune/4090", need=12345)
    found = compared(first[0], again)
    assert dict(found.moved) == {"train": small.KEYS - small.REFUSED}
    assert found.total == 0


def test_another_config_of_a_model(first, tmp_path):
    old, source = first
    other, out = tmp_path / "models", tmp_path / "new"
    shutil.copytree(source, other)
    (other / ONE / "config.json").write_text("{")
    config = {**small.LLAMA, "num_hidden_layers": 4000}
    (other / "llama-6" / "config.json").write_text(json.dumps(config))
    shutil.rmtree(other / "llama-7")
    (other / "fresh").mkdir()
    (other / "fresh" / "config.json").write_text(json.dumps(small.LLAMA))
    text = b"questions: [{name: load, task: load}, {name: more, task: load}]"
    asked = asking.read(text, "q", ["4090"])
    plan = planning.plan(registry.models(other), out, asked, source="others", parts=2)
    run(out, plan)
    found = compared(old, out)
    assert found.models == (small.MODELS - 1, 1, 1)
    assert found.questions.new == ("more/4090",)
    assert set(found.questions.gone) == {"serve/512/4090", "serve/1024/4090", "tune/4090"}
    changed = {(c.id, c.question): c for c in found.changes}
    unread = changed[ONE, "model"]
    assert (unread.was, unread.now, unread.why) == ("read", "refused", ("config",))
    assert unread.shas[0] != unread.shas[1]
    assert "JSON" in unread.reason
    assert found.code == 1
    told = json.loads(typed("diff", old, out, "--json")[0].stdout)
    assert told["schema"] == "weighbridge.scan-diff/1"
    assert told["models"] == {"both": 11, "new": 1, "gone": 1}
    assert told["verdicts_changed"] == found.total


def test_a_name_that_stands_for_another_question(first, again):
    told = json_of(again / "plan.json")
    for question in told["questions"]:
        if question["name"] == "load/4090":
            question["settings"]["dtype"] = "float32"
    for note in again.glob("notes/load/*.json"):
        put_json(note, {**json_of(note), "questions": []})
    put_json(again / "plan.json", told)
    found = compared(first[0], again)
    assert found.questions.other == ("load/4090",)
    assert found.left == (0, 4)  # the notes are about another question
    shutil.copytree(first[0], again, dirs_exist_ok=True)
    edited(again, "load/4090", fits="no")
    for note in again.glob("notes/load/*.json"):
        of_load = [q for q in told["questions"] if q["name"] == "load/4090"]
        put_json(note, {**json_of(note), "questions": of_load})
    put_json(again / "plan.json", told)
    assert {c.why for c in compared(first[0], again).changes} == {("question",)}


def test_the_screen_says_what_changed_and_why(first, again):
    edited(again, "serve/512/4090", ONE, fits="no", rules="other", engine_version="9.9")
    edited(again, "tune/4090", need=12345)
    done, code = typed("diff", first[0], again, "--check")
    assert code == 1
    assert re.search(r"engine [\d.]+\s+-> 9\.9", " ".join(done.stdout.split()))
    assert any(ONE in line and "does not fit" in line for line in done.stdout.splitlines())
    assert "Other numbers, the same verdict (of models that differ): train 7." in done.stdout
    done, code = typed("diff", first[0], again, "--lang", "zh")
    assert "放不下" in done.stdout
    assert code == 0


def test_no_dataset_is_one_line(first, tmp_path):
    done, _ = typed("diff", first[0], tmp_path / "none")
    assert "no plan.json" in str(getattr(done.exception, "message", done.exception))

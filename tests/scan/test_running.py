"""The same rows whoever answers, and however often it is killed; what one config does to a process
costs that config its answers, and no other."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from tests.hostile.mutation import mutated
from tests.scan import small
from tests.scan.conftest import files, make, notes
from weighbridge.base.canonical import canonical_text
from weighbridge.base.errors import BadFileError, UsageError, WeighbridgeError
from weighbridge.faces.scan import asking, running
from weighbridge.faces.scan.checking import check
from weighbridge.faces.scan.dataset import (
    answers_file,
    configs_file,
    note_file,
    plan_of,
    put_json,
    rows_of,
)
from weighbridge.faces.scan.packing import pack
from weighbridge.faces.scan.weigher import ScanEndedError, ScanLimits, Weigher, answered
from weighbridge.models import catalogue

pytestmark = pytest.mark.slow


def run(out, plan, *, jobs=1, share="0/1", limits=None):
    parts = running.todo(out, plan, running.share(share))
    return list(running.run(out, plan, parts, jobs, limits or ScanLimits()))


def rows(out):
    return [row for path in sorted((out / "answers").rglob("*.parquet")) for row in rows_of(path)]


@pytest.fixture
def whole(planned):
    """A dataset that one process answered."""
    out, plan = planned
    run(out, plan)
    return out, plan


def test_what_is_in_a_dataset(whole):
    out, plan = whole
    found = check(out, plan)
    assert (found.code, found.left, found.faults) == (0, 0, ())
    told = rows(out)
    assert found.rows == len(told) == small.KEYS + (small.KEYS - small.REFUSED) * small.QUESTIONS
    assert {row["question"] for row in told} == {"model", *(q.name for q in plan.questions)}
    refused = [row for row in told if row["code"]]
    assert len(refused) == small.REFUSED  # once for each config, not once for each question
    assert all(row["message"] and row["reason"] and row["need"] is None for row in refused)
    answers = [row for row in told if row["question"] != "model"]
    assert {row["fits"] for row in answers} == {"yes"}
    assert all(0 < row["need_low"] <= row["need"] <= row["need_high"] for row in answers)
    assert {row["family"] for row in told} == {"model", "load", "vllm", "train"}
    manifest = running.manifest(out, plan)
    assert manifest["rows"] == len(told)
    assert sum(manifest["refused"].values()) == small.REFUSED
    assert set(manifest["files"]) == {f"answers/{name}" for name in files(out)}


@pytest.mark.parametrize("how", [[{"jobs": 2}], [{"share": "0-0/2"}, {"share": "1-1/2"}]])
def test_the_same_files_whoever_answers(whole, folder, tmp_path, how):
    out, plan = make(folder, tmp_path / "again")
    for one in how:
        run(out, plan, **one)
    assert check(out, plan).code == 0
    assert files(out) == files(whole[0])


def test_what_is_answered_is_not_asked_again(whole):
    out, plan = whole
    assert running.todo(out, plan) == []
    answers_file(out, "vllm", 2).unlink()
    assert check(out, plan).code == 2
    note_file(out, "vllm", 2).unlink()
    assert (check(out, plan).code, running.left(out, plan, 2)) == (1, ("vllm",))
    before = files(out)
    run(out, plan)
    assert check(out, plan).code == 0
    assert files(out).items() > before.items()


def test_other_rules_ask_a_family_again(whole, monkeypatch):
    out, plan = whole
    monkeypatch.setattr(
        running, "rules", lambda family: "other" if family == "train" else REAL(family)
    )
    assert running.todo(out, plan) == [0, 1, 2, 3]
    assert running.left(out, plan, 0) == ("train",)
    run(out, plan)
    assert {row["rules"] for row in rows(out) if row["family"] == "train"} == {"other"}
    assert check(out, plan).code == 0


REAL = running.rules


def test_shares_are_all_parts_once(planned):
    out, plan = planned
    shares = [running.todo(out, plan, running.share(f"{n}/3")) for n in range(3)]
    assert Counter(n for share in shares for n in share) == Counter(range(4))
    assert running.share("0-2/3") == (0, 2, 3)
    for text in ("3/3", "2-1/3", "1", "a/b", "-1/2", ""):
        with pytest.raises(UsageError, match="FIRST-LAST/OF"):
            running.share(text)


@pytest.mark.parametrize(
    ("answering", "limits", "why"),
    [
        (small.ended, ScanLimits(), "its process died twice"),
        (small.endless, ScanLimits(seconds=3), "given up after 3 seconds"),
        (small.greedy, ScanLimits(memory=2 << 30), "MemoryError"),
    ],
)
def test_a_config_that_breaks_its_process_is_a_row(whole, folder, tmp_path, answering, limits, why):
    out, plan = make(folder, tmp_path / "again")
    with Weigher(limits, answering) as weigher:
        for part in range(plan.parts):
            running.do_part(out, plan, part, weigher)
    assert check(out, plan).code == 0
    broken = [r for r in rows(out) if r["code"] and why in r["message"]]
    assert [r["question"] for r in broken] == ["model"]
    others = {(r["key"], r["question"]): r for r in rows(whole[0]) if r["key"] != broken[0]["key"]}
    same = {(r["key"], r["question"]): r for r in rows(out) if r["key"] != broken[0]["key"]}
    assert same == others


def test_a_config_that_breaks_later_is_a_row_for_each_question(whole):
    out, plan = whole
    for part in range(plan.parts):
        note_file(out, "vllm", part).unlink()
    with Weigher(ScanLimits(), small.ended) as weigher:
        for part in range(plan.parts):
            running.do_part(out, plan, part, weigher)
    assert check(out, plan).code == 0
    died = [r["question"] for r in rows(out) if r["message"] and "died" in r["message"]]
    assert sorted(died) == ["serve/1024/4090", "serve/512/4090"]


def test_a_process_that_cannot_start_ends_the_run(monkeypatch):
    """Rows that say so of every config would hide it."""
    module = ModuleType("of_this_process_alone")
    module.answering = lambda config, questions: []
    module.answering.__module__, module.answering.__qualname__ = module.__name__, "answering"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with Weigher(answering=module.answering) as weigher:
        with pytest.raises(UsageError, match="no process could be started"):
            weigher.ask("{}", ())
        weigher.end()
        with pytest.raises(ScanEndedError):
            weigher.ask("{}", ())


@pytest.mark.parametrize("at", [0, 7, 20])
def test_a_full_disk_ends_the_run_and_nothing_is_half_written(
    whole, folder, tmp_path, at, monkeypatch
):
    out, plan = make(folder, tmp_path / "again")
    left = [at]

    def full(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        run(out, plan)
    assert str(out) in error.value.filename
    monkeypatch.undo()
    assert not list(out.rglob("*.tmp"))
    assert check(out, plan).code == 1
    run(out, plan)
    assert files(out) == files(whole[0])


def children(pid):
    """The processes that a process of Linux has started, and theirs."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            child = int(stat.parent.name)
            found |= {child, *children(child)}
    return found


def until(true, seconds=60):
    for _ in range(seconds * 50):
        if true():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are found as Linux lists them"
)
@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_run_that_is_killed_loses_nothing(whole, folder, tmp_path, after):
    out, plan = make(folder, tmp_path / "again")
    command = [sys.executable, "-m", "weighbridge", "scan", "run", out, "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        assert until(lambda: len(notes(out)) >= after and len(children(process.pid)) >= 2)
        started = children(process.pid)
        process.send_signal(signal.SIGKILL)
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), 20)
    found = check(out, plan)
    assert found.faults == ()
    assert len(notes(out)) >= after
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    assert check(out, plan).code == 0
    assert files(out) == files(whole[0])


def strangers():
    """Configs that were broken at random, as JSON that a registry could hold."""
    rng = random.Random("scan")
    models = [dict(catalogue.find(name).config) for name in catalogue.names()[::40]]
    for model in (*models, small.LLAMA):
        for _ in range(4):
            try:
                yield canonical_text(mutated(rng, model))
            except (WeighbridgeError, AttributeError, TypeError):  # it is no object any more
                continue


def test_strangers_configs_are_rows():
    """None of them ends the process, and each has one row or all of them."""
    asked = asking.read(b"questions: [{name: a, task: load}, {name: b, task: infer}]", "q")
    told = list(strangers())
    assert told
    with Weigher(ScanLimits(seconds=60)) as weigher:
        for config in told:
            found = weigher.ask(config, asked).rows
            assert [r["question"] for r in found] in (["model"], ["model", "a", "b"]), config
            assert not any("died" in (r.get("message") or "") for r in found), config
        text = canonical_text(small.LLAMA)
        assert weigher.ask(text, asked).rows == answered(text, asked)


def test_configs_that_were_changed_are_not_answered(whole):
    out, plan = whole
    note_file(out, "load", 1).unlink()
    configs_file(out, 1).write_bytes(configs_file(out, 0).read_bytes())
    with pytest.raises(BadFileError, match="plan again"):
        run(out, plan)


def test_faults_are_found(whole):
    out, plan = whole
    path = answers_file(out, "train", 3)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = check(out, plan)
    assert found.code == 2
    (fault,) = found.faults
    assert "train/part-0003.parquet: is not the file that was written" in fault
    assert f"`weighbridge scan run {out}` writes it again" in fault


DAMAGED = [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"hello\n"]


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("family", ["model", "vllm"])
def test_a_damaged_file_of_answers_is_named_and_answered_again(
    whole, folder, tmp_path, family, damage
):
    from weighbridge.faces.scan.differing import diff
    from weighbridge.faces.scan.publishing import publish
    from weighbridge.faces.scan.query import ScanView

    out, plan = whole
    kept, path = files(out), answers_file(out, family, 1)
    path.write_bytes(damage(path.read_bytes()))
    told = f"{path}: is not the file that was written; `weighbridge scan run"
    other = make(folder, tmp_path / "again")
    for ask in (
        lambda: ScanView(out, plan).ask("select sum(need) from answers"),
        lambda: ScanView(out, plan).summary(plan, 50),
        lambda: diff((out, plan), other, 5),
        lambda: diff(other, (out, plan), 5),
        lambda: publish(out, plan, tmp_path / "published"),
    ):
        with pytest.raises(BadFileError) as error:
            ask()
        assert str(error.value)[:100] == told[:100]
    with pytest.raises(UsageError, match="the query: "):  # which no file is to blame for
        ScanView(out, plan).ask("selekt 1")
    assert (running.todo(out, plan), running.left(out, plan, 1)) == ([1], (family,))
    run(out, plan)
    assert files(out) == kept


def test_a_damaged_note_is_no_note(whole):
    out, plan = whole
    note_file(out, "load", 2).write_text("{")
    assert (check(out, plan).code, running.left(out, plan, 2)) == (1, ("load",))
    run(out, plan)
    assert check(out, plan).code == 0


def flipped(path, place=0.5):
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("place", [0.2, 0.45, 0.6, 0.8])
def test_a_note_with_one_wrong_byte_is_no_note(whole, place):
    out, plan = whole
    flipped(note_file(out, "load", 2), place)
    assert running.left(out, plan, 2) == ("load",)
    run(out, plan)
    assert check(out, plan).code == 0


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
@pytest.mark.parametrize(
    "name", ["models.parquet", "manifest.json", "answers.parquet", "answers.json"]
)
def test_a_flipped_byte_in_any_file_of_all_is_found(whole, name, place):
    out, plan = whole
    put_json(out / "manifest.json", running.manifest(out, plan))
    pack(out, plan)
    assert check(out, plan).code == 0
    flipped(out / name, place)
    found = check(out, plan)
    assert found.code == 2
    assert name in found.faults[0]


def test_a_plan_with_one_wrong_byte_is_no_plan(whole):
    out, _ = whole
    flipped(out / "plan.json", 0.4)
    with pytest.raises(BadFileError, match=r"plan\.json"):
        plan_of(out)


@pytest.mark.parametrize("text", ["", "{}", '{"files": {}}'])
def test_a_list_of_files_that_is_of_others_is_found(whole, text):
    out, plan = whole
    (out / "manifest.json").write_text(text)
    assert "writes it again" in check(out, plan).faults[0]


def test_what_only_a_checksum_tells_is_not_published(whole, tmp_path):
    from weighbridge.faces.scan.publishing import publish

    out, plan = whole
    answers_file(out, "vllm", 1).write_bytes(answers_file(out, "vllm", 0).read_bytes())
    with pytest.raises(BadFileError, match="is not the file that was written"):
        publish(out, plan, tmp_path / "published")
    assert not (tmp_path / "published").exists()


@pytest.mark.parametrize(
    "hurt", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])]
)
def test_a_list_of_models_that_is_not_whole_is_found(whole, hurt):
    out, plan = whole
    hurt(out / "models.parquet")
    found = check(out, plan)
    assert found.code == 2
    assert "models.parquet" in found.faults[0]

"""Files that the repository generates from itself, and how a merge treats them (tools/records.py)."""

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from tools import records, replay

ROOT = Path(__file__).parent.parent
MERGED = re.findall(r"^(\S+) merge=records$", (ROOT / ".gitattributes").read_text(), re.M)
FILES = [file for record in (*records.QUICK, *records.SLOW) for file in record.files]


def test_every_generated_file_is_there():
    assert [file for file in FILES if not (ROOT / file).exists()] == []


def test_what_a_merge_keeps_of_ours_is_written_again():
    written = [path for file in FILES for path in (file, f"{file}/any.svg", f"{file}/any.txt")]
    assert [one for one in MERGED if not any(fnmatch(path, one) for path in written)] == []


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository in which one command writes the sum of two files into a third."""
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    code = (
        "p = __import__('pathlib').Path; p('c').write_text(p('a').read_text() + p('b').read_text())"
    )
    record = records.Record("sum", ("c",), (sys.executable, "-c", code), 1)
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.setattr(records, "QUICK", (record,))
    monkeypatch.setattr(records, "SLOW", ())
    return tmp_path


def write(monkeypatch, *options):
    monkeypatch.setattr("sys.argv", ["records", *options])
    return records.main()


def test_stale_files_are_written_and_a_check_writes_nothing(repository, monkeypatch, capsys):
    assert write(monkeypatch, "--check") == 1
    assert not (repository / "c").exists(), "a check leaves no new file"
    assert write(monkeypatch) == 0
    assert "wrote c" in capsys.readouterr().out
    assert write(monkeypatch, "--check") == 0
    (repository / "a").write_text("3")
    assert write(monkeypatch, "--check") == 1
    assert (repository / "c").read_text() == "12"
    assert write(monkeypatch) == 0
    assert (repository / "c").read_text() == "32"


@pytest.mark.usefixtures("repository")
def test_a_command_that_fails_is_named(monkeypatch, capsys):
    failing = records.QUICK[0]._replace(command=("sh", "-c", "echo no a; exit 2"))
    monkeypatch.setattr(records, "QUICK", (failing,))
    assert write(monkeypatch) == 1
    assert re.search(r"FAILED(.|\n)*no a", capsys.readouterr().out)


@pytest.mark.slow
def test_two_branches_merge_without_a_conflict(tmp_path):
    """Both change a generated file, and both add a corner."""

    def git(*words):
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def commit(corner, budget):
        with (tmp_path / "tests/corners.jsonl").open("a") as corners:
            corners.write(corner + "\n")
        (tmp_path / "tools/house.toml").write_text(f"nodes = {budget}\n")
        git("add", "-A")
        git("commit", "-qm", corner)

    git("init", "-q", "-b", "main")
    (tmp_path / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    (tmp_path / "tests").mkdir()
    (tmp_path / "tools").mkdir()
    git("config", "merge.records.driver", "true")  # as `make merge` has it
    commit("first", 9)
    git("checkout", "-qb", "other")
    commit("theirs", 8)
    git("checkout", "-q", "main")
    commit("ours", 7)
    git("merge", "-q", "--no-edit", "other")
    assert (tmp_path / "tools/house.toml").read_text() == "nodes = 7\n"
    lines = (tmp_path / "tests/corners.jsonl").read_text().split()
    assert sorted(lines) == ["first", "ours", "theirs"]


def test_a_corner_that_both_sides_of_a_merge_have_counts_once(tmp_path, monkeypatch):
    row = '{"request": {"task": "load", "model": "gpt2"}, "answer": null}\n'
    (tmp_path / "corners.jsonl").write_text(row + row)
    monkeypatch.setattr(replay, "CORNERS", tmp_path / "corners.jsonl")
    assert len(replay.read_corners()) == 1

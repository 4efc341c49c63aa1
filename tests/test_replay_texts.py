"""The guard of answers about texts (tools/replay_texts.py) sees a change, and says which."""

import json

import pytest
from tools import replay_texts
from tools.replay_texts import Text, replayed

ONE = Text("vllm.sh", "vllm serve Qwen/Qwen3-8B --max-model-len 8192 --tensor-parallel-size 2")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    path = tmp_path / "texts.jsonl"
    monkeypatch.setattr(replay_texts, "KEPT", path)
    monkeypatch.setattr(replay_texts, "texts", lambda folders: [ONE])
    return path


@pytest.mark.slow
def test_a_text_that_is_answered_as_before_is_no_change(kept, capsys):
    assert replayed([], accept=True) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 answers about texts changed"
    assert replayed([], accept=False) == 0
    assert capsys.readouterr().out == "0 of 1 answers about texts changed\n"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["peak", "settings", "read", "task"])
def test_a_part_that_changed_is_named(kept, capsys, part):
    replayed([], accept=True)
    row = json.loads(kept.read_text())
    row["answer"]["runs"][0][part] = "another"
    kept.write_text(json.dumps(row) + "\n")
    capsys.readouterr()
    assert replayed([], accept=False) == 1
    assert capsys.readouterr().out.startswith(f"vllm.sh | {part} another -> ")


def test_the_kept_file_has_no_text_of_others():
    rows = list(map(json.loads, (replay_texts.ROOT / "tests/texts.jsonl").read_text().splitlines()))
    assert rows
    assert {frozenset(row) for row in rows} == {frozenset({"text", "place", "answer"})}
    assert all(len(row["text"]) == 12 for row in rows)

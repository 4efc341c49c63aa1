"""The replay: answers of the catalogue are those that tests/replay.jsonl keeps (tools/replay.py)."""

from dataclasses import replace

import pytest
from tools import replay

from weighbridge import prepare

SAMPLE = ("gpt2", "qwen3-0.6b", "gemma-2-2b", "mixtral-8x7b")


def test_every_model_and_question_is_kept() -> None:
    kept = replay.read()
    assert list(kept) == list(replay.catalogue.names())
    asked = [name for name, _, _ in replay.questions(prepare("gpt2"))]
    assert all(list(answers) == asked for answers in kept.values())
    few = [q for q in asked if q.startswith(("infer ollama", "infer mlx"))]  # which refuse more
    for share, some in ((0.65, set(asked) - {*few}), (0.45, few)):
        told = [
            one.parts is not None
            for found in kept.values()
            for q, one in found.items()
            if q in some
        ]
        assert sum(told) > share * len(kept) * len(some)  # engines of text refuse networks of timm


@pytest.mark.parametrize("name", SAMPLE)
def test_loads_are_the_same_to_the_byte(name: str) -> None:
    _, found = replay.asked((name, "load"))
    assert found["load"] == replay.read()[name]["load"]


def test_a_change_is_told_by_its_component_and_the_peak() -> None:
    before = replay.Kept("a", 1 << 30, {"weights": "1", "kv_cache": "2"})
    now = replay.Kept("b", 3 << 30, {"weights": "1", "kv_cache": "3"})
    assert replay.difference(before, before) == ""
    assert replay.difference(before, now) == "kv_cache; peak 1.000 -> 3.000 GiB"
    assert "the rest" in replay.difference(before, replace(before, report="c"))
    refused = replay.Kept("refused", message="no such class")
    assert replay.difference(before, refused) == "answered -> no such class"


def test_what_is_written_is_read_back(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    before = replay.read()
    monkeypatch.setattr(replay, "KEPT", tmp_path / "replay.jsonl")
    assert replay.read() == {}
    replay.write(before)
    assert replay.read() == before

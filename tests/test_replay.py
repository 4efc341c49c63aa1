"""The replay: answers of the catalogue are those that tests/replay.jsonl keeps (tools/replay.py)."""

from dataclasses import replace

import pytest
from tools import replay

from weighbridge import prepare
from weighbridge.models import catalogue
from weighbridge.pictures.seeing import sees

SAMPLE = ("gpt2", "qwen3-0.6b", "gemma-2-2b", "mixtral-8x7b")


def test_every_model_and_question_is_kept() -> None:
    kept = replay.read()
    assert list(kept) == list(replay.catalogue.names())
    asked = [name for name, _, _ in replay.questions(prepare("gpt2"))]
    assert all(list(answers) == asked for answers in kept.values())
    few = [q for q in asked if q.startswith(("infer ollama", "infer mlx"))]  # which refuse more
    # Engines of text refuse networks of timm, and those that see by programs of their own
    served = [answers for name, answers in kept.items() if not sees(catalogue.find(name).config)]
    for share, some in ((0.65, set(asked) - {*few}), (0.45, few)):
        told = [one.parts is not None for found in served for q, one in found.items() if q in some]
        assert sum(told) > share * len(served) * len(some)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_loads_are_the_same_to_the_byte(name: str) -> None:
    _, found = replay.asked((name, "load"))
    assert found["load"] == replay.read()[name]["load"]


def test_every_corner_is_kept_and_none_twice() -> None:
    corners = replay.read_corners()
    assert len({(one.model, one.question) for one in corners}) == len(corners) > 0
    sizes = {one.model for one in corners} - {*replay.catalogue.names()}
    assert all(name.endswith("B") and float(name[:-1]) for name in sizes)  # such as 7B
    assert not any("local" in one.question for one in corners), "which is another on each machine"
    refused = sum(one.kept is not None and one.kept.parts is None for one in corners)
    assert all(one.kept for one in corners)
    assert refused < len(corners) / 20  # a sentence holds little


def test_corners_are_what_no_question_of_the_catalogue_names() -> None:
    named = {name for one in replay.read_corners() for name in one.request.get("workload", {})}
    assert {"engine_version", "torch_version", "images", "max_loras", "speculative_method"} <= named
    assert {"framework_version", "offload", "optimizer", "attention", "quantization"} <= named


def test_corners_are_written_as_they_were_read(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    before = replay.CORNERS.read_text()
    corners = replay.read_corners()
    monkeypatch.setattr(replay, "CORNERS", tmp_path / "corners.jsonl")
    replay.write_corners(corners)
    assert replay.CORNERS.read_text() == before


def test_a_corner_holds_words_and_is_told_as_it_was_asked() -> None:
    request = {"task": "infer", "model": "gpt2", "workload": {"engine": "vllm", "max_num_seqs": 3}}
    (one,) = replay.asked_again([replay.Corner(request, None)])
    assert one.question == "infer vllm max_num_seqs=3"
    assert one.kept is not None
    assert one.kept.parts is not None
    assert [*one.kept.parts][-2:] == ["words", "tensors"]
    other = replace(one.kept, parts={**one.kept.parts, "words": ""})
    found = replay.changed({"gpt2": {one.question: other}}, replay.answers([one]))
    assert found == ["gpt2 | infer vllm max_num_seqs=3 | words"]
    assert one.kept.sentences
    assert one.kept.sentences <= replay.read_sentences()


def test_a_change_is_told_by_its_component_and_the_peak() -> None:
    before = replay.Kept("a", 1 << 30, {"weights": "1", "kv_cache": "2"})
    now = replay.Kept("b", 3 << 30, {"weights": "1", "kv_cache": "3"})
    assert replay.difference(before, before) == ""
    assert replay.difference(before, now) == "kv_cache; peak 1.000 -> 3.000 GiB"
    assert "the rest" in replay.difference(before, replace(before, report="c"))
    refused = replay.Kept("refused", message="no such class")
    assert replay.difference(before, refused) == "answered -> no such class"
    line = "model | infer vllm | no such class; --engine sglang does -> answered"
    assert replay._parse_change(line).components == ["refused"]


def test_a_sentence_is_kept_behind_its_key_without_numbers() -> None:
    phase = {"formula": "2 x 4,096 tokens\nin fp8", "source": "vllm 0.33 a.py", "bytes": 3}
    report = {"version": "1", "phases": [phase], "reason": None, "warnings": ["1.5 of Q4_K"]}
    assert [*replay.forms(report)] == [
        "formula: # x # tokens in fp8",
        "source: vllm 0.33 a.py",
        "warnings: # of Q4_K",
    ]


def test_a_new_sentence_is_told_and_one_that_is_gone(tmp_path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    def told(*lines: str, every: bool = True, accept: bool = False) -> tuple[int, list[str]]:
        corner = replay.Corner({}, replay.Kept("", sentences=frozenset(lines)))
        changed = replay.told_sentences([corner], every=every, accept=accept)
        return changed, capsys.readouterr().out.splitlines()[:-1]

    monkeypatch.setattr(replay, "SENTENCES", tmp_path / "sentences.txt")
    assert told("b", "a", accept=True) == (2, ["+ a", "+ b"])
    assert replay.SENTENCES.read_text() == "a\nb\n"
    assert told("b", "a") == (0, [])
    assert told("a", every=False) == (0, []), "others were not asked"
    assert told("a", "c", every=False) == (1, ["+ c"])
    assert told("a", "c", accept=True) == (2, ["+ c", "- b"])
    assert replay.SENTENCES.read_text() == "a\nc\n"


def test_sentences_are_sorted_and_held_once() -> None:
    lines = replay.SENTENCES.read_text().splitlines()
    assert lines == sorted(set(lines))
    assert lines


@pytest.mark.slow
def test_what_is_written_is_read_back(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    before = replay.read()
    monkeypatch.setattr(replay, "KEPT", tmp_path / "replay.jsonl")
    assert replay.read() == {}
    replay.write(before)
    assert replay.read() == before

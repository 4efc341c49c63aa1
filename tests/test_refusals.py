"""Every refusal has a class, and what a program refuses has that program's own words."""

import pytest
from tools import refusals

from tests.cases import all_of
from weighbridge.answers.questions.requests import refused
from weighbridge.base.errors import BadFileError, HubError, TriedError, UnsupportedError, UsageError
from weighbridge.faces.api import infer, train

MODULE = """
from weighbridge.base.errors import TriedError, UsageError
WHY = "{} and PEFT do not go together"
def f(framework, x):
    if x: raise UsageError(f"--x {x}: {framework.name} stops at it")
    if x: raise UsageError("--framework megatron: give --x")
    if x: raise UsageError(WHY.format(x))
    if x: raise TriedError("--x: vLLM refuses it", seen="")
    raise TriedError("--x: vLLM refuses it", seen="vllm 0.33: no x")
"""


def test_a_sentence_that_names_a_program_needs_a_class(tmp_path):
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "x.py").write_text(MODULE)
    sentences = [(each.error, each.sentence) for each in refusals.unclassed(tmp_path)]
    assert sentences == [
        ("UsageError", "--x {}: {program} stops at it"),
        ("UsageError", "{} and PEFT do not go together"),
        ("TriedError", "--x: vLLM refuses it"),
    ]


@pytest.mark.house
def test_every_refusal_of_ours_has_a_class():
    assert refusals.unclassed() == []


@pytest.mark.house
def test_the_page_of_refusals_is_current():
    assert refusals.PAGE.read_text() == refusals.page(), "run make records"


@all_of(
    ("error", "keys"),
    [
        (UsageError("x"), {"ground": "contradiction"}),
        (BadFileError("x"), {"ground": "contradiction"}),
        (UnsupportedError("x"), {"ground": "gap"}),
        (TriedError("x", seen="vllm: no"), {"ground": "tried", "seen": "vllm: no"}),
        (HubError("x"), {}),
    ],
)
def test_json_has_the_class_of_a_refusal(error, keys):
    assert refused(error)["error"] == {"code": error.code, "message": "x", **keys}


@all_of(
    ("task", "setting", "word", "ground"),
    [
        ("train", "framework", "nanotron", "gap"),
        ("train", "method", "spectrum", "gap"),
        ("train", "optimizer", "zzz", "gap"),
        ("infer", "engine", "zzz", "gap"),
        ("train", "framework", "axolotle", "contradiction"),  # a slip of the pen
        ("train", "optimizer", "adamw_trch", "contradiction"),
        ("infer", "engine", "vlm", "contradiction"),
    ],
)
def test_a_word_that_is_like_none_of_ours_is_a_gap(task, setting, word, ground):
    with pytest.raises(UsageError, match=setting) as refusal:
        {"train": train, "infer": infer}[task]("qwen3-0.6b", **{setting: word})
    assert refusal.value.ground == ground


@pytest.mark.parametrize(
    ("settings", "ground"),
    [
        ({"gpu": "4090", "engine": "vllm"}, "physical"),
        ({"gpu": "h100:4", "engine": "vllm", "context": 4096}, ""),
    ],
)
def test_a_no_of_memory_is_physical(settings, ground):
    report = infer("llama-3.1-70b", **settings)
    assert report.verdict.ground == ground
    assert report.to_dict()["verdict"].get("ground", "") == ground


@pytest.mark.slow
def test_a_line_that_its_engine_refuses_has_the_words_of_that_engine():
    line = "vllm serve meta-llama/Llama-3.1-8B --max-model-len 200000"
    verdict = infer(command=line, gpu="h100").verdict
    assert (verdict.fits, verdict.ground) == ("no", "tried")
    assert "greater than the derived max_model_len" in verdict.seen


@pytest.mark.slow
def test_json_has_the_words_of_an_engine_that_refuses_a_line():
    line = "vllm serve meta-llama/Llama-3.1-8B --max-model-len 200000"
    assert "derived max_model_len" in infer(command=line, gpu="h100").to_dict()["verdict"]["seen"]

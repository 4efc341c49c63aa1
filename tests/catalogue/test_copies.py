"""Packed repositories by name: each weighs what the model weighs in its format."""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.models.catalogue import everyday
from weighbridge.models.catalogue.copies import COPIES, Copy, packed_copy
from weighbridge.models.catalogue.owners import PUBLISHED

KNOWN = [(of, form, repo) for of, forms in COPIES.items() for form, repo in forms.items()]


@all_of(("of", "form", "repo"), KNOWN)
def test_a_copy_is_of_a_model_of_the_catalogue(of, form, repo):
    found = everyday.of_owner(repo)
    assert found is not None, repo
    assert found.entry.name == everyday.of_owner(of).entry.name
    copied, original = (name.partition("/")[2].removeprefix("Meta-") for name in (repo, of))
    assert copied.startswith(f"{original}-")


@pytest.mark.slow
@pytest.mark.parametrize(("of", "form", "repo"), KNOWN[::4])
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_copy_asked_about_is_the_model_in_that_format(of, form, repo, engine):
    asked = {"engine": engine, "gpu": "h200", "offline": True}
    model = weighbridge.infer(of, quantization=form, **asked)
    copy = weighbridge.infer(repo, **asked)
    assert copy.workload["quantization"] == form
    assert copy.peak.expected == model.peak.expected
    # Who names files by the format that such names usually mean knows less of their size
    assert copy.peak.low <= model.peak.low <= model.peak.high <= copy.peak.high
    assert copy.verdict.fits in (model.verdict.fits, "unknown")
    assert copy.verdict.usable_bytes == model.verdict.usable_bytes
    assert copy.derived["launch"] == model.derived["launch"]
    assert repo in model.derived["launch"]


@all_of(
    ("repo_id", "form", "copy"),
    [
        ("Qwen/Qwen3-32B", "awq-4bit-g128", Copy("Qwen/Qwen3-32B-AWQ", "Qwen/Qwen3-32B")),
        (
            "Qwen/Qwen2.5-7B",  # of its instruct tune
            "gptq-8bit-g128",
            Copy("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "Qwen/Qwen2.5-7B-Instruct"),
        ),
        ("Qwen/Qwen3-32B", "gptq-4bit-g128", None),
        ("Qwen/Qwen2.5-72B", "awq-4bit-g128", None),  # of other widths
        ("", "awq-4bit-g128", None),
    ],
)
def test_the_copy_of_a_model(repo_id, form, copy):
    assert packed_copy(repo_id, form) == copy


def test_what_only_a_name_says_is_assumed():
    ours, theirs = Copy("Qwen/Qwen3-8B-AWQ", "Qwen/Qwen3-8B"), Copy("a/b-AWQ", "a/b")
    assert "qwen" in PUBLISHED
    assert ours.note == "Qwen/Qwen3-8B-AWQ is Qwen/Qwen3-8B in this format"
    assert theirs.note.endswith(
        "in this format; that its format is the usual one of its name is assumed"
    )


@pytest.mark.parametrize(
    ("model", "form", "engine", "line"),
    [
        ("qwen3-4b", "awq", "vllm", "vllm serve Qwen/Qwen3-4B-AWQ "),
        ("qwen2.5-0.5b", "awq", "sglang", "--model-path Qwen/Qwen2.5-0.5B-Instruct-AWQ "),
        ("qwen3-0.6b", "fp8", "vllm", "vllm serve Qwen/Qwen3-0.6B --quantization fp8 "),  # made
    ],
)
def test_the_line_names_the_copy(model, form, engine, line):
    report = weighbridge.infer(model, quantization=form, engine=engine, gpu="l4")
    assert line in report.derived["launch"]
    assert ("launch_note" in report.derived) == (form != "fp8")
    assert not any("no line" in warning for warning in report.warnings)


def test_a_format_without_a_copy_has_no_line():
    report = weighbridge.infer("qwen3-0.6b", quantization="gptq", engine="vllm", gpu="l4")
    assert "does not make gptq-4bit-g128" in report.derived["launch_note"]
    assert "launch" not in report.derived


@pytest.mark.slow
def test_a_published_copy_is_a_remedy_that_nobody_has_to_make():
    report = weighbridge.infer("qwen3-32b", engine="vllm", gpu="4090")
    first = report.remedies[0]
    assert first.change == {"quantization": "awq-4bit-g128"}
    assert first.paste == "vllm serve Qwen/Qwen3-32B-AWQ --max-model-len 4096"
    assert first.note == "Qwen/Qwen3-32B-AWQ is Qwen/Qwen3-32B in this format"
    assert first.price.effort == 0
    assert "is needed" not in first.cost

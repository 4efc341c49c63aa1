"""Files of models that others publish: each is of a model that we know, and what a line names is that
model in that format."""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.models.catalogue import everyday
from weighbridge.models.catalogue.files import (
    FORMATS,
    GGUF,
    LISTED,
    MLX_BITS,
    gguf_of,
    has_gguf,
    mlx_of,
)

FILES = [
    (of, form)
    for of, repository in GGUF.items()
    for form in LISTED.get(repository) or FORMATS[repository.partition("/")[0]]
]


@all_of("of", [*GGUF, *MLX_BITS])
def test_a_file_is_of_a_model_of_the_catalogue(of):
    assert everyday.of_owner(of) is not None


@all_of(
    ("of", "form", "named"),
    [
        ("Qwen/Qwen3-8B", "Q4_K_M", "unsloth/Qwen3-8B-GGUF:Q4_K_M"),
        ("openai/gpt-oss-20b", "MXFP4_MOE", "ggml-org/gpt-oss-20b-GGUF:MXFP4"),
        ("openai/gpt-oss-20b", "Q4_K_M", None),
        ("Qwen/Qwen3-8B", "IQ2_XS", None),
        ("someone/else", "Q4_K_M", None),
    ],
)
def test_the_file_of_a_format(of, form, named):
    known = gguf_of(of, form)
    assert (None if known is None else known.repo_id) == named


@all_of(
    ("of", "form", "named"),
    [
        ("Qwen/Qwen3-8B", "mlx-4bit-g64", "mlx-community/Qwen3-8B-4bit"),
        ("Qwen/Qwen3-8B", "mlx-8bit-g64", None),
        ("Qwen/Qwen3-8B", "mlx-4bit-g32", None),
    ],
)
def test_the_repository_of_bits(of, form, named):
    known = mlx_of(of, form)
    assert (None if known is None else known.repo_id) == named


@all_of(
    ("repo_id", "form", "there"),
    [
        ("unsloth/qwen3-8b-gguf", "Q4_K_M", True),
        ("unsloth/Qwen3-8B-GGUF", "UD-Q4_K_XL", False),
        ("ggml-org/gpt-oss-20b-GGUF", "MXFP4_MOE", True),
        ("ggml-org/gpt-oss-20b-GGUF", "Q4_K_M", False),
        ("somebody/Qwen3-8B-GGUF", "Q4_K_M", False),
    ],
)
def test_formats_that_lines_name_a_repository_for(repo_id, form, there):
    assert has_gguf(repo_id, form) is there


def test_what_it_holds_is_said():
    file, listed = (
        gguf_of("meta-llama/Llama-3.1-8B", "Q8_0"),
        gguf_of("openai/gpt-oss-20b", "MXFP4_MOE"),
    )
    assert "holds meta-llama/Llama-3.1-8B as it was instructed; that it has" in file.note
    assert listed.note == "ggml-org/gpt-oss-20b-GGUF:MXFP4 holds openai/gpt-oss-20b"
    tuned = gguf_of("meta-llama/Llama-3.3-70B-Instruct", "Q4_K_M")
    assert "as it was instructed" not in tuned.note


@pytest.mark.slow
@pytest.mark.parametrize(("of", "form"), FILES[::7])
def test_a_file_asked_about_is_the_model_in_that_format(of, form):
    asked = {"engine": "llama.cpp", "gpu": "h200:4", "offline": True}
    model = weighbridge.infer(everyday.of_owner(of).entry.name, quantization=form, **asked)
    named = gguf_of(of, form).repo_id
    assert f"-hf {named} " in model.derived["launch"]
    copy = weighbridge.infer(named, **asked)
    assert copy.workload["quantization"] == form
    assert copy.model.parameters == model.model.parameters

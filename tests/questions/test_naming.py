"""Names are questions to the engine that people use them with."""

from functools import cache

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.answers.questions.naming import named_engine
from weighbridge.workload import Infer


@cache
def prepared(name):
    return weighbridge.prepare(name, offline=True)


def named(reference, model, **settings):
    """The engine of a reference to files like those of a model of the catalogue."""
    return named_engine(reference, prepared(model).model().parts[0], Infer(**settings))


@all_of(
    ("reference", "engine"),
    [
        ("qwen3:0.6b", "ollama"),
        ("qwen3:latest", "ollama"),
        ("bartowski/Qwen3-0.6B-GGUF:Q6_K", "llama.cpp"),
        ("Qwen/Qwen3-0.6B-gguf", "llama.cpp"),
        ("mlx-community/Qwen3-0.6B-4bit", "mlx"),
        ("lmstudio-community/Qwen3-0.6B-MLX-4bit", "mlx"),
        ("Qwen/Qwen3-0.6B-AWQ", "vllm"),
        ("Qwen/Qwen3-0.6B", ""),
        ("qwen3-0.6b", ""),
        ("Qwen/Qwen3-0.6B-GPTQ-Int8", ""),  # which transformers reads as well
        ("./awq", ""),
        ("hf://Qwen/Qwen3-0.6B", ""),
    ],
)
def test_a_name_is_a_question_to(reference, engine):
    assert named(reference, "qwen3-0.6b") == engine


@all_of(
    ("reference", "settings"),
    [
        ("qwen3:0.6b", {"quantization": "nf4"}),
        ("qwen3:0.6b", {"dtype": "bfloat16"}),
        ("qwen3:0.6b", {"engine_version": "5.0"}),
        ("qwen3:0.6b", {"tensor_parallel_size": 2}),  # no setting of Ollama
        ("mlx-community/Qwen3-0.6B-4bit", {"gpu": "4090"}),
        ("Qwen/Qwen3-0.6B-AWQ", {"gpu": "m3 max 64gb"}),
    ],
)
def test_what_the_engine_could_not_answer_is_the_usual_ones(reference, settings):
    assert named(reference, "qwen3-0.6b", **settings) == ""


def test_a_class_that_writes_no_text_is_the_usual_engines():
    assert named("bert:base", "bert-base-uncased") == ""


def test_the_answer_has_the_engine_and_its_format():
    report = prepared("qwen3:0.6b").briefly(Infer())
    assert (report.workload["engine"], report.workload["quantization"]) == ("ollama", "Q4_K_M")
    other = prepared("qwen3:0.6b").briefly(Infer(engine="transformers"))
    assert (other.workload["engine"], other.workload["dtype"]) == ("transformers", "bfloat16")


@pytest.mark.parametrize("name", ["qwen3:0.6b", "qwen3-0.6b"])
def test_it_sent_back_is_the_same_question(name):
    report = prepared(name).briefly(Infer())
    again = prepared(name).briefly(Infer(engine=report.workload["engine"]))
    assert again.peak == report.peak


@all_of(
    ("settings", "engine"),
    [
        ({"quantization": "Q4_K_M"}, "llama.cpp"),
        ({"quantization": "q4km", "gpu": "3060"}, "llama.cpp"),
        ({"quantization": "Q4_K_M", "dtype": "float16"}, ""),
        ({"quantization": "BF16"}, ""),  # a plain dtype, which GGUF has, too
        ({"quantization": "nf4"}, ""),
    ],
)
def test_a_type_of_gguf_is_a_question_to_llama_cpp(settings, engine):
    assert named("qwen3-0.6b", "qwen3-0.6b", **settings) == engine

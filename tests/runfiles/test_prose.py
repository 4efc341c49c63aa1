"""Settings in words: which are taken, with which value, and which are told and left out."""

import pytest

import weighbridge
from weighbridge.runfiles import read
from weighbridge.runfiles.cards import card
from weighbridge.runfiles.document import documents
from weighbridge.runfiles.named import models

SERVED = "qwen3-8b with vLLM on my 3090: "


def of(text):
    (document,) = documents(text, "text")
    return document


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("max_model_len=32768", {"context": 32768}),
        ("`max-model-len 65536` is set", {"context": 65536}),
        ("--max-model-len 65536 and a 64K context", {"context": 65536}),
        ("max_model_len 设为 16384", {"context": 16384}),
        ("with 32K context", {"context": 32768}),
        ("a context length of 16,384 tokens", {"context": 16384}),
        ("上下文要32K", {"context": 32768}),
        ("32k上下文", {"context": 32768}),
        ("gpu_memory_utilization=0.95", {"gpu_memory_utilization": 0.95}),
        ("tensor_parallel_size=2", {"tensor_parallel_size": 2}),
        ("--max-num-seqs 16, --port 80", {"max_num_seqs": 16}),
        ("想用AWQ", {"quantization": "awq-4bit-g128"}),
        ("in GPTQ, with an fp8 kv cache", {"quantization": "gptq-4bit-g128"}),
        ("in FP8", {"quantization": "fp8"}),
        ("the context of this question is memory", {}),
        ("it reads 4096 files", {}),
        ("the default value of max-model-len is 8192", {}),
        ("默认 max_model_len 是 8192", {}),
        ("```\nmax_model_len=32768\n```", {}),
        ("> with max_model_len=32768", {}),
        ("INFO engine: max_model_len=32768", {}),
    ],
)
def test_settings_of_serving_are_taken_from_words(words, settings):
    (run,) = read(f"{SERVED}\n{words}\n").runs
    assert run.settings == {"gpu": "3090", "engine": "vllm", **settings}
    told = {one.setting: one.key for one in run.understood if one.key.endswith("(in words)")}
    assert told.keys() == settings.keys()


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("seq length 4096", {"seq_len": 4096}),
        ("sequence_len is 8k", {"seq_len": 8192}),
        ("batch size 4, gradient accumulation 8", {"batch_size": 4, "gradient_accumulation": 8}),
        ("序列长度为 4096", {"seq_len": 4096}),
        ("LoRA rank 64", {"method": "lora", "lora_r": 64}),
    ],
)
def test_settings_of_training_are_taken_from_words(words, settings):
    (run,) = read(f"Fine-tune qwen3-8b on a 3090, {words}.").runs
    assert run.settings == {"gpu": "3090", **settings}


def test_two_values_are_none_and_told():
    (run,) = read(f"{SERVED} with 32K context, or --max-model-len 8192?").runs
    assert "context" not in run.settings
    assert any("32768, 8192" in note for note in run.notes)


def test_the_name_of_a_model_says_its_own_format():
    (run,) = read("Qwen3-32B-AWQ with vLLM on a 3090: is GPTQ smaller?").runs
    assert "quantization" not in run.settings


def test_the_context_of_mlx_is_a_limit():
    (run,) = read("`qwen3.8:27b-mlx` in Ollama with `num_ctx 73728`: memory?").runs
    assert "context" not in run.settings
    assert any("MLX" in note for note in run.notes)


def test_ollama_and_a_format_of_gguf_are_a_run():
    (weighed,) = weighbridge.weigh("mistral-7b Q4_K_M in Ollama on an RTX 3060", name="a").runs
    assert weighed.report.workload["engine"] == "ollama"
    assert weighed.report.workload["quantization"] == "Q4_K_M"
    assert [p.value for p in models(of("mistral-7b is slow"))] == ["mistral-7b"]


@pytest.mark.parametrize(
    ("text", "cards"),
    [
        ("单卡A100 80G上用", "A100 80GB"),
        ("H20 96G 机器上训练, 8卡", "H20 96GB:8"),
        ("用8张卡, 都是A100 80G", "A100 80GB:8"),
        ("A100 80GB x 4", "A100 80GB:4"),
        ("4 GPUs, each an H100", "H100:4"),
        ("8卡 or 4卡 of H100", "H100"),
        ("an H100 and 8张图片", "H100"),
        ("L4上", "L4"),
    ],
)
def test_cards_are_counted_where_their_number_stands_apart(text, cards):
    assert card(of(text)).value == cards

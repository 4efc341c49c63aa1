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
        (
            "in GPTQ, with an fp8 kv cache",
            {"quantization": "gptq-4bit-g128", "kv_cache_dtype": "fp8"},
        ),
        ("kv cache in fp8_e5m2", {"kv_cache_dtype": "fp8_e5m2"}),
        ("with a q8_0 kv cache", {}),  # which vLLM has not
        ("8 users at once, 16k context", {"batch_size": 8, "context": 16384}),
        ("10 concurrent users", {"batch_size": 10}),
        ("8 parallel requests", {"batch_size": 8}),
        ("concurrency 8", {"batch_size": 8}),
        ("batch of 8", {"batch_size": 8}),
        ("并发8, 长度 16384", {"batch_size": 8, "context": 16384}),
        ("同时10个用户", {"batch_size": 10}),
        ("for a team of 10 users", {}),
        ("at 5 req/s", {}),
        ("上下文长度设成 16384", {"context": 16384}),
        ("prompts of up to 16k tokens", {"context": 16384}),
        ("4k tokens", {"context": 4096}),
        ("16k", {"context": 16384}),
        ("an fp8 kv cache, 16k", {"kv_cache_dtype": "fp8", "context": 16384}),
        ("16k samples", {}),
        ("16k, with a context of 8192", {"context": 8192}),
        ("GPU KV cache size: 230,528 tokens", {}),
        ("40 tokens/s after 2,000 generated tokens", {}),
        (
            "tensor parallel 2, utilization 0.8",
            {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.8},
        ),
        ("TP=2", {"tensor_parallel_size": 2}),
        ("张量并行 2", {"tensor_parallel_size": 2}),
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
        ("LoRA r=64, alpha=128", {"method": "lora", "lora_r": 64, "lora_alpha": 128}),
        ("a rank of 32 for LoRA", {"method": "lora", "lora_r": 32}),
        ("rank 32 LoRA", {"method": "lora", "lora_r": 32}),
        ("LoRA 秩 64", {"method": "lora", "lora_r": 64}),
        ("LoRA, but [rank2]: it fails", {"method": "lora"}),
        ("LoRA: rank 3 fails", {"method": "lora"}),
        ("rank 0 dies", {}),
        ("rank : 2 (local_rank: 2) with LoRA", {"method": "lora"}),
        ("LoRA on all linear layers", {"method": "lora", "lora_targets": "all-linear"}),
        ("DoRA", {"method": "dora"}),
        ("bs=4", {"batch_size": 4}),
        ("micro batch 4", {"batch_size": 4}),
        ("an effective batch size of 64", {}),
        ("批大小 4", {"batch_size": 4}),
        ("8-bit Adam", {"optimizer": "adamw_8bit"}),
        ("paged_adamw_8bit", {"optimizer": "paged_adamw_8bit"}),
        ("no gradient checkpointing", {"checkpointing": "none"}),
        ("cutoff_len 设成 4096", {"seq_len": 4096}),
        ("长度8192", {"seq_len": 8192}),
        ("2048 tokens", {"seq_len": 2048}),
        ("DeepSpeed zero 3 offload", {"shard": "zero3", "offload": "params"}),
        ("FSDP", {"shard": "fsdp2"}),
        ("liger", {"loss": "liger"}),
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


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{SERVED}--enforce-eager, --port 80, 3 images", "--enforce-eager, 3 images"),
        (f"{SERVED}for a team of 10 users, with prefix caching", "10 users, prefix caching"),
        (f"{SERVED}with a q8_0 kv cache", "q8_0 kv cache"),
        ("LoRA of qwen3-8b on a 3090, sample packing, learning_rate=1e-4", "packing"),
        ("LoRA of qwen3-8b on a 3090, effective batch size 64", "effective batch size 64"),
        ("LoRA of qwen3-8b on a 3090 with DeepSpeed", "DeepSpeed"),
        ("LoRA of qwen3-8b on two 3090 with DeepSpeed ZeRO-3", ""),
        ("LoRA of qwen3-8b, r=8, 16k samples, `x_y = f(z)`", ""),
        (f"{SERVED}with 8k and 16k context, it fails at 16k and 16,384 tokens", "8k"),
        ("qwen3-8b on two 3090, TP=2, fp8 kv cache", "TP=2, fp8 kv cache"),
    ],
)
def test_what_is_said_and_not_taken_is_named(text, left):
    (run,) = read(text).runs
    notes = [note for note in run.notes if note.startswith("said, and not taken")]
    assert notes == ([f"said, and not taken: {left}"] if left else [])


def test_mlx_in_words_is_an_engine():
    (run,) = read("qwen3-8b in 4 bit with mlx on an M4 Max 64GB").runs
    assert (run.settings["engine"], run.settings["quantization"]) == ("mlx", "mlx-4bit-g64")
    (run,) = read("`qwen3.8:27b-mlx` in Ollama: memory?").runs
    assert "engine" not in run.settings


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("Qwen9.5-VL-72B-GPTQ-Int4", "Qwen9.5-VL-72B-GPTQ-Int4"),
        ("Qwen3-8B", None),
        ("a model", None),
        ("--name-72B", None),
    ],
)
def test_a_model_that_the_catalogue_has_not_is_named(name, note):
    (run,) = read(f"vLLM runs out of memory with {name} on a 3090").runs
    notes = [n for n in run.notes if "which the catalogue has not" in n]
    assert notes == (
        [f"the text names {note}, which the catalogue has not: --model ORG/NAME says where it is"]
        if note
        else []
    )

"""A report's own workload, sent back as a request: the same report, of every engine and framework."""

import json

import pytest

from tests.cases import some
from weighbridge.answers.questions.requests import Requests
from weighbridge.engines.table import FOLDERS
from weighbridge.training.frameworks import FRAMEWORKS
from weighbridge.workload import TABLES
from weighbridge.workload.train import LEARNERS

MODEL = "qwen3-0.6b"
OTHERS = {"litgpt": "tinyllama-1.1b"}  # which has no Qwen 3
MORE = {  # of the settings that everybody has, and of one engine's own
    "plain": {},
    "cards": {"gpu": "4090:2", "headroom": "1GiB", "ram": "64GiB"},
    "requests": {"context": 8192, "batch_size": 4},
    "lengths": {"prompt_len": 1000, "max_new_tokens": 200},
}
OWN = {
    "vllm": {"speculative_method": "ngram", "num_speculative_tokens": 3, "enforce_eager": True}
    | {"shared_prefix": 256, "context": 8192},
    "sglang": {"page_size": 16, "shared_prefix": 256, "context": 8192},
    "llama.cpp": {"parallel": 2, "flash_attn": "on", "cache_type_k": "q8_0"},
    "transformers": {"attention": "eager", "quantization": "nf4", "image_size": 448},
}
SERVED = [("infer", {"engine": engine} | more) for engine in FOLDERS for more in MORE.values()]
SERVED += [("infer", {"engine": engine} | own) for engine, own in OWN.items()]
LOADED = [("load", more) for more in ({}, {"device_map": "auto"}, {"quantization": "nf4"})]
METHODS = ({}, {"method": "qlora", "gpu": "h100"}, {"seq_len": 512, "attention": "eager"})
TUNING = (*FRAMEWORKS, *LEARNERS)
TRAINED = [("train", {"framework": name} | more) for name in TUNING for more in METHODS]
SHARDED = ("train", {"shard": "zero3", "gpu": "h100:4", "zero_reduce_bucket_size": 100_000})


LEARNT = [
    ("train", {"method": "grpo", "framework": "trl", "rollout_engine": "vllm", "gpu": "h100:2"}),
    ("train", {"method": "ppo", "framework": "verl", "reward_model": "qwen2.5-0.5b"}),
    ("train", {"method": "grpo", "framework": "openrlhf", "gpu": "h100:2", "packing": True}),
    ("train", {"method": "dpo", "packing": True, "batch_size": 2}),
    ("train", {"method": "orpo", "framework": "openrlhf", "batch_size": 1, "seq_len": 2048}),
    ("train", {"method": "orpo", "framework": "openrlhf", "seq_len": 2048, "gpu": "h100"}),
    ("train", {"method": "kto", "framework": "ms-swift", "lora_r": 16}),
    ("train", {"method": "grpo", "framework": "unsloth", "lora_r": 16}),
]
PICTURED = [
    ("image", {"size": "512x384", "gpu": "3060", "offload": "model", "vae_tiling": True}),
    ("image", {"batch_size": 2, "quantization": "fp8", "guidance": "off", "attention": "flash"}),
    *(
        ("train_image", {"size": "256x192", "gpu": "3060"} | more)
        for more in (
            {},
            {"framework": "kohya", "batch_size": 2, "checkpointing": "full"},
            {"framework": "ai-toolkit", "streaming": "layers", "offload_fraction": 0.5},
            {"method": "lokr", "lokr_factor": 8, "uncached_latents": True},
            {"method": "full", "optimizer": "adafactor", "ema": True},
        )
    ),
]


@pytest.fixture(scope="module")
def answer():
    desk = Requests(offline=True)

    def ask(task, workload):
        usual = "sd-1.5" if task.startswith("image") else MODEL
        model = OTHERS.get(workload.get("framework"), usual)
        request = {"task": task, "model": model, "workload": workload, "remedies": False}
        return desk.answer(json.dumps(request))

    return ask


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "workload"),
    [*LOADED, *some(9, SERVED), *some(36, TRAINED), SHARDED, *LEARNT, *PICTURED],
)
def test_a_workload_that_is_sent_back_gives_the_same_report(answer, task, workload):
    first = answer(task, workload)
    if "error" in first:
        pytest.skip(first["error"]["message"])
    assert answer(task, first["workload"]) == first


@pytest.mark.slow
@pytest.mark.parametrize("task", ["infer", "train"])
@pytest.mark.parametrize("model", ["timm/resnet18", "yolo11n"])
def test_a_question_of_a_network_that_sees_is_sent_back(task, model):
    desk = Requests(offline=True)
    request = {"task": task, "model": model, "workload": {"gpu": "3060", "batch_size": 8}}
    first = desk.answer(json.dumps(request))
    assert desk.answer(json.dumps(request | {"workload": first["workload"]})) == first


@pytest.mark.parametrize("engine", FOLDERS)
def test_every_setting_that_was_asked_is_in_the_report(answer, engine):
    asked = {"engine": engine, "context": 2048, "batch_size": 2}
    asked |= {"shared_prefix": 128} if engine in ("vllm", "sglang") else {}
    asked |= {} if engine == "mlx" else {"images": 1}
    told = answer("infer", asked)["workload"]
    assert {name: told[name] for name in asked} == asked


@pytest.mark.slow
def test_a_setting_that_is_changed_in_a_workload_is_asked(answer):
    first = answer("infer", {"engine": "vllm", "gpu": "4090"})
    second = answer("infer", first["workload"] | {"kv_cache_dtype": "fp8"})
    assert second["workload"]["kv_cache_dtype"] == "fp8"
    assert second["devices"] != first["devices"]
    assert second == answer("infer", {"engine": "vllm", "gpu": "4090", "kv_cache_dtype": "fp8"})


@pytest.mark.parametrize(("name", "value"), [("n_ctx", 9999), ("n_batch_of_mine", 1)])
def test_what_is_no_setting_cannot_be_changed(answer, name, value):
    first = answer("infer", {"engine": "llama.cpp"})
    assert name not in TABLES["infer"]
    said = answer("infer", first["workload"] | {name: value})["error"]["message"]
    assert f"workload.{name} is {value}, and with the other settings it comes to" in said


def test_what_a_person_types_is_not_guessed_at(answer):
    said = answer("infer", {"engine": "llama.cpp", "n_ctx": 4096})["error"]["message"]
    assert "infer has no setting 'n_ctx'" in said

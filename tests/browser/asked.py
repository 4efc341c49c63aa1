"""Requests drawn at random, always the same: every task, five engines, odd settings and wrong ones."""

import random

from weighbridge.models import catalogue

ENGINES = ("transformers", "vllm", "sglang", "llama.cpp", "ik_llama.cpp")
GPUS = ("3060", "4090", "h100", "a100-80gb:4", "2x RTX 4090", "t4", "mi300x", "m3 max 128gb", "l4")
CONTEXTS = (512, 4096, "8k", "32K", 131072)
FORMATS = ("nf4", "bnb-int8", "Q4_K_M", "awq", "fp8", "gptq-4bit-g128", "int4", "Q8_0")
METHODS = ("full", "lora", "qlora", "dora")
OPTIMIZERS = ("adamw_torch", "adamw_8bit", "adafactor", "sgd", "paged_adamw_8bit", "muon")
WRONG = (
    {"task": "infer", "model": "no-such-model"},
    {"task": "infer", "model": "llama-3.1-8b", "workload": {"gpu": "no such card"}},
    {"task": "infer", "model": "llama-3.1-8b", "workload": {"context": -1}},
    {"task": "infer", "model": "llama-3.1-8b", "workload": {"engine": "<b>vllm</b>"}},
    {"task": "load", "model": "llama-3.1-8b", "workload": {"dtype": "float12"}},
    {"task": "train", "model": "llama-3.1-8b", "workload": {"batch_size": "many"}},
    {"task": "train", "model": {"config": {"model_type": "llama"}}, "workload": {}},
    {"task": "nothing", "model": "llama-3.1-8b"},
    {"task": "fit", "model": "llama-3.1-8b", "workload": {}},
    {"task": "load", "model": "/etc/passwd"},
    {"task": "load", "model": "https://example.com/model.safetensors"},
    {"task": "infer", "model": "qwen3-8b", "workload": {"gpu": "local"}},
    {"task": "train", "model": "qwen3-8b", "workload": {"exact": True}},
    {"task": "load", "model": "llama-3.1-8b", "colour": "red"},
)
SMALL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
    "torch_dtype": "bfloat16",
}


def requests(count, seed=14):
    draw = random.Random(seed)
    names = sorted(catalogue.names())
    return [_one(draw, names) for _ in range(count)]


def _one(draw, names):
    kind = draw.choices(("load", "infer", "train", "fit", "wrong"), (40, 90, 40, 6, 24))[0]
    if kind == "wrong":
        return dict(draw.choice(WRONG))
    model = {"config": SMALL} if draw.random() < 0.08 else draw.choice(names)
    if draw.random() < 0.05:
        model = draw.choice(("7B", "1.5B", "llama3.1:8b"))
    request = {"task": kind, "model": model, "workload": KINDS[kind](draw)}
    if kind != "fit":
        request["remedies"] = kind != "train" and draw.random() < 0.3
    if draw.random() < 0.4:
        view = {"lang": draw.choice(("en", "zh")), "details": draw.random() < 0.5}
        request["view"] = view | {"explain": draw.random() < 0.3}
    return request


def _some(draw, **choices):
    """Each setting with even odds."""
    return {key: draw.choice(held) for key, held in choices.items() if draw.random() < 0.5}


def _load(draw):
    return _some(draw, gpu=GPUS, quantization=FORMATS, headroom=("10%", "1GiB"))


def _infer(draw):
    given = {"engine": draw.choice(ENGINES), **_some(draw, gpu=GPUS, context=CONTEXTS)}
    odd = {"batch_size": (1, 3, 8), "quantization": FORMATS, "tensor_parallel_size": (2, 4)}
    return given | {key: value for key, value in _some(draw, **odd).items() if draw.random() < 0.6}


def _train(draw):
    given = {"method": draw.choice(METHODS), **_some(draw, gpu=GPUS, optimizer=OPTIMIZERS)}
    return given | _some(
        draw, batch_size=(1, 2, 5), seq_len=(512, 2048, "4k"), checkpointing=("none", "full")
    )


def _fit(draw):
    return {"gpu": draw.choice(GPUS[:5])}


KINDS = {"load": _load, "infer": _infer, "train": _train, "fit": _fit}

"""A model that is asked again answers as one that was never asked: what is kept of it depends on
nothing but itself."""

import random

import pytest

from tests.ask import or_refusal
from weighbridge.faces import api

MODELS = ("llama-3.1-8b", "gemma-2-2b", "whisper-tiny", "gpt-oss-20b")
LOADS = (
    {},
    {"dtype": "float32"},
    {"quantization": "nf4"},
    {"quantization": "Q4_K_M"},
    {"engine_version": "4.40"},
    {"engine_version": "4.40", "quantization": "nf4", "device_map": "auto"},
    {"device_map": "auto"},
    {"gpu": "4090"},
    {"gpu": "2x 4090", "dtype": "float32", "ram": "16GiB"},
)
SERVING = (
    {},
    {"engine_version": "4.40", "context": 3000},
    {"dtype": "float32", "batch_size": 3},
    {"quantization": "nf4", "context": 1000},
    {"engine": "llama.cpp", "context": 700, "batch_size": 2},
    {"engine": "llama.cpp", "quantization": "Q4_K_M"},
    {"engine": "llama.cpp", "quantization": "Q4_K_M", "dtype": "float32"},
    {"engine": "llama.cpp", "gpu": "2x 4090", "flash_attn": "off", "n_cpu_moe": 3},
    {"engine": "ik_llama.cpp", "gpu": "4090", "quantization": "Q8_0"},
    {"engine": "vllm", "gpu": "4090"},
    {"engine": "sglang", "gpu": "h100", "context": 20_000},
    {"gpu": "2x 4090", "context": 9000},
)


def asked(model, task, settings):
    return or_refusal(getattr(model, task), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_no_answer_depends_on_what_was_asked_before(name):
    chosen = random.Random(name)
    questions = [("load", w) for w in LOADS] + [("infer", w) for w in SERVING]
    one = api.prepare(name)
    for task, settings in chosen.sample(questions, len(questions)):
        asked(one, task, settings)
    for task, settings in chosen.sample(questions, 6):
        assert asked(one, task, settings) == asked(api.prepare(name), task, settings)

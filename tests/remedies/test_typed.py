"""One typed setting that alone is what does not fit: taking it back is told first."""

import pytest

import weighbridge
from weighbridge.remedies.typed import WANTED
from weighbridge.workload import TABLES
from weighbridge.workload.flags import flags

CULPRITS = [
    ("infer", "llama-3.1-8b", {"engine": "vllm", "gpu": "4090"}, {"gpu_memory_utilization": 0.4}),
    ("infer", "llama-3.1-8b", {"gpu": "4090"}, {"dtype": "float32"}),
    (
        "infer",
        "qwen3-30b-a3b",
        {"engine": "llama.cpp", "quantization": "Q4_K_M", "gpu": "3060", "ram": "64GiB"},
        {"n_cpu_moe": 10},
    ),
    (
        "train",
        "qwen3-0.6b",
        {"gpu": "3060", "method": "lora", "batch_size": 6},
        {"checkpointing": "none"},
    ),
    ("infer", "llama-3.1-8b", {"engine": "vllm", "gpu": "3060:2"}, {"tensor_parallel_size": 1}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "model", "wanted", "typed"), CULPRITS, ids=str)
def test_what_alone_does_not_fit_is_taken_back_first(task, model, wanted, typed):
    prepared = weighbridge.prepare(model)
    ask = getattr(prepared, task)
    report = ask(**wanted, **typed)
    assert report.verdict.fits != "yes"
    first = report.remedies[0]
    assert (first.change.keys(), first.fits) == (typed.keys(), "yes")
    assert first.change != typed
    again = ask(**wanted, **first.change, remedies=False)
    assert again.verdict.fits == "yes"
    assert again.peak.expected == first.peak_bytes


@pytest.mark.slow
def test_two_that_do_not_fit_together_are_not_taken_back_alone():
    typed = {"checkpointing": "none", "precision": "fp32"}
    asked = {"gpu": "3060", "method": "full", "batch_size": 6}
    report = weighbridge.train("qwen3-0.6b", **asked, **typed)
    assert not any(r.kind == "typed" or r.change.keys() <= typed.keys() for r in report.remedies)


def test_what_is_wanted_are_settings():
    assert {name for table in TABLES.values() for name in table} >= WANTED


def test_a_setting_that_is_left_out_is_said_so():
    assert flags({"n_cpu_moe": None}, "") == "-ncmoe left out"

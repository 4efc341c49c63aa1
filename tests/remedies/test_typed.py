"""One typed setting that alone is what does not fit: taking it back is told first."""

import pytest

import weighbridge
from tests.remedies.made import case
from weighbridge.answers.remedies import search, searching, typed
from weighbridge.answers.remedies.typed import WANTED
from weighbridge.base.records import replace
from weighbridge.base.units import GIB
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.accelerators.ram import usual
from weighbridge.workload import TABLES
from weighbridge.workload.flags import flags

MIXTURE = {"engine": "llama.cpp", "quantization": "Q4_K_M"}
CULPRITS = [
    ("infer", "llama-3.1-8b", {"engine": "vllm", "gpu": "4090"}, {"gpu_memory_utilization": 0.4}),
    ("infer", "llama-3.1-8b", {"gpu": "4090"}, {"dtype": "float32"}),
    (
        "infer",
        "qwen3-30b-a3b",
        {**MIXTURE, "gpu": "3060", "ram": "64GiB"},
        {"n_cpu_moe": 10},
    ),
    (
        "infer",
        "qwen3-30b-a3b",
        {**MIXTURE, "n_gpu_layers": 99, "gpu": "3060", "ram": "64GiB"},
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


def test_layers_that_the_engine_chose_were_not_typed(monkeypatch):
    """llama.cpp divides kimi-k2 by itself: the search asks with all layers on the card, which
    nobody typed."""
    divided = case("infer", pinned={"swa_full", "cache_ram"}, derived={"layers_on_card": [2, 61]})
    whole = case("infer").report
    divided = replace(divided, workload=divided.workload.but(swa_full=True), ask=lambda _: whole)
    tried = []
    monkeypatch.setattr(typed, "undone", lambda case, names: tried.extend(names) or iter(()))
    monkeypatch.setattr(searching.Search, "run", lambda self: ())
    assert search(divided) == ()
    assert tried == ["swa_full"]


def test_what_is_wanted_are_settings():
    assert {name for table in TABLES.values() for name in table} >= WANTED


def test_a_setting_that_is_left_out_is_said_so():
    assert flags({"n_cpu_moe": None}, "") == "-ncmoe left out"


@pytest.mark.slow
def test_what_takes_more_ram_than_such_a_machine_has_is_open():
    """gpt-oss-120b, trained whole on one card: 2,706 GiB of RAM."""
    asked = {"gpu": "h100", "method": "full"}
    report = weighbridge.train("gpt-oss-120b", **asked)
    offloads = [r for r in report.remedies if "offload" in r.change]
    assert offloads and all(r.fits == "unknown" for r in offloads)
    assert offloads[0].host.expected > 2000 * GIB
    enough = weighbridge.train("gpt-oss-120b", **asked, ram="4TiB")
    assert any(r.fits == "yes" and "offload" in r.change for r in enough.remedies)


@pytest.mark.slow
def test_a_frozen_base_is_offloaded_over_two_cards():
    """FSDP and QLoRA of a 70B model on two cards of 24 GB (answer.ai/posts/2024-03-06-fsdp-qlora)."""
    report = weighbridge.train("llama-3.1-70b", gpu="4090:2", method="qlora")
    first = report.remedies[0]
    assert first.fits == "yes"
    assert (first.change["shard"], first.change["offload"]) == ("fsdp2", "params")
    assert first.host.expected < usual(find("4090").part, 2)


def test_the_ram_that_machines_usually_have():
    assert usual(find("4090").part, 2) == 64 * GIB
    assert usual(find("h100").part, 8) == 16 * find("h100").part.total.bytes.low
    assert usual(find("t4").part, 1) == 64 * GIB

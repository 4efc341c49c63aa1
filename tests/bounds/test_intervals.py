"""Intervals that begin at nothing: what is expected lies inside, not at the upper end."""

import pytest

import weighbridge
from weighbridge.answers.estimate.train import run
from weighbridge.base.memory import LEVELS
from weighbridge.models import catalogue
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Train

ASKED = [
    (weighbridge.load, {"gpu": "4090"}),
    (weighbridge.load, {"dtype": "float32"}),
    (weighbridge.infer, {}),
    (weighbridge.infer, {"gpu": "4090", "batch_size": 8}),
    (weighbridge.infer, {"engine": "vllm", "gpu": "4090"}),
    (weighbridge.infer, {"engine": "sglang", "gpu": "h100"}),
    (weighbridge.infer, {"engine": "llama.cpp", "quantization": "Q4_K_M", "no_mmap": True}),
    (weighbridge.train, {"seq_len": 256}),
    (weighbridge.train, {"seq_len": 256, "gpu": "4090"}),
    (weighbridge.train, {"seq_len": 256, "method": "lora", "framework": "trl"}),
    (weighbridge.train, {"seq_len": 256, "framework": "litgpt"}),
    (weighbridge.train, {"seq_len": 256, "optimizer": "paged_adamw_8bit"}),
    (weighbridge.train, {"seq_len": 256, "shard": "fsdp2", "offload": "params", "gpu": "4090:2"}),
    (weighbridge.train, {"seq_len": 256, "shard": "zero3", "offload": "nvme", "gpu": "4090:2"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("ask", "settings"), ASKED)
def test_nothing_is_expected_to_be_at_its_upper_end(ask, settings):
    """At no level of no phase; on the host no part of it, pages of files apart: all of a file may
    be in memory, and mostly is."""
    devices = ask("llama-3.2-1b", **settings).devices
    sums = [p.at(level) for d in devices if d.kind == "gpu" for p in d.phases for level in LEVELS]
    host = [c.bytes for p in devices[-1].phases for c in p.components if not c.droppable]
    assert sums
    assert host
    assert not [b for b in (*sums, *host) if b.low < b.expected == b.high]


BESIDE = [
    (weighbridge.infer, {"engine": "vllm", "gpu": "4090"}, "model_loading_bytes", "_bytes"),
    (weighbridge.infer, {"engine": "sglang", "gpu": "h100"}, "max_total_num_tokens", ""),
    (weighbridge.infer, {"engine": "ollama", "gpu": "4090"}, "ollama_ps_bytes", "_bytes"),
    (weighbridge.train, {"seq_len": 256}, "first_step_peak_bytes", "_bytes"),
    (
        weighbridge.train,
        {"seq_len": 64, "framework": "megatron"},
        "first_step_peak_bytes",
        "_bytes",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("ask", "settings", "name", "unit"), BESIDE)
def test_a_number_that_was_published_has_its_interval_beside_it(ask, settings, name, unit):
    derived = ask("llama-3.2-1b", **settings).derived
    low, expected, high = derived[f"{name.removesuffix(unit)}_interval"]
    assert low <= expected == derived[name] <= high
    assert low < high


def test_cached_blocks_are_between_nothing_and_one_segment_more():
    """The rules are asked alone: runs that were measured bring these ends closer."""
    alone = run(
        resolve(gather_config(catalogue.find("llama-3.2-1b").config)), Train(seq_len=256)
    ).answer
    for phase in alone.devices[0].phases:
        found = [c.bytes for c in phase.components if c.name == "fragmentation" and not c.detail]
        assert all(b.low == 0 and b.high - b.expected in (0, 20 << 20) for b in found)
        assert phase.at("reserved").low <= phase.at("reserved").expected

"""Layouts of a server over several cards that people run."""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.engines.servers.layouts import ATTENTION, EXPERTS, spreads
from weighbridge.engines.table import record
from weighbridge.workload import SPREAD

TENSOR, PIPELINE, DATA = SPREAD


def laid(engine, count, *, experts):
    return [dict(layout) for layout in spreads(record(engine), count, experts=experts)]


@all_of(
    ("engine", "count", "experts", "layouts"),
    [
        ("vllm", 1, True, []),
        ("ollama", 8, True, []),
        ("transformers", 8, True, []),
        ("vllm", 2, False, [{TENSOR: 1, PIPELINE: 2}]),
        ("vllm", 4, False, [{TENSOR: 2, PIPELINE: 2}, {TENSOR: 1, PIPELINE: 4}]),
        (
            "vllm",
            2,
            True,
            [
                {TENSOR: 1, DATA: 2, EXPERTS: True},
                {TENSOR: 2, EXPERTS: True},
                {TENSOR: 1, PIPELINE: 2},
            ],
        ),
        (
            "sglang",
            16,
            True,
            [
                {TENSOR: 16, DATA: 16, ATTENTION: True},
                {TENSOR: 16, DATA: 8, ATTENTION: True},
                {TENSOR: 16, DATA: 4, ATTENTION: True},
                {TENSOR: 8, PIPELINE: 2},
                {TENSOR: 4, PIPELINE: 4},
                {TENSOR: 2, PIPELINE: 8},
                {TENSOR: 1, PIPELINE: 16},
            ],
        ),
    ],
)
def test_the_layouts_of_an_engine(engine, count, experts, layouts):
    assert laid(engine, count, experts=experts) == layouts


@all_of("count", [6, 8, 12, 24, 32])
def test_every_layout_uses_all_cards(count):
    for layout in laid("vllm", count, experts=True):
        cards = layout.get(TENSOR, 1) * layout.get(PIPELINE, 1) * layout.get(DATA, 1)
        assert cards == count or layout == {TENSOR: 8, EXPERTS: True}


MANY = {"batch_size": 64, "context": 32768}


@pytest.mark.slow
def test_many_users_of_a_cache_of_latents_have_an_answer():
    """DeepSeek-R1: tensor ranks hold all of its cache each, 134 GiB for 64 users; stages or copies
    of the attention do not."""
    model = weighbridge.prepare("deepseek-r1")
    found = model.fit(gpu="h100", smallest="count", **MANY)
    assert found.solved.value == 16
    assert (found.plan.engine, found.fits) == ("vllm", "yes")
    assert found.plan.layout.keys() & {PIPELINE, DATA}
    there = model.fit(gpu="h100:8", **MANY).plan
    assert (there.why, there.engine, there.report.verdict.count) == ("elsewhere", "vllm", 8)
    assert there.report.verdict.fits == "yes" and "h200" in there.settings["gpu"]
    assert "--data-parallel-size 4" in there.report.derived["launch"]
    alone = model.infer(**{**MANY, **there.settings}, remedies=False)
    assert alone.verdict == there.report.verdict


@pytest.mark.slow
def test_another_layout_is_a_remedy():
    report = weighbridge.infer("deepseek-r1", engine="vllm", gpu="h200:8", **MANY)
    assert report.verdict.fits == "no"
    layouts = [r for r in report.remedies if r.kind == "layout"]
    assert layouts and all(r.fits == "yes" and "gpu" not in r.change for r in layouts)

"""CUDA graphs of Megatron: buffers by hand, and an interval that says how little is known."""

import pytest

from tests.ask import megatron
from tests.cases import all_of
from tests.training.megatron.runs import LLAMA, PLAIN
from weighbridge.base.records import replace
from weighbridge.training.megatron.graphs import buffers, held

HIDDEN = 2 * 512 * 256  # bytes of a micro-batch


@all_of(
    ("changes", "stage", "count"),
    [
        ({}, 0, 1),
        ({"pipeline": 4, "accumulation": 8}, 0, 4),
        ({"pipeline": 4, "accumulation": 8}, 3, 1),
        ({"pipeline": 4, "accumulation": 2}, 0, 2),
        ({"pipeline": 4, "accumulation": 8, "chunks": 2}, 0, 3 * 2 + 4 + 1),
        ({"pipeline": 4, "accumulation": 8, "chunks": 2, "group": 6}, 3, 6 + 1),
    ],
)
def test_micro_batches_that_a_stage_holds_at_once(changes, stage, count):
    assert held(replace(PLAIN, **changes), stage) == count


def test_a_layer_has_two_buffers_for_each():
    assert buffers(LLAMA, replace(PLAIN, graphs="local"), 0) == 2 * 8 * HIDDEN
    assert buffers(LLAMA, replace(PLAIN, graphs="full_iteration"), 0) == 2 * HIDDEN
    four = replace(PLAIN, pipeline=4, accumulation=8, graphs="local")
    assert buffers(LLAMA, four, 0) == 2 * 2 * HIDDEN * 4
    parts = replace(PLAIN, graphs="local", tensor=2, sequence_parallel=True)
    assert parts.parts == 2
    assert buffers(LLAMA, parts, 0) == 2 * 8 * HIDDEN // 2


asked = megatron("llama-3.2-1b", seq_len=512, gpu="h100")


@pytest.mark.parametrize("word", ["enable_cuda_graph", "cuda_graph_impl=transformer_engine"])
def test_graphs_widen_the_answer_at_the_level_of_the_driver(word):
    plain, graphed = (report.devices[0] for report in (asked("cuda_graph_impl=none"), asked(word)))
    assert graphed.peak("allocated") == plain.peak("allocated")
    before, after = plain.peak("driver"), graphed.peak("driver")
    assert after.low == before.low
    assert before.high - before.expected < after.high - after.expected
    assert before.expected < after.expected
    assert any("CUDA graphs" in line for line in asked(word).warnings)

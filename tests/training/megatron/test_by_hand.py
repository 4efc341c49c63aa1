"""Parts of a Megatron run that no step shows apart, each added up by hand."""

from types import SimpleNamespace

import pytest

import weighbridge
from tests.cases import all_of
from tests.training.megatron.runs import LLAMA, PLAIN
from weighbridge.answers.estimate.train import subject_for
from weighbridge.base.records import replace
from weighbridge.training.megatron.answer import _user_buffers
from weighbridge.training.megatron.described import described
from weighbridge.training.megatron.experts import _places
from weighbridge.training.megatron.plan import plan
from weighbridge.training.megatron.stage import fewest_states
from weighbridge.workload.train import Train


@all_of(
    ("remainders", "fewest"),
    [(False, 1200 - 240), (True, (1200 - 240) * (12 - 2) // 12)],
)
def test_the_rank_with_the_fewest_states_may_have_remainders_of_its_master_weights(
    remainders, fewest
):
    assert fewest_states(replace(PLAIN, remainders=remainders), 1200, 240) == fewest


@all_of(("float8", "low"), [("", 2), ("tensorwise", 1)])
def test_tensor_ranks_share_buffers_of_ten_products(float8, low):
    """Rings that scatter have nearly two of each."""
    own = SimpleNamespace(run=replace(PLAIN, float8=float8), model=LLAMA)
    found = _user_buffers(own).bytes
    tokens = 10 * 512 * 256
    assert (found.low, found.expected, found.high) == (low * tokens, 2 * tokens, 4 * tokens)


def test_a_fused_permutation_has_a_map_of_rows():
    """Two indices of 32 bits a token and expert, and how many experts it has."""
    made = SimpleNamespace(new=lambda shape, dtype: (shape, dtype.name))
    rank = SimpleNamespace(m=made, run=replace(PLAIN, fused_permutation=True))
    feed = SimpleNamespace(count=8)
    assert _places(rank, feed, 512, 0) == ((512, 2 * 8 + 1), "int32")


@all_of(
    ("settings", "accumulation", "torch"),
    [
        ({}, 1, (2, 13)),
        ({"pipeline_parallel_size": 2, "data_parallel_size": 1}, 2, (2, 13)),
        ({"gradient_accumulation": 6, "torch_version": "2.7"}, 6, (2, 7)),
    ],
)
def test_a_run_has_as_many_micro_batches_as_stages_unless_it_says_more(
    settings, accumulation, torch
):
    w = Train(framework="megatron", seq_len=512, **settings)
    subject = subject_for(weighbridge.prepare("llama-3.2-1b").model(), w, (5, 23))
    made = plan(subject, w, None)
    assert (made.run.accumulation, made.torch) == (accumulation, torch)
    assert described(subject).layers == 16


@pytest.mark.slow
def test_the_host_is_one_device_behind_those_of_all_stages():
    found = weighbridge.train(
        "llama-3.2-1b",
        framework="megatron",
        seq_len=512,
        pipeline_parallel_size=2,
        gpu="h100:4",
    )
    assert [(one.kind, one.index) for one in found.devices if one.kind == "host"] == [("host", 0)]
    assert [one.index for one in found.devices if one.kind == "gpu"] == [0, 1, 2, 3]

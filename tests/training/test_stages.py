"""Layers of each stage of a pipeline, as libraries and people share them out."""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.training.sharding.stages import first_and_end, layers_of_stages

OLD = (2025, 4, 14)


def titan(count, stages, order="1f1b", release=None):
    ranks = Sharding(pipeline=stages, schedule=order)
    return layers_of_stages(count, ranks, titan=True, release=release)


def trained(**settings):
    usual = {"framework": "torchtitan", "pipeline_parallel_size": 4, "seq_len": 512}
    usual |= {"gradient_accumulation": 4, "data_parallel_size": 2}
    return weighbridge.prepare("llama-3.2-1b").train(remedies=False, **{**usual, **settings})


@all_of(
    ("count", "stages", "release", "each"),
    [
        (126, 8, None, (15, 16, 16, 16, 16, 16, 16, 15)),  # (126 + 2) / 8
        (32, 4, None, (8, 9, 8, 7)),  # 9, 9, 8, 8 of 34
        (33, 2, None, (17, 16)),  # 18, 17 of 35
        (126, 8, OLD, (15, 16, 16, 16, 16, 16, 16, 15)),
        (33, 2, OLD, (16, 17)),  # the last stage has what is left
        (35, 4, OLD, (8, 9, 9, 9)),
        (32, 1, None, (32,)),
    ],
)
def test_what_torchtitan_gives_each_stage(count, stages, release, each):
    assert titan(count, stages, release=release) == each


def test_in_a_v_the_first_rank_has_the_last_part_too():
    """8 in 4 parts are 2 each, of which the first and the last lose one: 1, 2, 2, 1."""
    assert titan(6, 2, "interleaved") == (1 + 2, 2 + 1)
    assert titan(6, 2, "zero-bubble") == (1 + 1, 2 + 2)


def test_parts_in_turn_are_added_up():
    """34 in 8 parts are 5, 5, 4, 4, 4, 4, 4, 4, of which the first and the last lose one."""
    assert titan(32, 4, "interleaved") == (4 + 4, 5 + 4, 4 + 4, 4 + 3)


@pytest.mark.parametrize("order", ["1f1b", "interleaved", "zero-bubble"])
@pytest.mark.parametrize("release", [None, OLD])
def test_stages_add_up_to_the_model(order, release):
    for stages in (1, 2, 3, 4):
        for count in range(8, 60):
            for each in (
                titan(count, stages, order, release),
                layers_of_stages(count, Sharding(pipeline=stages)),
            ):
                assert sum(each) == count
                ends = [first_and_end(each, i) for i in range(stages)]
                assert [e - s for s, e in ends] == [*each]
                assert (ends[0][0], ends[-1][1]) == (0, count)
                assert max(each) - min(each) <= 4


@pytest.mark.parametrize(
    ("count", "stages", "asked", "says"),
    [
        (8, 8, (), "leaves a stage without any of the 8 layers"),
        (8, 9, (), "the model has 8 layers"),
        (8, 2, (4.0, 5.0), "8 layers in 2 stages .* are 4,4, or"),
        (8, 2, (8.0,), "8 layers in 2 stages .* are 4,4, or"),
    ],
)
def test_stages_that_there_cannot_be(count, stages, asked, says):
    with pytest.raises(UsageError, match=says):
        layers_of_stages(count, Sharding(pipeline=stages), asked, titan=True)


@pytest.mark.slow
def test_layers_that_are_named_are_where_they_were_named():
    report = trained(pp_layer_partition=(1, 2, 5, 8))
    assert report.workload["pp_layer_partition"] == [1, 2, 5, 8]
    gpus = [d for d in report.devices if d.kind == "gpu"][::2]
    steps = [next(p for p in d.phases if p.name == "step") for d in gpus]
    held = [sum(c.bytes.expected for c in p.components if c.name == "weights") for p in steps]
    layer = 4 * 60_821_504 / 2  # float32, a half of it: llama-3.2-1b has 16 of 60,821,504 numbers
    assert held[1:3] == pytest.approx([2 * layer, 5 * layer], rel=0.001)
    assert report.derived["stage_layers"] == [1, 2, 5, 8]
    assert trained().derived["stage_layers"] == [4, 5, 4, 3]

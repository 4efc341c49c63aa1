"""Changes of Megatron, each by hand: when it is offered, and what it adds to what was given."""

import pytest

from tests.cases import all_of
from tests.remedies.made import case, of_kind
from weighbridge.answers.remedies.megatron import moves
from weighbridge.answers.remedies.sets import changed
from weighbridge.workload.flags import flags

RANKS = {
    "data_parallel_size": 8, "tensor_parallel_size": 1, "pipeline_parallel_size": 1,
    "context_parallel_size": 1, "expert_parallel_size": 1, "megatron_args": None,
    "checkpointing": "none", "attention": "flash", "framework": "megatron", "shard": "zero1",
    "seq_len": 32768, "batch_size": 1,
}  # fmt: skip


def asked(*, layers=(32,), fullest=0, **settings):
    derived = {
        "layers_by_part": list(layers),
        "fullest_stage": fullest,
        "feed_forward_again": 0.27,
    }
    return case("train", derived=derived, **(RANKS | settings))


def found(kind, **settings):
    return of_kind(moves(asked(**settings)), kind)


def added(kind, **settings):
    return [m.change["megatron_args"] for m in found(kind, **settings)]


def test_a_large_mask_is_left_out():
    """32,768 x 32,768 pairs are 1 GiB (core/utils.py, get_batch_on_this_tp_rank)."""
    leaves_out = ("no_create_attention_mask_in_dataloader",)
    assert added("mask") == [leaves_out]
    assert added("mask", seq_len=32767) == []
    assert added("mask", seq_len=16384, batch_size=4) == [leaves_out]
    assert added("mask", context_parallel_size=2) == []
    assert added("mask", attention="math") == []
    assert added("mask", megatron_args=leaves_out) == []
    assert added("mask", megatron_args=("dataloader_inter_document_masking",)) == []


def test_single_modules_are_computed_again():
    given = ("sequence_parallel",)
    assert added("recompute", megatron_args=given) == [
        (*given, "recompute_granularity=selective", f"recompute_modules={modules}")
        for modules in ("layernorm", "layernorm+mlp")
    ]
    assert added("recompute", checkpointing="full") == []
    assert added("recompute", megatron_args=("recompute_granularity=selective",)) == []
    assert added("recompute", megatron_args=("recompute_activations",)) == []
    assert added("recompute", pinned=("checkpointing",)) == []


def layouts(**settings):
    return [dict.fromkeys(args).popitem()[0] for args in added("stages", **settings)]


@pytest.mark.parametrize(
    ("fullest", "written"),
    [
        (0, ["ttt|tttt|ttttt|tttt", "tt|ttttt|ttttt|tttt", "t|ttttt|tttttt|tttt"]),
        (3, ["tttt|tttt|ttttt|ttt", "tttt|ttttt|ttttt|tt", "tttt|ttttt|tttttt|t"]),
    ],
)
def test_the_fullest_stage_gives_layers_to_those_in_the_middle(fullest, written):
    even = {"layers": (4, 4, 4, 4), "pipeline_parallel_size": 4, "fullest": fullest}
    assert layouts(**even) == [f"pipeline_model_parallel_layout=E{w}L" for w in written]


@all_of(
    "settings",
    [
        {"fullest": 1},  # one in the middle, which its neighbours are as full as
        {"layers": (8, 8), "pipeline_parallel_size": 2},
        {"layers": (2,) * 8},  # two parts a stage
        {"megatron_args": ("decoder_first_pipeline_num_layers=4",)},
        {"megatron_args": ("mtp_num_layers=1",)},
    ],
)
def test_stages_that_stay_as_they_are(settings):
    even = {"layers": (4, 4, 4, 4), "pipeline_parallel_size": 4} | settings
    assert added("stages", **even) == []


def test_arguments_of_several_changes_come_together():
    given = ("sequence_parallel", "hidden_dropout=0.1")
    some = [
        *found("mask", megatron_args=given),
        *found("recompute", megatron_args=given),
    ]
    assert changed(some)["megatron_args"] == (
        *given,
        "no_create_attention_mask_in_dataloader",
        "recompute_granularity=selective",
        "recompute_modules=layernorm+mlp",
    )


def test_a_value_that_a_shell_reads_otherwise_is_quoted():
    (first, *_) = found("stages", layers=(2, 2, 2, 2), pipeline_parallel_size=4)
    said = "pipeline_model_parallel_layout=Et|tt|ttt|ttL"
    assert flags(first.change, "") == f"--megatron-args '{said}'"
    assert flags({"megatron_args": ("sequence_parallel",)}, "") == (
        "--megatron-args sequence_parallel"
    )


def test_segments_grow():
    assert [dict(m.change) for m in found("allocator")] == [{"expandable_segments": True}]
    assert found("allocator", pinned=("expandable_segments",)) == []
    assert found("allocator", gpu="m4-24gb") == []

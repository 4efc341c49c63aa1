"""Which layers a stage has, as Megatron shares them out."""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.training.megatron.layout import parts


@all_of(
    ("layers", "stages", "chunks", "asked", "found"),
    [
        (16, 1, 1, {}, (16,)),
        (16, 2, 1, {}, (8, 8)),
        (16, 2, 2, {}, (4, 4, 4, 4)),
        (61, 16, 1, {"decoder_last_pipeline_num_layers": 1}, (4,) * 15 + (1,)),
        (14, 4, 1, {"decoder_first_pipeline_num_layers": 2}, (2, 4, 4, 4)),
        (14, 2, 1, {"decoder_first_pipeline_num_layers": 9}, (9, 5)),
        (
            12,
            2,
            1,
            {"decoder_first_pipeline_num_layers": 5, "decoder_last_pipeline_num_layers": 7},
            (5, 7),
        ),
        (20, 4, 2, {"decoder_first_pipeline_num_layers": 2}, (1, 3, 3, 3) * 2),
        (14, 4, 2, {"account_for_embedding_in_pipeline_split": True} | {"account_for_loss_in_pipeline_split": True}, (1, *(2,) * 6, 1)),
        (15, 2, 1, {"account_for_loss_in_pipeline_split": True}, (8, 7)),
        (15, 2, 1, {"account_for_embedding_in_pipeline_split": True}, (7, 8)),
        (8, 4, 1, {"pipeline_model_parallel_layout": "Et*3|(tt|)*2tL"}, (3, 2, 2, 1)),
        (61, 8, 1, {"pipeline_model_parallel_layout": "Et*3|(tt|)*29L"}, (3, *(2,) * 29, 0)),
        (4, 2, 1, {"pipeline_model_parallel_layout": "E|tt|tt|L"}, (0, 2, 2, 0)),
        (4, 2, 1, {"pipeline_model_parallel_layout": "E,t,t | t,t,L"}, (2, 2)),
    ],
)  # fmt: skip
def test_the_layers_of_each_part(layers, stages, chunks, asked, found):
    if len(found) % stages:
        with pytest.raises(UsageError):
            parts(layers, stages, chunks, asked)
        return
    assert parts(layers, stages, chunks, asked) == found
    assert sum(found) == layers


@all_of(
    ("layers", "stages", "chunks", "asked", "said"),
    [
        (16, 5, 1, {}, "5 stages do not divide the 16 layers"),
        (16, 4, 3, {}, "4 stages of 3 chunks do not divide the 16 layers"),
        (16, 2, 1, {"account_for_loss_in_pipeline_split": True}, "the 16 layers and 1"),
        (16, 4, 1, {"decoder_last_pipeline_num_layers": 2}, "3 stages do not divide the other 14"),
        (16, 2, 1, {"decoder_first_pipeline_num_layers": 17}, "the other -1"),
        (
            16,
            2,
            1,
            {"decoder_first_pipeline_num_layers": 2, "decoder_last_pipeline_num_layers": 2},
            "0 stages do not divide the other 12",
        ),
        (10, 3, 2, {"decoder_last_pipeline_num_layers": 2}, None),
        (11, 3, 2, {"decoder_last_pipeline_num_layers": 3}, "2 chunks do not divide stages of 3 and 4"),
        (8, 2, 1, {"pipeline_model_parallel_layout": "Ettt|ttL"}, "5 layers in 2 parts"),
        (8, 2, 1, {"pipeline_model_parallel_layout": "Etttt|ttt|tL"}, "8 layers in 3 parts"),
        (8, 2, 1, {"pipeline_model_parallel_layout": "Etttt|ttttmL"}, "it is not weighed"),
        (8, 2, 1, {"pipeline_model_parallel_layout": "((t)*999)*999"}, "it is not weighed"),
        (8, 2, 1, {"pipeline_model_parallel_layout": "tE|L"}, "it is not weighed"),
        (
            8,
            2,
            1,
            {"decoder_last_pipeline_num_layers": 2, "account_for_loss_in_pipeline_split": True},
            "Megatron has them without",
        ),
    ],
)  # fmt: skip
def test_what_megatron_stops_at_is_said(layers, stages, chunks, asked, said):
    if said is None:
        assert parts(layers, stages, chunks, asked) == (2, 2, 1, 2, 2, 1)
        return
    with pytest.raises(UsageError) as refused:
        parts(layers, stages, chunks, asked)
    assert said in str(refused.value)


def held(*args):
    found = weighbridge.train(
        "llama-3.2-1b",
        framework="megatron",
        gpu="h100:4",
        pipeline_parallel_size=4,
        megatron_args=args or None,
    )
    return [d.peak("allocated").expected for d in found.devices if d.kind == "gpu"]


def test_a_stage_with_fewer_layers_holds_less():
    """16 layers of 4 stages; the last has the head as well."""
    even, short = held(), held("decoder_last_pipeline_num_layers=1")
    assert short[3] < even[3]
    assert short[0] > even[0]
    assert held("pipeline_model_parallel_layout=Et*5|t*5|t*5|tL") == short
    alone = held("pipeline_model_parallel_layout=E|t*8|t*8|L")
    assert alone[1] > even[1]
    assert alone[0] < alone[1]

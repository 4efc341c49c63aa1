"""Ranks of each kind, and what cannot be: both sides of each bound."""

import pytest

from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.training.launching import start
from weighbridge.training.sharding.numbers import Sharding, sharding, share
from weighbridge.workload import Train


@all_of(
    ("asked", "count", "data", "kind"),
    [
        ({}, None, 1, "none"),
        ({}, 1, 1, "none"),
        ({}, 8, 8, "ddp"),
        ({"tensor_parallel_size": 2}, None, 1, "none"),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, 8, 2, "ddp"),
        ({"context_parallel_size": 4}, 8, 2, "ddp"),
        ({"tensor_parallel_size": 4, "data_parallel_size": 3}, 8, 3, "ddp"),
        ({"shard": "zero3"}, 1, 1, "zero3"),
        ({"expert_parallel_size": 4}, 8, 8, "ddp"),
        ({"expert_parallel_size": 8}, 8, 8, "ddp"),
        ({"data_parallel_size": 65_536}, None, 65_536, "ddp"),
        ({"shard": "zero1", "pipeline_parallel_size": 2}, 4, 2, "zero1"),
        ({"shard": "zero2", "offload": "optimizer"}, 4, 4, "zero2"),
        ({"shard": "fsdp2", "offload": "params"}, 4, 4, "fsdp2"),
    ],
)
def test_ranks(asked, count, data, kind):
    found = sharding(Train(**asked), count)
    assert (found.data, found.kind) == (data, kind)
    model = [asked.get(f"{way}_parallel_size", 1) for way in ("tensor", "pipeline", "context")]
    assert [found.tensor, found.pipeline, found.context] == model
    assert found.cards == data * model[0] * model[1] * model[2]


@all_of(
    ("asked", "count", "says"),
    [
        ({"tensor_parallel_size": 2}, 7, "on 2 devices, and 7 .* name 6 devices"),
        (
            {"tensor_parallel_size": 2, "context_parallel_size": 2},
            6,
            "^--tensor-parallel-size 2 x --context-parallel-size 2 puts .* on 4 .* name 4 ",
        ),
        ({"tensor_parallel_size": 4}, 3, "name 4 devices"),
        ({"data_parallel_size": 65_537}, None, "65,536 are weighed at most"),
        ({"data_parallel_size": 2, "tensor_parallel_size": 1 << 16}, None, "131,072 ranks"),
        ({"shard": "none"}, 2, "2 unsharded runs"),
        ({"shard": "zero2", "pipeline_parallel_size": 2}, 4, "stage 1 at most"),
        ({"shard": "zero3", "pipeline_parallel_size": 2}, 4, "stage 1 at most"),
        ({"expert_parallel_size": 9}, 8, "more than the 8 ranks"),
        ({"expert_parallel_size": 3}, 8, "does not divide the 8"),
        ({"expert_parallel_size": 3, "tensor_parallel_size": 2}, 8, "does not divide the 8"),
        ({"shard": "zero2", "offload": "nvme"}, 2, "use --shard zero3$"),
        ({"shard": "fsdp2", "offload": "nvme"}, 2, "is of DeepSpeed's stage 3 alone"),
        ({"shard": "ddp", "offload": "params"}, 2, "needs --shard zero3"),
        ({"shard": "hsdp", "data_parallel_replicas": 3}, 16, "3 does not divide the 16 data"),
        ({"shard": "fsdp2", "data_parallel_replicas": 2}, 16, "is HSDP's: use --shard hsdp"),
        (
            {"shard": "hsdp", "tensor_parallel_size": 2},
            20,
            "over the 4 data-.* 10 .*-machine 4,",
        ),
        (
            {"shard": "hsdp"},
            12,
            "over the 8 data-parallel ranks of a machine, and 12 .* --ranks-per-machine 6,",
        ),
        ({"shard": "hsdp", "ranks_per_machine": 3}, 16, "--ranks-per-machine 2,"),
    ],
)
def test_what_cannot_be(asked, count, says):
    with pytest.raises(UsageError, match=says):
        sharding(Train(**asked), count)


def test_ranks_of_a_sequence_share_only_by_fsdp():
    two = Train(context_parallel_size=2)
    assert sharding(two, 2, "fsdp2").kind == "fsdp2"
    assert sharding(two, 2, "ddp").kind == "none"
    assert sharding(Train(), 1, "fsdp2").kind == "none"


@pytest.mark.parametrize(
    ("kind", "data", "context", "shares"),
    [("hsdp", 16, 1, 8), ("hsdp", 2, 2, 4), ("hsdp", 8, 2, 8), ("zero1", 16, 2, 32)],
)
def test_hsdp_shares_within_a_node_of_eight(kind, data, context, shares):
    assert Sharding(kind=kind, data=data, context=context).shares == shares


@all_of(
    ("asked", "shares"),
    [
        ({}, 8),  # a machine's
        ({"data_parallel_replicas": 1}, 16),
        ({"data_parallel_replicas": 4}, 4),
        ({"data_parallel_replicas": 16}, 1),
        ({"tensor_parallel_size": 2}, 4),  # a machine's, two of which share each layer
        ({"context_parallel_size": 2}, 8),
        ({"context_parallel_size": 2, "data_parallel_replicas": 4}, 4),
        ({"ranks_per_machine": 4}, 4),
    ],
)
def test_hsdp_shares_each_copy_out(asked, shares):
    assert sharding(Train(shard="hsdp", **asked), 16).shares == shares


def test_a_machine_has_as_many_ranks_as_is_said():
    two = sharding(Train(shard="hsdp", ranks_per_machine=4), 8)
    assert (two.shares, two.local, two.cards) == (4, 4, 8)
    assert sharding(Train(shard="hsdp", ranks_per_machine=4), 2).local == 2
    assert sharding(Train(shard="hsdp"), 16).local == 8


def test_a_line_starts_as_many_ranks_on_each_machine():
    assert start(8, inside=4) == "torchrun --nnodes 2 --nproc-per-node 4 train.py"
    assert start(16) == "torchrun --nnodes 2 --nproc-per-node 8 train.py"
    assert start(4, inside=4) == "torchrun --nproc-per-node 4 train.py"
    assert start(12) == "torchrun --nnodes 2 --nproc-per-node 6 train.py"
    assert start(20) == "torchrun --nnodes 4 --nproc-per-node 5 train.py"


def test_the_first_rank_has_the_largest_part():
    assert [share(7, n) for n in (1, 2, 3, 7, 8)] == [7, 4, 3, 1, 1]


@all_of(
    ("data", "tensor", "expert", "shares", "width"),
    # tensor ranks divide each expert, unless they have others
    [(8, 1, 1, 8, 1), (8, 1, 8, 1, 1), (8, 2, 4, 2, 2), (8, 4, 16, 1, 2), (8, 4, 32, 1, 1)],
)
def test_experts_are_divided_by_all_ranks_once(data, tensor, expert, shares, width):
    found = Sharding(kind="fsdp2", data=data, tensor=tensor, expert=expert)
    assert (found.expert_shares, found.expert_width) == (shares, width)
    assert expert * shares * width == data * tensor

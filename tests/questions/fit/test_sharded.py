"""Layouts of a training run by FSDP, ZeRO and ranks: each is the answer of its flags."""

import json
import shlex

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.records import replace
from weighbridge.faces.cli.menu import run
from weighbridge.models.arch.body import Body, LayerBlock
from weighbridge.models.arch.parts import Dense, Experts
from weighbridge.training.sharding.costs import SharedRun, cost
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.training.sharding.stages import layers_of_stages

TITAN = {"gpu": "a100-40gb:4", "seq_len": 4096, "framework": "torchtitan"}
ZERO = {"gpu": "4090:4", "seq_len": 2048, "framework": "deepspeed"}
MODEL = "llama-3.2-3b"


@pytest.fixture(scope="module")
def rows():
    return weighbridge.prepare(MODEL).layouts(every=True, **TITAN).rows


@pytest.mark.slow
def test_each_row_is_the_answer_of_its_flags(capsys, rows):
    for row in rows:
        assert run(["train", MODEL, *shlex.split(row["flags"]), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["verdict"]["fits"] == row["fits"] == "yes"
        assert found["verdict"]["per_device"]["expected"] == row["peak_bytes"]
        assert found["workload"]["data_parallel_size"] == row["data_parallel_size"]
        assert found["workload"]["checkpointing"] == row["recompute"]


@pytest.mark.slow
def test_all_devices_are_used_and_nothing_told_is_beaten(rows):
    told = weighbridge.prepare(MODEL).layouts(**TITAN).rows
    assert {row["id"] for row in told} <= {row["id"] for row in rows}
    for row in rows:
        whole = 1
        for kind in ("tensor", "pipeline", "context", "data"):
            whole *= row[f"{kind}_parallel_size"]
        assert whole == 4
    for row in told:
        work = (1 + row["computed_again"]) * (1 + row["bubble"])
        for other in rows:
            less = (1 + other["computed_again"]) * (1 + other["bubble"]) < 0.98 * work
            near = other["near_bytes"] < 0.9 * row["near_bytes"]
            assert not (less and near and other["far_bytes"] <= row["far_bytes"])


@pytest.mark.slow
def test_a_larger_micro_batch_of_the_same_shape_does_not_fit(rows):
    flat = [row for row in rows if row["pipeline_parallel_size"] == 1]  # no pipeline to fill
    for row in [row for row in flat if row["batch_size"] < 16][:3]:
        larger = {**TITAN, "batch_size": 2 * row["batch_size"]}
        larger |= {name: row[name] for name in row if name.endswith("_parallel_size")}
        larger |= {"shard": row["shard"], "checkpointing": row["recompute"]}
        larger["gradient_accumulation"] = row["micro_batches"] // 2  # as many tokens in a step
        report = weighbridge.prepare(MODEL).train(remedies=False, **larger)
        assert report.verdict.fits != "yes"


@pytest.mark.slow
def test_what_is_named_stays():
    named = {"shard": "zero3", "checkpointing": "full"}
    found = weighbridge.prepare("llama-3.2-1b").layouts(**named, **ZERO)
    assert found.fitting
    assert found.by == "deepspeed"
    assert {(row["shard"], row["recompute"]) for row in found.rows} == {("zero3", "full")}


@pytest.mark.slow
def test_where_nothing_fits_the_least_is_told():
    found = weighbridge.prepare("llama-3.1-8b").layouts(gpu="4090:2", framework="trainer")
    assert found.rows
    assert not found.fitting
    assert all(row["recompute"] == "full" for row in found.rows)


@pytest.mark.slow
def test_a_framework_shares_out_what_it_has():
    asked = {"gpu": "l40s:4", "framework": "torchtune", "every": True}
    found = weighbridge.prepare("llama-3.2-1b").layouts(**asked).rows
    assert {row["shard"] for row in found} <= {"none", "ddp", "fsdp2"}
    assert all(row["pipeline_parallel_size"] == 1 for row in found)


@pytest.mark.slow
def test_recipes_that_share_out_in_one_way():
    """litgpt's on several devices: FSDP1, and whole layers are computed again."""
    asked = {"gpu": "a10g:4", "seq_len": 512, "batch_size": 1, "every": True}
    found = weighbridge.prepare("llama-3.2-1b").layouts(framework="litgpt", **asked).rows
    assert {(row["shard"], row["recompute"]) for row in found} == {("fsdp1", "full")}


@pytest.mark.slow
def test_a_pretraining_of_litgpt_has_no_checkpoints():
    asked = {"gpu": "a100-80gb:8", "loss": "standard", "seq_len": 512, "batch_size": 1}
    found = weighbridge.prepare("llama-3.2-1b").layouts(framework="litgpt", **asked).rows
    assert {(row["shard"], row["recompute"]) for row in found} == {("fsdp1", "none")}


@pytest.mark.slow
def test_the_command_line_names_the_framework(capsys):
    said = ["--layouts", "--framework", "deepspeed", "--gpu", "h100:2", "--shard", "zero2"]
    assert run(["fit", "llama-3.2-1b", *said, "--batch-size", "1"]) == 0
    assert "full training by deepspeed on 2 x H100" in capsys.readouterr().out


# What is sent, by hand: 10 numbers wide, 4 layers, 100 tokens a micro-batch, 3 micro-batches

BLOCK = LayerBlock(mixers=(None,), feeds=(Dense(width=40),))  # type: ignore[arg-type]
ROUTED = LayerBlock(mixers=(None,), feeds=(Experts(count=8, top_k=2, width=40),))  # type: ignore[arg-type]
BODY = Body(hidden=10, vocab=100, blocks=(BLOCK,) * 4)
MOE = Body(hidden=10, vocab=100, blocks=(ROUTED,) * 4)
WIDE = 2 * 300 * 10  # bytes of a step's hidden states


def priced(body=BODY, checkpointing="none", experts=0, tokens=100, **ranks):
    by = Sharding(whole_experts=experts > 0, **ranks)
    by = replace(by, layers=layers_of_stages(len(body.blocks), by))
    return cost(SharedRun(by, body, tokens, 3, 8000, experts, 6, checkpointing=checkpointing))


SENT = [
    ({"data": 2, "kind": "ddp"}, (2 * 8000, 0)),  # 16,000 bytes: half of them out and back
    ({"data": 2, "kind": "zero1"}, (2 * 8000, 0)),
    ({"data": 2, "kind": "zero2"}, ((3 + 1) * 8000, 0)),
    ({"data": 2, "kind": "zero3"}, (3 * 3 * 8000, 0)),
    ({"data": 16, "kind": "fsdp2"}, (0, 3 * 3 * 15000)),
    ({"data": 16, "kind": "hsdp"}, (3 * 3 * 14000, 2 * 1000)),  # of 2,000 bytes, two copies
    ({"tensor": 2}, (4 * 2 * 5 * WIDE // 2, 0)),
    ({"tensor": 2, "checkpointing": "full"}, (4 * 2 * 7 * WIDE // 2, 0)),
    ({"context": 2}, (4 * 3 * 2 * 300 * 6, 0)),  # keys and values are 6 numbers
    ({"pipeline": 4}, (2 * WIDE, 0)),
    ({"pipeline": 4, "data": 4}, (0, 2 * WIDE)),
    ({"tensor": 2, "data": 2, "kind": "fsdp2"}, (4 * 2 * 5 * WIDE // 2 + 3 * 3 * 4000, 0)),
    (
        {"body": MOE, "experts": 1600, "data": 2, "expert": 2, "kind": "fsdp2"},
        (4 * 2 * 4 * WIDE // 2 + 3 * 3 * 8000, 0),  # 8 experts' weights stay where they are
    ),
]


@all_of(("ranks", "told"), SENT)
def test_what_a_device_sends_in_a_step(ranks, told):
    found = priced(**ranks)
    assert (found.near, found.far) == told


WORK = [
    ({}, (0, 0)),
    ({"checkpointing": "full"}, (1 / 3, 0)),
    ({"checkpointing": "selective"}, (1 / 6, 0)),
    ({"pipeline": 4}, (0, 1)),  # three stages wait of three micro-batches
    ({"pipeline": 3}, (0, 1.5 * (1 + 2 / 3) - 1)),  # one stage has two layers of four
]


@all_of(("ranks", "told"), WORK)
def test_what_is_computed_again_and_waits(ranks, told):
    found = priced(**ranks)
    assert (found.again, found.bubble) == pytest.approx(told)
    assert found.work == pytest.approx((1 + told[0]) * (1 + told[1]))

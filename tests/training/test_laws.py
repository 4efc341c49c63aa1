"""Laws of training: over sharding, adapters, checkpointing, tokens."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge
from tests.ask import usual
from tests.cases import all_of
from tests.tiny import config
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import UsageError

LAW = pytest.mark.slow  # sweeps; the single cases below run with every test
CONFIG = config("wide")
STATES = ("optimizer_states", "master_weights", "weights", "gradients")


train = usual("train", CONFIG)


def peak(report):
    return report.devices[0].peak("allocated").expected


def tensors(report):
    """The tensors' own bytes: what the allocator adds depends on which blocks are free."""
    return max(
        phase.at("allocated").expected
        - sum(c.bytes.expected for c in phase.components if c.name == "rounding")
        for phase in report.devices[0].phases
    )


def held(report, *names, loading=True):
    """The most of these components in any phase; DeepSpeed has the weights twice while `loading`."""
    return max(
        sum(c.bytes.expected for c in phase.components if c.name in names)
        for phase in report.devices[0].phases
        if loading or phase.name != "load"
    )


SEQ = st.sampled_from([64, 128, 256, 384])
BATCH = st.integers(1, 3)
PRECISION = st.sampled_from(["fp32", "bf16", "bf16-mixed"])
FEW = settings(max_examples=12, deadline=None)


@LAW
@FEW
@given(ranks=st.sampled_from([2, 4, 8]), length=SEQ)
def test_each_stage_of_zero_holds_no_more_than_the_one_before(ranks, length):
    """At the step stage 3 still has its share in 16 bits, which stage 2 lets go. A part of stage 2
    may touch all parameters, whose gradients are whole, and has 6 bytes a number of its own."""
    kinds = ("ddp", "zero1", "zero2", "zero3")
    settings = {"precision": "bf16", "data_parallel_size": ranks, "seq_len": length}
    found = [held(train(shard=kind, **settings), "optimizer_states") for kind in kinds]
    assert found[1] >= found[2] >= found[3]
    weights = [held(train(shard=kind, **settings), "weights", loading=False) for kind in kinds]
    assert weights[0] == weights[1] == weights[2] >= weights[3]
    gradients = [held(train(shard=kind, **settings), "gradients") for kind in kinds]
    assert gradients[0] >= gradients[3] * 0.99
    assert gradients[0] * (1 + 3 / ranks) >= gradients[2]


@LAW
@FEW
@given(length=SEQ, batch=BATCH, precision=PRECISION, r=st.sampled_from([4, 16]))
def test_adapters_take_no_more_than_training_all(length, batch, precision, r):
    usual = {"seq_len": length, "batch_size": batch, "precision": precision}
    lora = train(method="lora", lora_r=r, lora_targets=("all-linear",), **usual)
    full = train(**usual)
    for states in ("optimizer_states", "gradients"):
        assert held(lora, states) <= held(full, states)
    assert lora.derived["trainable_parameters"] < full.derived["trainable_parameters"]


@LAW
@FEW
@given(length=SEQ, batch=BATCH, precision=PRECISION)
def test_checkpointing_costs_at_most_one_layer(length, batch, precision):
    usual = {"seq_len": length, "batch_size": batch, "precision": precision}
    plain, again = train(**usual), train(checkpointing="full", **usual)
    layer = plain.derived["saved_activation_bytes"] // 3
    assert tensors(again) <= tensors(plain) + layer
    assert again.derived["saved_activation_bytes"] <= plain.derived["saved_activation_bytes"]


@LAW
@FEW
@given(
    length=SEQ, batch=BATCH, precision=PRECISION, checkpointing=st.sampled_from(["none", "full"])
)
def test_more_tokens_never_take_less(length, batch, precision, checkpointing):
    usual = {"precision": precision, "checkpointing": checkpointing}
    small = train(seq_len=length, batch_size=batch, **usual)
    assert tensors(train(seq_len=2 * length, batch_size=batch, **usual)) >= tensors(small)
    assert tensors(train(seq_len=length, batch_size=batch + 1, **usual)) >= tensors(small)


def rounding(report):
    """The most that blocks are larger than what lives in them."""
    return held(report, "rounding")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"batch_size": 2}, {"batch_size": 3}),
        ({"batch_size": 2, "seq_len": 128}, {"batch_size": 2, "seq_len": 160}),
        ({"checkpointing": "full", "batch_size": 3}, {"checkpointing": "full", "batch_size": 4}),
    ],
)
def test_what_asks_for_more_takes_less_by_rounding_alone(less, more):
    """torch gives a cached block whole where less than 1 MiB of it would be left (2 MiB and more:
    CUDACachingAllocator.cpp, should_split), and counts it as allocated: which blocks are cached is
    another matter for each batch. Tensors never take less; what is allocated may, by no more than
    its blocks were rounded up by, and it does in each of these."""
    usual = {"seq_len": 96, "optimizer": "adamw_torch"}
    few, many = (weighbridge.train("gpt2", **{**usual, **x}) for x in (less, more))
    assert tensors(many) >= tensors(few)
    assert 0 < peak(few) - peak(many) <= rounding(few)


@LAW
@pytest.mark.parametrize("length", [128, 512])
def test_checkpoints_of_gpt2_xl_take_more_by_rounding_alone(length):
    """The optimizer's step is the peak with and without: the same tensors, in blocks of another history."""
    plain, again = (
        weighbridge.train("gpt2-xl", seq_len=length, checkpointing=kind, optimizer="adamw_torch")
        for kind in ("none", "full")
    )
    assert tensors(again) == tensors(plain)
    assert 0 < peak(again) - peak(plain) <= rounding(again)


@pytest.mark.parametrize("shard", ["ddp", "zero1", "zero2", "zero3", "fsdp2"])
@pytest.mark.parametrize("ranks", [2, 8])
def test_ranks_together_hold_at_least_the_whole(shard, ranks):
    alone = train(precision="bf16", seq_len=64, optimizer="adamw_bnb_32bit")
    shared = train(
        precision="bf16",
        seq_len=64,
        shard=shard,
        data_parallel_size=ranks,
        optimizer="adamw_bnb_32bit",
    )
    for name in ("weights", "optimizer_states"):
        assert ranks * held(shared, name) >= held(alone, name)


def test_a_phase_never_exceeds_the_peak_and_json_says_the_same():
    report = train(seq_len=128, method="lora")
    told = report.to_dict()
    device = told["devices"][0]
    driver = [p["bytes"]["expected"] for p in device["phases"]]
    assert device["peak"]["driver"]["expected"] == max(driver)
    for phase in device["phases"]:
        parts = sum(c["bytes"]["expected"] for c in phase["components"])
        assert parts == phase["bytes"]["expected"]


def test_a_request_and_python_give_one_answer():
    given = {"method": "lora", "lora_r": 4, "seq_len": 128, "checkpointing": "full"}
    line = json.dumps({"task": "train", "model": {"config": CONFIG}, "workload": given})
    assert json.loads(json.dumps(Requests().answer(line))) == json.loads(
        json.dumps(train(**given).to_dict())
    )


def test_an_accumulation_keeps_gradients_beside_activations():
    once, twice = (
        train(seq_len=256, batch_size=2, gradient_accumulation=n, precision="bf16") for n in (1, 2)
    )
    more = peak(twice) - peak(once)
    assert 0 < more <= once.model.parameters * 2 * 1.05


@all_of(
    ("settings", "says"),
    [
        ({"shard": "zero3", "pipeline_parallel_size": 2}, "DeepSpeed"),
        ({"offload": "params"}, "--shard"),
        ({"offload": "nvme", "shard": "fsdp2"}, "zero3"),
        ({"optimizer": "adamm"}, "adam"),
        ({"framework": "keras"}, "trainer"),
        ({"gpu": "a100-80gb:3", "tensor_parallel_size": 2}, "multiple"),
        ({"tensor_parallel_size": 3}, "does not divide the 4 heads"),
        ({"pipeline_parallel_size": 4}, "3 layers"),
        ({"method": "lora", "lora_targets": ("nothing",)}, "q_proj"),
        ({"lora_r": 0}, "--lora-r"),
    ],
)
def test_what_contradicts_itself_is_one_clear_line(settings, says):
    with pytest.raises(UsageError, match=says) as error:
        train(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_inputs_that_are_away_are_brought_back_for_adapters_too(method):
    """The first layer's input is a leaf there: frozen embeddings gave it."""
    asked = {"method": method, "seq_len": 512}
    kept, away = (
        weighbridge.train("qwen3-0.6b", checkpointing=how, **asked).peak
        for how in ("full", "offload")
    )
    assert away.expected <= kept.expected

"""Releases in which frameworks of training changed, from both sides."""

from types import SimpleNamespace

import pytest

import weighbridge
from tests.tiny import config
from weighbridge.training import kbit, optimizers
from weighbridge.training.optimizers import plain
from weighbridge.training.sharding import choice, zero
from weighbridge.training.sharding.numbers import Sharding


@pytest.mark.parametrize(
    ("framework", "packed", "by_release"),
    [
        # which parts become float32: before 1.13 all, since 1.14 those that are trained
        ("trainer", False, {"1.12.9": "all", "1.13": "none", "1.13.9": "none", "1.14": "trained"}),
        ("trainer", True, {"1.12.9": "all", "1.13": "none", "1.14": "none"}),
        ("axolotl", False, {"1.12.9": "none", "1.14": "none"}),
    ],
)
def test_what_accelerate_widens(framework, packed, by_release):
    def widens(version):
        return choice.accelerate_rules(framework, version, packed=packed).widens

    found = {told: widens(tuple(map(int, told.split(".")))) for told in by_release}
    assert found == by_release
    assert widens(None) == found[list(found)[-1]], "the newest"


def test_when_accelerate_waits_and_carves():
    def of(*version, framework="trainer"):
        found = choice.accelerate_rules(framework, version or None, packed=False)
        return found.waits, found.carves

    assert [of(1, 10, 9), of(1, 11), of(1, 13, 9), of(1, 14), of()] == [
        (False, False),
        (True, False),
        (True, False),
        (True, True),
        (True, True),
    ]
    assert of(framework="axolotl") == (True, False)


def test_deepspeed_by_release():
    """States are made with the engine before 0.13.2; what is trained is flattened since 0.19."""
    assert [zero.eager(v) for v in ((0, 13, 1), (0, 13, 2), None)] == [True, False, False]
    assert [zero.flattens(v) for v in ((0, 18, 9), (0, 19), None)] == [False, True, True]


def test_bitsandbytes_whose_linears_keep_their_inputs():
    given = ((0, 43, 1), (0, 43, 2), (0, 44))
    assert [kbit.keeps_inputs(v) for v in given] == [True, False, False]


def test_optimizers_by_release():
    """torch: foreach since 2.0, eps in place since 2.1, clones on pinned memory since 2.7."""
    steps = [optimizers._step(True, v) for v in ((2, 0), (2, 1))]
    assert steps == [plain.two_copies, plain.one_copy]
    assert optimizers._step(False, (2, 13)) is plain.two_of_each


@pytest.mark.slow
@pytest.mark.parametrize(("day", "name"), [(23, "adamw_torch"), (24, "adamw_torch_fused")])
def test_torchtitan_fuses_since_24_february_2025(day, name):
    asked = {"framework": "torchtitan", "framework_version": f"2025-02-{day}", "seq_len": 64}
    assert weighbridge.train(config("llama"), **asked).workload["optimizer"] == name


OF_ARGUMENTS = [  # transformers 4.54 training_args.py: with torch 2.8
    ("trainer", None, None, "adamw_torch_fused"),
    ("trl", "5.0", "2.8", "adamw_torch_fused"),
    ("trainer", "4.54", "2.8", "adamw_torch_fused"),
    ("trainer", "4.53.3", "2.8", "adamw_torch"),
    ("trainer", "4.54", "2.7", "adamw_torch"),
    ("accelerate", None, None, "adamw_torch"),
    ("axolotl", "4.40", "2.5", "adamw_torch_fused"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "transformers", "torch", "name"), OF_ARGUMENTS)
def test_the_optimizer_of_training_arguments_by_release(framework, transformers, torch, name):
    asked = {"engine_version": transformers, "torch_version": torch}
    report = weighbridge.train(config("llama"), framework=framework, seq_len=64, **asked)
    assert report.workload["optimizer"] == name


def plan(framework="torchtitan", **more):
    """Four ranks of FSDP."""
    named = SimpleNamespace(name=framework, accelerate=framework == "trainer", waits=False)
    facts = {
        "sharding": Sharding(kind="fsdp2", data=4),
        "framework": named,
        "release": None,
        "method": "full",
        "computing": "bfloat16",
        "autocast": "bfloat16",
        "accelerate": None,
        "float8_all_gather": False,
        "torch": (2, 13),
        "version": (5, 23),
        "reenters": True,
        "subject": SimpleNamespace(
            model_type="llama",
            body=SimpleNamespace(vocab=128_256),
            choice=SimpleNamespace(scheme=None),
            part=SimpleNamespace(blueprint=SimpleNamespace(counted=())),
        ),
    }
    return SimpleNamespace(**{**facts, **more})


@pytest.mark.parametrize(
    ("release", "carves"), [((2025, 7, 27), False), ((2025, 7, 28), True), (None, True)]
)
def test_embedding_and_head_are_units_of_torchtitan(release, carves):
    """Since 28 July 2025; before, the last layer stays gathered instead."""
    found = choice.surrounding(plan(release=release)).how
    assert (found.carved, found.last_stays) == (carves, not carves)
    assert found.outside


@pytest.mark.parametrize(("torch", "stays"), [((2, 7), True), ((2, 8), False)])
def test_accelerates_root_stays_gathered_before_torch_2_8(torch, stays):

    def root_stays(*accelerate):
        return choice.surrounding(
            plan("trainer", accelerate=accelerate, torch=torch)
        ).how.root_stays

    assert root_stays(1, 13) is stays
    assert root_stays(1, 14)


@pytest.mark.parametrize(
    ("more", "apart"),
    [({}, True), ({"method": "lora"}, False), ({"framework_": "torchtitan"}, False)],
)
def test_torchtunes_recipes_give_llama_3_two_units_more(more, apart):
    asked = plan(more.pop("framework_", "torchtune"), **more)

    def is_apart():
        found = choice.surrounding(asked).how
        assert found.head_stays is not found.apart
        return found.apart

    assert is_apart() is apart
    asked.subject.part.blueprint.counted = (SimpleNamespace(tied="model.embed_tokens.weight"),)
    assert not is_apart()  # Llama 3.2
    asked.subject.part.blueprint.counted = ()
    asked.subject.body.vocab += 1
    assert not is_apart()


@pytest.mark.parametrize(
    ("version", "torch", "reenters", "around"),
    [
        ((4, 52), (2, 1), True, True),
        ((4, 53), (2, 1), True, False),
        ((4, 52), (2, 0), True, False),
        ((4, 52), (2, 1), False, False),
    ],
)
def test_checkpoints_around_units_of_fsdp(version, torch, reenters, around):
    asked = plan("trainer", version=version, torch=torch, reenters=reenters)
    assert choice.around_units(asked) is around

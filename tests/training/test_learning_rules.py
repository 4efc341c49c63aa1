"""Rules of frameworks that learn from rewards and preferences (training/learning), by what their
sources say: dtypes, what they refuse, and what they have no word for."""

import re

import pytest

import weighbridge
from tests.cases import all_of
from tests.tiny import config
from weighbridge.base.errors import UsageError
from weighbridge.faces.render import render
from weighbridge.training import learning
from weighbridge.workload import Train
from weighbridge.workload.train import LEARNERS

SMALL = config("llama", vocab_size=32000, max_position_embeddings=4096, torch_dtype=None)


def run(cards=1, **asked):
    return learning.run(Train(**{"method": "grpo", "seq_len": 512} | asked), cards)


def answer(**asked):
    asked = {"method": "dpo", "gpu": "h100", "batch_size": 2, "seq_len": 128} | asked
    return weighbridge.prepare(SMALL).train(remedies=False, **asked)


# ---- the dtype that weights are loaded in


@pytest.mark.parametrize(
    ("framework", "asked", "dtype"),
    [
        ("trl", {}, "float32"),  # model_init_kwargs: dtype, "float32" since 0.27
        ("trl", {"tuner": "lora"}, "bfloat16"),  # the recipe, as where nobody names TRL
        ("trl", {"tuner": "lora", "framework_version": "0.26"}, "bfloat16"),  # "auto"
        ("trl", {"tuner": "lora", "dtype": "bfloat16"}, "bfloat16"),
        (None, {}, "float32"),
        (None, {"tuner": "lora"}, "bfloat16"),  # the recipe of PEFT's and TRL's guides
        ("ms-swift", {}, "bfloat16"),  # that of config.json, else what the card has
        ("axolotl", {}, "bfloat16"),  # bf16: auto
        ("axolotl", {"precision": "fp16-mixed"}, "float16"),
        ("axolotl", {"precision": "fp32"}, "float32"),
        ("llama-factory", {}, "float32"),  # Upcasting trainable params to float32
        ("llama-factory", {"precision": "bf16"}, "bfloat16"),  # pure_bf16
        ("llama-factory", {"tuner": "lora"}, "bfloat16"),
        ("agilerl", {}, "bfloat16"),
    ],
)
def test_each_framework_loads_in_a_dtype_of_its_own(framework, asked, dtype):
    assert answer(framework=framework, **asked).workload["dtype"] == dtype


def test_only_the_loader_of_trl_is_warned_of():
    def warned(**asked):
        return any("model_init_kwargs" in line for line in answer(**asked).warnings)

    assert warned(framework="trl")
    assert not warned(framework="trl", tuner="lora")
    assert not warned(framework="trl", dtype="float32")  # as it was named
    assert not any(warned(framework=f) for f in ("llama-factory", "axolotl", "agilerl"))


def test_a_reference_of_llama_factory_stays_in_16_bits():
    def copies(**asked):
        phases = answer(framework="llama-factory", **asked).devices[0].phases
        parts = next(one for one in phases if one.name == "forward").components
        weights = [c.bytes.expected for c in parts if c.name == "weights"]
        return weights if len(weights) == 2 else weights * 2

    policy, reference = sorted(copies(), reverse=True)
    assert policy == 2 * reference
    assert len(set(copies(precision="bf16"))) == 1


# ---- rows and cards


def test_verl_has_a_forward_for_its_longest_row():
    """verl utils/seqlen_balancing.py: assert max_token_len >= max_seq_len; ranks of a sequence share
    a row."""
    rows = {"framework": "verl", "prompt_len": 2048, "max_new_tokens": 32768, "seq_len": None}
    with pytest.raises(UsageError, match=r"Got 24576 and 34816\): --max-tokens-per-gpu 34816,"):
        run(8, max_tokens_per_gpu=24576, **rows)
    with pytest.raises(UsageError, match="--max-tokens-per-gpu 17408,"):
        run(8, max_tokens_per_gpu=4096, context_parallel_size=2, **rows)
    assert run(8, max_tokens_per_gpu=34816, **rows)
    assert run(8, max_tokens_per_gpu=17408, context_parallel_size=2, **rows)


@pytest.mark.parametrize(("gpu", "ranks"), [("h100:3", 2), ("l4:1", None), ("2x l4", 4)])
def test_ranks_of_an_engine_divide_its_own_cards(gpu, ranks):
    with pytest.raises(UsageError, match=f"cards of --rollout-gpu {gpu}: --rollout-tp"):
        run(4, framework="verl", rollout_gpu=gpu, rollout_tp=ranks)


@pytest.mark.parametrize(
    ("gpu", "ranks", "cards"), [("h100:4", 2, 4), ("h100", 2, 2), ("2x l4", 1, 2), ("", 2, 0)]
)
def test_cards_of_an_engine_are_those_that_were_named(gpu, ranks, cards):
    one = run(4, framework="verl", rollout_gpu=gpu or None, rollout_tp=ranks)
    assert learning.own_cards(one.rollout) == cards


def test_an_engine_on_cards_of_its_own_is_counted_and_judged_there():
    asked = {"method": "grpo", "framework": "verl", "gpu": "h100:2", "rollout_gpu": "l4:4"}
    report = answer(**asked, max_new_tokens=64)
    assert sum(d.kind == "gpu" for d in report.devices) == 6
    own = report.derived["rollout_cards"]
    assert (own["count"], own["accelerator"], own["fits"]) == (4, "L4", "yes")
    assert 0.45 < own["peak_bytes"] / own["usable_bytes"] < 0.65  # verl's share, and a context
    assert report.fullest.index < 2


def test_a_forward_of_several_rows_is_no_row_that_the_model_has_not():
    def beyond(**asked):
        report = answer(method="grpo", framework="verl", gpu="h100:2", **asked)
        return [line for line in report.warnings if "made for" in line]

    assert not beyond(max_tokens_per_gpu=8192, seq_len=1024)  # 4,096 positions
    assert not beyond(batch_size=8, seq_len=1024)
    line, *_ = beyond(max_tokens_per_gpu=16384, seq_len=8192)
    assert line.startswith("8,192 tokens are more than the 4,096")


@all_of(
    ("asked", "grows"),
    [
        ({}, True),
        ({"framework_version": "0.6"}, True),
        ({"framework_version": "0.5"}, None),  # verl utils/device.py: set_expandable_segments
        ({"framework": "easyr1"}, None),
        ({"gpu": "Apple M4 Max 64GB"}, None),
    ],
)
def test_verl_lets_segments_grow_while_it_trains(asked, grows):
    trained = run(2, **{"framework": "verl", "gpu": "h100:2"} | asked).trained
    assert trained.expandable_segments is grows


def test_a_cache_that_torch_gives_back_is_told():
    asked = {"framework": "openrlhf", "method": "grpo", "gpu": "h100:2", "max_new_tokens": 64}
    report = answer(**asked, batch_size=8, rollout_gpu="h100:2")
    free = report.fullest.binding().of("fragmentation").expected
    told = "of the peak are the allocator's cache" in " ".join(render(report, "human").split())
    assert told == (free > report.peak.expected / 10)


# ---- refusals and remarks


@all_of(
    ("asked", "words"),
    [
        ({"method": "orpo", "reference": "copy"}, "orpo asks none: leave it out"),
        ({"method": "reward", "reference": "host"}, "reward asks none"),
        ({"gpu_memory_utilization": 0.0}, "a share above 0"),
        ({"standby": True, "framework": "verl"}, "--standby is Unsloth's"),
        ({"num_generations": 1}, "TRL compares answers to a prompt: --num-generations 2"),
        ({"prompt_len": 400, "max_new_tokens": 200}, "a prompt of 400 are more than a row of 512"),
        ({"framework_version": "0.9"}, "TRL has GRPO since 0.14: --framework-version 0.14"),
        (
            {"method": "ppo"},
            "no PPO since 1.16: --framework-version before that, or --framework .*verl",
        ),
        ({"framework": "llama-factory"}, "has no GRPO: --framework trl, ms-swift"),
        ({"framework": "verl", "rollout_engine": "none"}, "--rollout-engine vllm or sglang"),
        ({"framework": "unsloth"}, "Unsloth is known for adapters alone: add --lora-r 16"),
    ],
)
def test_what_contradicts_itself_is_refused_with_a_next_step(asked, words):
    with pytest.raises(UsageError, match=words):
        answer(**{"method": "grpo", "seq_len": 512} | asked)


@all_of(
    ("asked", "words"),
    [
        ({"rollout_engine": "none", "rollout_tp": 2}, "--rollout-tp: of an engine"),
        ({"reference": "copy", "kl_beta": 0.0}, "--kl-beta 0 asks no reference"),
        ({"framework": "verl", "framework_version": "99.1"}, "verl 99.1: our rules"),
        ({"framework": "verl", "data_parallel_size": 3}, "3 of the 8 cards train.* -dp 8"),
        ({"framework": "unsloth", "lora_r": 8, "batch_size": 4}, "Unsloth takes 8 rows"),
        ({"method": "gkd"}, "the teacher is counted as a copy of the model itself"),
    ],
)
def test_what_changes_nothing_is_told(asked, words):
    lines = run(8, gpu="h100:8", **asked).notes
    assert any(re.search(words, line) for line in lines)


def test_a_plain_run_is_told_nothing():
    assert run(2, framework="verl", framework_version="0.8", batch_size=2).notes == ()


def test_ppo_has_no_groups():
    one = run(1, method="ppo", framework="trl", framework_version="0.20", batch_size=4)
    assert one.effective["batch_size"] == 4


def test_rows_of_a_forward_are_those_that_its_tokens_hold():
    report = answer(method="grpo", framework="verl", gpu="h100:2", max_tokens_per_gpu=1024)
    assert (report.workload["batch_size"], report.workload["seq_len"]) == (8, 128)
    names = ("method", "framework", "gpu", "batch_size", "seq_len", "max_tokens_per_gpu")
    settings = {name: report.workload[name] for name in names}
    again = weighbridge.prepare(SMALL).train(remedies=False, **settings)
    assert again.peak == report.peak


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("framework", LEARNERS)
def test_plain_fine_tuning_is_by_what_trains_there(framework, method):
    """The same step as the program's own question has it."""
    asked = {"method": method, "framework": framework, "shard": None}
    if (framework, method) == ("unsloth", "full"):
        return
    report = answer(**asked)
    own = learning.fine_tuned(Train(**{"gpu": "h100", "batch_size": 2, "seq_len": 128} | asked))
    assert own.framework in ("trainer", "plain", "deepspeed", "megatron", "trl")
    assert report.devices == weighbridge.prepare(SMALL).train(own, remedies=False).devices
    assert report.workload["framework"] == framework


def test_groups_are_of_the_cards_that_train():
    """Seven of eight write no whole groups of 8, and 28 rows are two of 14."""
    asked = {"framework": "ms-swift", "batch_size": 1, "gradient_accumulation": 4}
    assert run(8, **asked, num_generations=14, data_parallel_size=7).effective["batch_size"] == 1
    with pytest.raises(UsageError):
        run(8, **asked, num_generations=14)


def test_adapters_are_of_all_linears_where_a_framework_says_so():
    assert run(framework="verl", tuner="lora").trained.lora_targets == ("all-linear",)
    assert run(framework="trl", tuner="lora").trained.lora_targets is None
    named = run(framework="verl", tuner="lora", lora_targets=("q_proj",))
    assert named.trained.lora_targets == ("q_proj",)


def test_a_student_writes_where_an_engine_is_named():
    """On-policy distillation: rows of answers, an engine, and a teacher's pass."""
    asked = {"method": "gkd", "framework": "nemo-rl", "max_new_tokens": 64, "seq_len": 128}
    without, written = answer(**asked), answer(**asked, rollout_engine="vllm")
    assert not any(one.name == "rollout" for one in without.devices[0].phases)
    names = [one.name for one in written.devices[0].phases]
    assert {"rollout", "reference", "cache-wakes"} <= set(names)

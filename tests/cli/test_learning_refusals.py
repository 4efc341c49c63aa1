"""Settings of rewards and preferences that contradict each other: one line, and why."""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import TriedError, UsageError

SMALL = "qwen2.5-0.5b"


def refused(**settings):
    with pytest.raises(UsageError) as error:
        weighbridge.prepare(SMALL).train(remedies=False, **settings)
    assert len(error.value.line) <= 300
    return error.value


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": "grpo", "batch_size": 3}, "no whole groups of 8"),
        ({"method": "grpo", "critic": "same"}, "--critic is of ppo"),
        ({"method": "dpo", "rollout_tp": 2}, "dpo writes none"),
        ({"rollout_engine": "vllm"}, "this is --method full"),
        ({"method": "lora", "kl_beta": 0.1}, "this is --method lora"),
        ({"method": "lora", "tuner": "lora"}, "--tuner is of methods"),
        ({"method": "grpo", "reference": "adapter"}, "all of the model is trained"),
        ({"method": "grpo", "tuner": "full", "lora_r": 8}, "beside --tuner full"),
        ({"method": "grpo", "exact": True}, "--exact traces a step"),
        ({"method": "grpo", "framework": "torchtune"}, "torchtune is no framework whose rules"),
        ({"method": "grpo", "max_new_tokens": 2048, "seq_len": 1024}, "more than a row of 1024"),
        (
            {"method": "grpo", "framework": "verl", "gpu": "h100:8", "rollout_tp": 3},
            "does not divide the 8 cards",
        ),
    ],
)
def test_contradictions_are_said_in_one_line(settings, says):
    assert says in refused(**settings).line


SLEEPS = {"method": "grpo", "rollout_engine": "vllm", "sleep_level": 2, "gpu": "h100"}


@all_of(
    ("settings", "seen"),
    [
        ({"method": "kto", "batch_size": 1}, "batch size must be > 1"),
        ({"method": "ppo"}, "no PPO trainer"),
        ({"method": "grpo", "framework": "llama-factory"}, "stage is pt, sft, rm, ppo, dpo or kto"),
        ({"method": "ppo", "framework": "axolotl"}, "RLType"),
        (
            {"method": "grpo", "quantization": "bnb-int8", "rollout_engine": "vllm"},
            "does not support in-flight 8-bit",
        ),
        (
            {**SLEEPS, "expandable_segments": True, "rollout_version": "0.11"},
            "Expandable segments are not compatible",
        ),
    ],
)
def test_what_a_framework_refuses_is_in_its_own_words(settings, seen):
    error = refused(**settings)
    assert isinstance(error, TriedError)
    assert seen in error.seen


@pytest.mark.slow
def test_a_reward_model_of_another_tokenizer_is_told():
    model = weighbridge.prepare(SMALL)
    asked = {"method": "grpo", "framework": "verl", "batch_size": 1, "remedies": False}
    other = model.train(**asked, reward_model="tinyllama-1.1b").warnings
    assert any("32,000 tokens and the policy 151,936" in line for line in other)
    same = model.train(**asked, reward_model=SMALL).warnings
    assert not any("tokenizer" in line for line in same)


@pytest.mark.parametrize("framework", [None, "verl", "slime"])
def test_what_predicts_no_next_token_writes_no_answers(framework):
    """An encoder that writes is a contradiction, by whatever engine."""
    with pytest.raises(UsageError, match="predicts no next token"):
        weighbridge.prepare("deberta-v3-base").train(method="grpo", framework=framework)
    assert weighbridge.prepare("deberta-v3-base").train(method="reward").devices

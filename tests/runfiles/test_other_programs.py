"""Programs that are not answered for: what of them is sure, and what their text does not say."""

import pytest

import weighbridge

CARD = "qwen3-8b with GRPO on {gpu}{more}"


def found(text: str):
    weighed = weighbridge.weigh(text, name="a", offline=True)
    return weighed, {one.key: one.values for one in weighed.findings}


def test_the_weights_of_the_actor_are_sure():
    _, told = found(CARD.format(gpu="a 3090", more=""))
    assert told["actor.card"]["form"] == "bfloat16"
    weights, room = (told["actor.card"][f"{name}_bytes"] for name in ("weights", "room"))
    assert told["actor.card"]["left_bytes"] == room - weights
    assert 2 * 8.19e9 < weights < 2 * 8.2e9  # parameters of the model
    assert told["states"]["whole_bytes"] == weights * 8
    assert told["states"]["each_bytes"] == told["states"]["whole_bytes"]


def test_states_are_shared_out_over_the_cards():
    _, told = found(CARD.format(gpu="8x A100 80GB", more=""))
    assert told["states"]["count"] == 8
    assert told["states"]["each_bytes"] == told["states"]["whole_bytes"] // 8


def test_weights_that_one_card_does_not_hold():
    _, told = found("qwen3-14b with GRPO on a 3090")
    assert "actor.over" in told
    assert "actor.card" not in told


@pytest.mark.parametrize("words", [", QLoRA", ", load_in_4bit = True", " in Unsloth"])
def test_weights_in_four_bits(words):
    _, told = found(CARD.format(gpu="a 3090", more=words))
    assert told["actor.card"]["form"] == "nf4"
    assert "states" not in told


def test_experts_count_as_the_release_packs_them_that_packs_most():
    _, told = found("qwen3-30b-a3b in 4bit with GRPO on an A100 80GB")
    assert told["actor.card"]["weights_bytes"] < 20 * 2**30


@pytest.mark.parametrize(
    ("more", "missing"),
    [
        ("", "generations, lengths, batch"),
        (", num_generations=8", "lengths, batch"),
        (", num_generations=8, max_completion_length=512, batch_size 1", None),
    ],
)
def test_what_is_missing_is_named(more, missing):
    _, told = found(CARD.format(gpu="a 3090", more=more))
    assert told.get("lacks.rl", {}).get("missing") == missing


def test_preference_training_has_two_answers_and_their_logits():
    _, told = found("DPO of qwen3-8b on a 3090")
    assert told["pair"]["logits_bytes"] == 2 * 1000 * 151936 * 4
    assert told["lacks.dpo"]["missing"] == "batch, lengths"


def test_a_question_alone_is_no_answer():
    weighed, told = found("A video model on 8x H100 runs out of memory")
    assert told["lacks.video"]["missing"] == "frames, resolution"
    assert not weighed.answered
    assert "read and not answered yet" in str(weighed)
    assert not found("A video model, 81 frames at 1024x768, runs out of memory")[1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lmdeploy: memory?", "infer MODEL --engine vllm --gpu NAME"),
        ("lmdeploy of qwen3-8b on a 3090: memory?", "infer qwen3-8b --engine vllm --gpu 3090"),
    ],
)
def test_the_nearest_engine_is_named_with_what_it_has_to_be_told(text, line):
    weighed, _ = found(text)
    assert line in weighed.runs[0].why


def test_the_logits_of_the_longest_sequence():
    more = ", max_prompt_length=1000, max_completion_length=7000"
    _, told = found(CARD.format(gpu="a 3090", more=more))
    assert told["sequence"] == {"tokens": 8000, "logits_bytes": 8000 * 151936 * 2}
    assert "sequence" not in found(CARD.format(gpu="a 3090", more=""))[1]


def test_a_variable_that_names_the_model_is_told():
    _, told = found(
        "It fails:\npython -m openrlhf.cli.train_ppo_ray --pretrain $THE_MODEL, out of memory"
    )
    assert told["lacks.model"] == {"name": "THE_MODEL"}
    _, told = found("It fails: openrlhf of qwen3-8b --pretrain $THE_MODEL, out of memory")
    assert "lacks.model" not in told


def test_a_config_that_is_not_in_the_text_is_named_and_its_folders_are_no_model():
    weighed, told = found("OOM with torchtitan/models/qwen3-8b/configs/some_16b.toml on 8x H100")
    assert told["lacks.config"]["path"] == "torchtitan/models/qwen3-8b/configs/some_16b.toml"
    assert weighed.runs[0].run.model == ""

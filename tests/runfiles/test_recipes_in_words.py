"""Frameworks that prose names: their own defaults, as the readers of their files have them."""

import pytest

from weighbridge.runfiles import read

TEXT = "I fine-tune qwen3-8b with {method} on a 3090 with {framework}{more}"


def run(framework: str, method: str = "QLoRA", more: str = ""):
    (found,) = read(TEXT.format(method=method, framework=framework, more=more)).runs
    return found


@pytest.mark.parametrize(
    ("framework", "settings"),
    [
        (
            "LLaMA-Factory",
            {"framework": "trainer", "seq_len": 2048, "batch_size": 8, "lora_targets": "all-linear",
             "quantization": "nf4-dq", "checkpointing": "full"},
        ),
        (
            "axolotl",
            {"framework": "axolotl", "seq_len": 512, "batch_size": 1, "checkpointing": "none"},
        ),
        ("TRL", {"framework": "trl", "seq_len": 1024, "batch_size": 8, "lora_r": 16}),
        ("unsloth", {"framework": "unsloth"}),
        ("torchtune", {"framework": "torchtune"}),
    ],
)  # fmt: skip
def test_defaults_are_the_frameworks_own(framework, settings):
    found = run(framework)
    assert settings.items() <= found.settings.items()
    assert found.settings["method"] == "qlora"


def test_defaults_are_those_of_a_file_that_says_no_more():
    file = (
        "model_name_or_path: org/name\nstage: sft\nfinetuning_type: lora\nquantization_bit: 4\n"
        "cutoff_len: null\nbf16: true\n"
    )
    (of_file,) = read(file, "a.yaml").runs
    told = {one[0] for one in run("LLaMA-Factory").defaults}
    assert {**of_file.settings, "gpu": "3090"} == run("LLaMA-Factory").settings
    assert {one[0] for one in of_file.defaults} | {"precision"} == told


def test_what_is_said_goes_before_a_default_and_is_not_told_as_one():
    found = run("LLaMA-Factory", "LoRA r=64", ", batch size 1, gradient checkpointing off")
    assert (found.settings["lora_r"], found.settings["batch_size"]) == (64, 1)
    assert found.settings["checkpointing"] == "none"
    assert "lora_alpha" not in found.settings
    assert not {"lora_r", "batch_size", "checkpointing"} & {one[0] for one in found.defaults}


def test_the_method_is_the_frameworks_own_too():
    (found,) = read("I fine-tune qwen3-8b with LLaMA-Factory on a 3090").runs
    assert found.settings["method"] == "lora"
    assert found.defaults[0][:2] == ("method", "lora")


@pytest.mark.parametrize("more", ["", " and axolotl", "/qwen3-8b-bnb-4bit"])
def test_no_framework_or_several_have_no_defaults(more):
    found = run("unsloth" if more else "it", more=more)
    assert "framework" not in found.settings
    assert any("several programs" in note for note in found.notes) == (more == " and axolotl")

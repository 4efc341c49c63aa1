"""Programs of Megatron: read, with what is understood, and refused by name."""

import pytest

from weighbridge.files.runfiles import read


def run(text: str, name: str = "run.sh"):
    return read(text, name).runs[0]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (
            "torchrun --nproc_per_node 8 pretrain_bert.py --num-layers 2",
            "a program of Megatron's other than pretrain_gpt.py",
        ),
    ],
)
def test_a_script_says_its_program(line, name):
    assert run(f"set -x\n{line}\n").refused == f"{name} is not answered yet"


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("mflux-generate --model dev -q 8 --height 1024 --prompt x", "fit flux.1-dev --gpu"),
        ("mflux-generate --model schnell -q 4", "fit flux.1-schnell --gpu"),
        ("mflux-generate-qwen-edit --prompt x", "fit qwen-image-edit --gpu"),
        ("does mflux-generate-qwen run on a mac mini m4 24gb?", "fit qwen-image --gpu"),
        ("mflux-generate-fibo --prompt x", "answered yet"),
    ],
)
def test_pictures_by_mlx_name_what_is_weighed(line, near):
    refused = run(line, "the text").refused
    assert refused.startswith("the text is about mflux, ")
    assert near in refused
    assert ("weighbridge fit" in refused) == ("fit" in near)


def test_saved_arguments_of_the_trainer_name_no_model():
    text = '{"per_device_train_batch_size": 4, "output_dir": "a", "learning_rate": 1e-5}'
    found = run(text, "training_args.json")
    assert (found.model, found.settings["framework"]) == ("", "trainer")
    assert found.settings["batch_size"] == 4
    assert found.settings["checkpointing"] == "none"
    assert found.settings["precision"] == "fp32"


def test_newer_names_of_the_trainers_arguments():
    text = (
        '{"per_device_train_batch_size": 4, "output_dir": "a", "learning_rate": 1e-5, '
        '"activation_checkpointing": true, "mixed_precision": "bf16"}'
    )
    settings = run(text, "training_args.json").settings
    assert (settings["checkpointing"], settings["precision"]) == ("full", "bf16-mixed")

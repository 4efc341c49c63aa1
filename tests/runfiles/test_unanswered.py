"""Programs of RL and Megatron: read, with what is understood, and refused by name."""

import pytest

from weighbridge.files.runfiles import read

VERL = """set -x
MODEL_PATH=${MODEL_PATH:-org/name}
python3 -m verl.trainer.main_ppo \\
    actor_rollout_ref.model.path="$MODEL_PATH" \\
    actor_rollout_ref.model.lora_rank=32 \\
    trainer.n_gpus_per_node=4
"""
NEMO = """
policy:
  model_name: org/name
  dtensor_cfg: {{lora_cfg: {{enabled: {enabled}, dim: 8}}}}
cluster: {{gpus_per_node: 8}}
"""


def run(text: str, name: str = "run.sh"):
    return read(text, name).runs[0]


def test_overrides_of_hydra_are_read_with_the_scripts_variables():
    found = run(VERL)
    assert (found.model, dict(found.settings)) == ("org/name", {"lora_r": 32, "method": "lora"})
    assert "verl" in found.refused
    assert found.notes == ("4 devices of a machine train",)


def test_a_variable_that_the_script_does_not_set_names_no_model():
    assert run(VERL.replace("MODEL_PATH=${MODEL_PATH:-org/name}\n", "")).model == ""


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("python3 -m verl.trainer.main config=a.yaml", "EasyR1"),
        ("python3 -m openrlhf.cli.train_ppo_ray --pretrain org/name", "OpenRLHF"),
        (
            "torchrun --nproc_per_node 8 pretrain_bert.py --num-layers 2",
            "a program of Megatron's other than pretrain_gpt.py",
        ),
        ("megatron rlhf --model org/name", "ms-swift with Megatron"),
    ],
)
def test_a_script_says_its_program(line, name):
    assert run(f"set -x\n{line}\n").refused == f"{name} is not answered yet"


def test_adapters_that_are_switched_off_are_none():
    on, off = (run(NEMO.format(enabled=word), "run.yaml") for word in ("true", "false"))
    assert on.settings == {"lora_r": 8, "method": "lora"}
    assert off.settings == {}
    assert (off.model, off.refused) == ("org/name", "NeMo-RL is not answered yet")


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

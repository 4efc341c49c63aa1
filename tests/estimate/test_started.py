"""The command that starts a run of verl asks for what was weighed."""

import pytest

import weighbridge
from weighbridge.faces.cli.menu import run

H100 = "nvidia-h100-sxm5-80gb:8"
ASKED = {"method": "grpo", "framework": "verl", "batch_size": 2, "prompt_len": 1024}
ASKED |= {"max_new_tokens": 1024, "gpu": H100}


@pytest.fixture(scope="module")
def model():
    return weighbridge.prepare("qwen2.5-7b")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kl_beta": 0.001, "num_generations": 8, "rollout_tp": 1},
        {"lora_r": 16, "rollout_offload": "weights", "max_num_seqs": 64},
        {"max_tokens_per_gpu": 8192, "context_parallel_size": 2, "entropy": True},
        {"method": "ppo", "shard": "fsdp2", "gpu": "nvidia-h100-sxm5-80gb:16"},
        {"method": "rloo", "rollout_engine": "sglang", "checkpointing": "none"},
    ],
)
def test_the_command_of_verl_gives_the_same_answer(model, settings):
    asked = ASKED | settings
    report = model.train(remedies=False, **asked)
    line = report.derived["launch"]
    assert line.startswith("python3 -m verl.trainer.main_ppo ") and "\n" not in line
    read = weighbridge.weigh(f"{line}\n", name="run.sh", gpu=asked["gpu"], offline=True)
    (again,) = read.runs
    assert again.run.unread == () and again.report.peak == report.peak
    assert again.report.verdict.fits == report.verdict.fits


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "dapo"},  # its loss is no estimator's
        {"optimizer": "adamw_8bit"},
        {"framework_version": "0.6"},  # whose keys are others
        {"rollout_gpu": H100},
    ],
)
def test_what_it_has_no_words_for_leaves_no_command(model, settings):
    report = model.train(remedies=False, **(ASKED | settings))
    assert report.derived["launch"] is None and report.derived["launch_note"]


def test_what_does_not_fit_is_not_started(model):
    report = model.train(remedies=False, **(ASKED | {"gpu": "nvidia-h100-sxm5-80gb"}))
    assert report.verdict.fits == "no" and "launch" not in report.derived


def test_it_is_on_the_screen_and_can_be_saved(tmp_path, capsys):
    """A script is Python's; a command is a shell's."""
    words = ["train", "qwen2.5-0.5b", "--offline", "--gpu", "h100"]
    words += ["--method", "grpo", "--framework", "verl", "--batch-size", "2"]
    words += ["--max-new-tokens", "512"]
    assert run(words) == 0
    assert (
        "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo" in capsys.readouterr().out
    )
    path = tmp_path / "run.sh"
    assert run([*words, "--save", str(path)]) == 0
    assert "bash run.sh" in capsys.readouterr().err
    assert path.read_text().startswith("python3 -m verl.trainer.main_ppo ")

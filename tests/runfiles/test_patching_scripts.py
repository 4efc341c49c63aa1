"""Changes of training scripts and launch lines: arguments in their places, and new ones beside."""

import pytest
from tests.cases import all_of

from weighbridge.faces.cli import menu
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.kinds import named, read
from weighbridge.files.runfiles.patching import applied
from weighbridge.files.runfiles.record import PlannedRun
from weighbridge.files.runfiles.training.flags import argued, in_calls
from weighbridge.files.runfiles.training.script import placed

RUN = PlannedRun(task="train")
SCRIPT = """from trl import SFTConfig, SFTTrainer
from peft import LoraConfig
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-8B", dtype="bfloat16")
BATCH = 16  # of a card
args = SFTConfig(
    output_dir="é",  # two bytes
    per_device_train_batch_size=BATCH,
    max_length=2048,
)
lora = LoraConfig(r=64)
SFTTrainer(model=model, args=args, peft_config=lora).train()
"""
CHANGES = [
    ({"batch_size": 4}, {"BATCH = 16": "BATCH = 4"}),
    ({"seq_len": 1024}, {"max_length=2048": "max_length=1024"}),
    ({"lora_r": 8}, {"(r=64)": "(r=8)"}),
    (
        {"optimizer": "adamw_8bit", "checkpointing": "full"},
        {"=2048,": '=2048,\n    optim="adamw_8bit",\n    gradient_checkpointing=True,'},
    ),
]


@all_of(("change", "edits"), CHANGES)
def test_a_script_is_changed_where_it_says_it(change, edits):
    words = named("training-script").written(change)
    document = placed(documents(SCRIPT, "python")[0])
    wanted = SCRIPT
    for old, new in edits.items():
        wanted = wanted.replace(old, new)
    assert applied(document, RUN, words) == wanted


def test_a_call_in_one_line_stays_in_one_line():
    text = 'a = AutoModel.from_pretrained("x")\nTrainingArguments("out", bf16=True, seed=1)\n'
    document = placed(documents(text, "python")[0])
    assert applied(document, RUN, {"optim": "adafactor"}) == text.replace(
        "seed=1", 'seed=1, optim="adafactor"'
    )


@all_of("text", ["f(1)\n", 'TrainingArguments("out")\n', "N = 3\nTrainingArguments(seed=N)\n"])
def test_a_call_without_arguments_of_its_own_has_no_place(text):
    document = placed(documents(text, "python")[0])
    assert applied(document, RUN, {"optim": "adafactor"}) is None


LINE = "python t.py --model_name_or_path a/b --bf16 --per-device-train-batch-size=8 --lora_r 16\n"
ARGUED = [
    ({"per_device_train_batch_size": 2}, {"size=8": "size=2"}),
    ({"lora_rank|lora_r": 4}, {"lora_r 16": "lora_r 4"}),
    ({"bf16": False}, {"--bf16": "--bf16 false"}),
    ({"optim": "adafactor"}, {"a/b": "a/b --optim adafactor"}),
    ({"max_seq_length|max_length": 9, "lora_r": 1}, {"a/b": "a/b --max_length 9", " 16": " 1"}),
]


@all_of(("words", "edits"), ARGUED)
def test_a_launch_line_is_changed_where_it_says_it(words, edits):
    wanted = LINE
    for old, new in edits.items():
        wanted = wanted.replace(old, new)
    assert list(argued(LINE, ["model_name_or_path"], words)) == [wanted]
    commented = f"# was: {LINE}{LINE}"
    assert list(argued(commented, ["model_name_or_path"], words)) == [f"# was: {LINE}{wanted}"]


def test_a_line_without_a_known_argument_has_no_place():
    assert list(argued(LINE, ["seed"], {"optim": "x"})) == []
    assert list(argued(LINE, ["lora_r"], {"fsdp_config.version": 2})) == []


SHELL = """#!/bin/bash
accelerate launch --num_processes 1 train.py \\
    --model_name_or_path Qwen/Qwen3-0.6B \\
    --per_device_train_batch_size 16 \\
    --max_length 4096 --bf16
"""
FITS = [("run.sh", SHELL, "--per_device_train_batch_size 1"), ("run.py", SCRIPT, "BATCH = 4")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "text", "said"), FITS, ids=["shell", "python"])
def test_a_written_change_fits_when_it_is_asked_again(tmp_path, capsys, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    asked = [str(path), "--gpu", "4090", "--offline"]
    assert menu.run([*asked, "--check"]) == 1
    assert menu.run([*asked, "--fix", "--write"]) == 0
    assert said in path.read_text()
    assert path.read_text().count("\n") >= text.count("\n")
    assert menu.run([*asked, "--check"]) == 0
    capsys.readouterr()


@pytest.mark.slow
def test_the_change_that_a_file_cannot_say_is_named(tmp_path, capsys):
    path = tmp_path / "run.sh"
    path.write_text(SHELL.replace("--max_length", "--use_peft --max_length").replace("0.6", "8"))
    assert menu.run([str(path), "--gpu", "4090", "--offline", "--fix"]) == 1
    told = capsys.readouterr().err
    assert "no patch: --method qlora" in told
    assert "cannot be written into this file" in told


GRPO = """from trl import GRPOConfig, GRPOTrainer
args = GRPOConfig(use_vllm=True, vllm_mode="colocate")
GRPOTrainer(model="org/name", args=args, reward_funcs=reward).train()
"""
FLAGS = {  # of a command -> what a script's own calls say for them
    "--vllm_enable_sleep_mode true --optim adamw_8bit": {"sleep_level": 2}
    | {"optimizer": "adamw_8bit"},
    "--dtype bfloat16 --use_peft true --lora_r 16 --lora_dropout 0.0": {"dtype": "bfloat16"}
    | {"lora_r": 16, "lora_dropout": 0.0},
}


@all_of(("flags", "settings"), FLAGS.items())
def test_what_to_paste_into_a_script_is_what_its_calls_are_told(flags, settings):
    """A script that parses no arguments has no use for flags: the keywords, read in its calls, are
    the same settings."""
    text = GRPO
    for line in in_calls(flags, GRPO).splitlines():
        begins, _, words = line.rpartition("(") if line.startswith("peft") else line.partition("(")
        into = "GRPOTrainer(" if begins.startswith("peft") else f"{begins}("
        said = line if begins.startswith("peft") else words[:-1]
        text = text.replace(into, f"{into}{said}, ")
    (run,) = read(text, "train.py").runs
    assert settings.items() <= run.settings.items(), text


def test_flags_stay_where_a_script_parses_them_or_starts_otherwise():
    flags = "--accelerate_config zero3 --offload_optimizer_device cpu"
    assert in_calls(flags, GRPO) == (
        "accelerate launch --use_deepspeed --zero_stage 3 --offload_optimizer_device cpu"
    )
    assert not in_calls(flags, f"{GRPO}TrlParser((GRPOConfig,))\n")
    assert not in_calls(flags, "train()\n")

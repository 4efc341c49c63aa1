"""Jupyter notebooks: their code cells are a script, and nothing of them is run."""

import json

import pytest

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.files.runfiles import read

INSTALLS = """%%capture
import os
if "COLAB_" not in "".join(os.environ.keys()):
    !pip install unsloth
else:
    !pip install --no-deps bitsandbytes \\
        accelerate peft
files = !ls
"""
LOADS = """from unsloth import FastLanguageModel
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name = "org/name",
    max_seq_length = 4096,
    load_in_4bit = True,
)"""
ADAPTS = """model = FastLanguageModel.get_peft_model(
    model,
    r = 32,
    target_modules = ["q_proj", "v_proj"],
    use_gradient_checkpointing = "unsloth",
)"""
TRAINS = """from trl import SFTConfig, SFTTrainer
trainer = SFTTrainer(
    model = model,
    args = SFTConfig(
        per_device_train_batch_size = 2,
        gradient_accumulation_steps = 4,
        optim = "adamw_8bit",
    ),
)"""


def cell(source: str, kind: str = "code", *, as_list: bool = True) -> dict:
    return {
        "cell_type": kind,
        "metadata": {},
        "source": source.splitlines(keepends=True) if as_list else source,
    }


def text(*cells: dict, indent: int | None = 1) -> str:
    return json.dumps({"cells": list(cells), "nbformat": 4, "metadata": {}}, indent=indent)


UNSLOTH = (cell("# Finetune", "markdown"), cell(INSTALLS), *map(cell, (LOADS, ADAPTS, TRAINS)))


def run(*cells: dict):
    return read(text(*cells), "tune.ipynb").runs[0]


def test_a_notebook_is_read_like_the_script_of_its_cells():
    found = read(text(*UNSLOTH), "tune.ipynb")
    script = read("\n".join((LOADS, ADAPTS, TRAINS)), "tune.py")
    assert found.kind == script.kind == "training-script"
    (one,) = found.runs
    assert one.model == "org/name"
    assert one.settings == script.runs[0].settings
    assert one.settings["lora_r"] == 32
    assert not one.notes or "left out" not in " ".join(one.notes)


def test_a_pasted_notebook_and_cells_of_one_text_are_read_alike():
    whole = [
        cell(each["source"] and "".join(each["source"]), as_list=False) for each in UNSLOTH[1:]
    ]
    pasted = read(text(*whole, indent=None))
    assert pasted.runs[0].settings == run(*UNSLOTH).settings


def test_lines_are_those_of_the_file():
    computed = cell(ADAPTS.replace("32", "rank()"))
    found = run(*UNSLOTH[:3], computed, UNSLOTH[4])
    lines = text(*UNSLOTH[:3], computed, UNSLOTH[4]).split("\n")
    (unread,) = found.unread
    assert "rank()" in lines[unread.line - 1]
    for one in found.understood:
        assert str(one.value) in lines[one.line - 1] or one.value == ["q_proj", "v_proj"]
        assert one.end == 0  # it is no place in JSON that could be written to


def test_a_cell_that_is_no_python_is_told():
    found = run(*UNSLOTH, cell("this is no Python"), cell("%%writefile a.py\nx = 1"))
    assert found.settings == run(*UNSLOTH).settings
    assert any("left out: 5, 6" in note for note in found.notes)


def test_code_that_looks_like_a_magic_stays():
    percent = cell('rank = (\n"%d"\n%(8)\n)')
    assert not any("left out" in note for note in run(*UNSLOTH, percent).notes)


@pytest.mark.parametrize(
    "source",
    [
        "!vllm serve Qwen/Qwen3-8B \\\n  --max-model-len 4096",
        "%%bash\nvllm serve Qwen/Qwen3-8B --max-model-len 4096",
    ],
)
def test_a_launch_line_of_a_notebook_is_read_as_one(source):
    found = run(cell("!pip install vllm"), cell(source))
    assert found.task == "infer"
    assert found.model == "Qwen/Qwen3-8B"
    assert "--max-model-len 4096" in found.command


def test_a_training_that_a_notebook_launches_is_read_as_one():
    line = (
        "!accelerate launch --num_processes 2 sft.py --model_name_or_path org/name"
        " --per_device_train_batch_size 4 --max_length 512"
    )
    found = run(cell(line))
    assert found.model == "org/name"
    assert (found.settings["batch_size"], found.settings["data_parallel_size"]) == (4, 2)


@pytest.mark.slow
def test_broken_notebooks_are_one_line_each():
    with pytest.raises(BadFileError, match=r"tune\.ipynb") as error:
        read(text(*UNSLOTH)[:-40], "tune.ipynb")
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="nothing in it tells"):
        read(text(cell("print(1)")), "tune.ipynb")
    with pytest.raises(UsageError, match="nothing in it tells"):
        read(text(cell("")), "tune.ipynb")
    with pytest.raises(BadFileError, match="more than 2000 cells"):
        read(text(*[cell("a")] * 2001), "tune.ipynb")


VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"
TRUE = "expandable_segments:True"


@pytest.mark.parametrize(
    "line", [f"%env {VARIABLE}={TRUE}", f"%env {VARIABLE} {TRUE}", f"%set_env {VARIABLE}={TRUE}"]
)
def test_a_variable_of_a_notebook_is_read(line):
    """IPython sets it for Python and for what the shell starts."""
    launched = cell("!torchrun --nproc_per_node 8 train.py --model_name_or_path org/name --bf16")
    assert run(cell(line), launched).settings["expandable_segments"] is True
    trained = run(cell(f"{line}\n{LOADS.replace('unsloth', 'transformers')}"), cell(TRAINS))
    (key,) = (k for k in trained.understood if k.setting == "expandable_segments")
    assert key.value is True


def test_a_variable_that_takes_anothers_value_says_nothing():
    launched = cell("!torchrun --nproc_per_node 8 train.py --model_name_or_path org/name --bf16")
    assert "expandable_segments" not in run(cell(f"%env {VARIABLE}=$HERE"), launched).settings


def test_nothing_of_a_notebook_is_run():
    assert run(cell("raise SystemExit(1)"), *UNSLOTH[1:]).model == "org/name"

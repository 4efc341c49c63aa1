"""Changes that a file says in a way of its own: a repository in which a model is stored packed, a
method that brings defaults of its program; and why a change cannot be written."""

import pytest

import weighbridge
from weighbridge.faces.cli import menu
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.flags import of_copy, renamed
from weighbridge.files.runfiles.patching import patched
from weighbridge.memory.report.verdict import Remedy

COMPOSE = """\
services:
  v:
    image: vllm/vllm-openai:v0.10.2
    command: --model Qwen/Qwen2.5-32B-Instruct --max-model-len 8192
"""
FULL = """\
model_name_or_path: Qwen/Qwen2.5-7B-Instruct
stage: sft
do_train: true
finetuning_type: full
cutoff_len: 4096
per_device_train_batch_size: 2
bf16: true
template: qwen
dataset: x
output_dir: o
"""


@pytest.mark.slow
def test_a_format_that_the_engine_does_not_make_is_the_name_of_a_repository():
    patch = patched(weighbridge.weigh(COMPOSE, name="compose.yaml", gpu="4090"))
    assert "--model Qwen/Qwen2.5-32B-Instruct-AWQ" in patch.after
    again = weighbridge.weigh(patch.after, name="compose.yaml", gpu="4090")
    assert again.fits == "yes"
    assert again.runs[0].report.peak.expected == patch.remedies[0].peak_bytes


def test_what_is_left_of_a_change_beside_a_repository():
    (run,) = read("vllm serve org/name -tp 2", "run.sh").runs
    change = {"quantization": "awq-4bit-g128", "max_num_seqs": 8}
    paste = "vllm serve org/name-AWQ -tp 2 --max-num-seqs 8"
    remedy = Remedy(change=change, peak_bytes=1, fits="yes", cost="", flags="x", paste=paste)
    name, others = of_copy(run, remedy)
    assert (name, others.change, others.flags) == (
        "org/name-AWQ",
        {"max_num_seqs": 8},
        "--max-num-seqs 8",
    )
    made = Remedy(
        change={"quantization": "fp8-tensor"}, peak_bytes=1, fits="yes", cost="", paste=paste
    )
    assert of_copy(run, made) is None


def test_a_name_is_changed_as_a_whole_word():
    text = "org/name other-org/name org/name-1 x/org/name 'org/name'"
    assert renamed(text, "org/name", "a") == "a other-org/name org/name-1 x/org/name 'a'"


@pytest.mark.slow
def test_lora_of_llama_factory_is_weighed_with_its_own_adapters(tmp_path, capsys):
    """It adapts every linear layer where its file names none."""
    path = tmp_path / "run.yaml"
    path.write_text(FULL)
    found = weighbridge.weigh(FULL, name="run.yaml", gpu="5090:2")
    assert patched(found) is None
    assert menu.run([str(path), "--gpu", "5090:2", "--fix", "--write"]) == 0
    assert "finetuning_type: lora\n" in path.read_text()
    again = weighbridge.weigh(str(path), gpu="5090:2")
    assert again.fits == "yes"
    told = capsys.readouterr().err
    assert f"takes about {again.runs[0].report.peak.expected / 2**30:.2f} GiB then" in told


SCRIPT = """\
M=Qwen/Qwen2.5-32B-
X=vllm
$X serve ${M}Instruct --max-model-len 8192
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("run.sh", SCRIPT, "its launch line is put together of variables"),
        ("run.json", '{"zero_optimization": {"stage": 2}, "bf16": {"enabled": true}}', "no key"),
    ],
)
def test_why_a_change_cannot_be_written_is_said(tmp_path, capsys, name, text, why):
    path = tmp_path / name
    path.write_text(text)
    model = [] if "M=" in text else ["--model", "Qwen/Qwen3-8B", "--seq-len", "512"]
    assert menu.run([str(path), "--gpu", "4090", "--fix", *model]) == 1
    told = capsys.readouterr().err
    assert "fits, and cannot be written into this file" in told
    assert why in told

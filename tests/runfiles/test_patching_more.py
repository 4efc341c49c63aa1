"""Changes that a file says in a way of its own: a repository in which a model is stored packed, a
method that brings defaults of its program; and why a change cannot be written."""

import json

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.base.records import replace
from weighbridge.faces.cli import menu
from weighbridge.files.runfiles import patching, read
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
def test_another_training_is_named_and_not_written(tmp_path, capsys):
    """Adapters in the place of all weights are for whoever owns the file to choose."""
    path = tmp_path / "run.yaml"
    path.write_text(FULL)
    assert menu.run([str(path), "--gpu", "5090:2", "--fix", "--write"]) == 1
    assert path.read_text() == FULL
    assert "--method lora" in capsys.readouterr().err


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


@pytest.mark.slow
def test_no_screen_promises_a_patch_that_is_none(tmp_path, capsys):
    """Adapters in the place of all weights are advice: --fix writes none, and neither says so."""
    path = tmp_path / "run.yml"
    path.write_text(
        "base_model: meta-llama/Llama-3.1-8B\nadpater: lora\nload_in_4bit: true\n"
        "sequence_len: 2048\nmicro_batch_size: 2\n"
    )
    menu.run([str(path), "--gpu", "4090", "--offline"])
    assert "--fix prints" not in capsys.readouterr().out
    assert menu.run([str(path), "--gpu", "4090", "--offline", "--fix"]) == 1
    assert "it trains adapters in the place of all weights" in capsys.readouterr().err


FACTORY = """model_name_or_path: Qwen/Qwen3-4B
stage: sft
finetuning_type: full
deepspeed: examples/deepspeed/ds_z2_config.json  # two
cutoff_len: 1024
per_device_train_batch_size: 1
bf16: true
"""
TRAINED = {
    "batch_size": 4,
    "base_model_name": "black-forest-labs/FLUX.1-dev",
    "model_type": "FLUX_DEV_1",
    "resolution": "768",
    "transformer": {"train": True, "weight_dtype": "FLOAT_8"},
    "text_encoder": {"train": False},
    "text_encoder_2": {"train": False, "weight_dtype": "FLOAT_8"},
    "training_method": "LORA",
    "train_dtype": "BFLOAT_16",
}
KOHYA = (
    "accelerate launch flux_train_network.py --pretrained_model_name_or_path flux1-dev.safetensors "
    "--fp8_base --cache_latents --cache_text_encoder_outputs --network_module networks.lora_flux "
    "--train_batch_size 2 --resolution 512,512 --gradient_checkpointing --mixed_precision bf16\n"
)
FIXED = [
    ("f.yaml", FACTORY, "4090:8", ["ds_z2_config.json  # two", "optim: adamw_8bit"]),
    (
        "o.json",
        json.dumps(TRAINED),
        "4060ti-16gb",
        ['"optimizer": "ADAMW_8BIT"', '"batch_size": 1'],
    ),
    ("k.sh", KOHYA, "4070", ["--optimizer_type AdamW8bit", "--blocks_to_swap"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "text", "gpu", "written"), FIXED)
def test_a_patch_is_what_the_screen_says_and_keeps_what_is_trained(
    tmp_path, capsys, name, text, gpu, written
):
    path = tmp_path / name
    path.write_text(text)
    asked = [str(path), "--gpu", gpu, "--offline"]
    before = read(text, name).runs[0].settings
    assert menu.run([*asked, "--check"]) in (1, 4)
    assert menu.run([*asked, "--fix", "--write"]) == 0
    after = path.read_text()
    assert all(each in after for each in written)
    assert read(after, name).runs[0].settings["method"] == before["method"]
    assert menu.run([*asked, "--check"]) == 0
    capsys.readouterr()


def test_all_weights_are_never_turned_into_adapters():
    (run,) = read(FACTORY, "f.yaml").runs
    adapters = Remedy(change={"method": "lora"}, cost="", fits="yes", peak_bytes=1)
    shared = replace(adapters, change={"shard": "fsdp2"})
    assert not list(patching._alike(run, adapters))
    assert [one.change for one in patching._alike(run, shared)] == [
        {"shard": "fsdp2"},
        {"shard": "zero3"},
    ]
    packed = replace(run, settings={**run.settings, "method": "lora"})
    assert list(patching._alike(packed, adapters)) == [adapters]


@all_of(
    ("pasted", "words"),
    [
        ("--optimizer_type AdamW8bit\n--fp8_base --x 2", {"optimizer_type": "AdamW8bit", "fp8_base": "", "x": 2}),
        ('"a": {"b": 1, "c": {"d": "e"}}\n"f": true', {"a.b": 1, "a.c.d": "e", "f": True}),
        ("batch_size = 1", None),
        ("# wan_cache.py --fp8_t5", None),
        ("", None),
    ],
)  # fmt: skip
def test_lines_of_a_trainer_are_keys_of_its_file(pasted, words):
    assert patching._of_trainer(pasted) == words

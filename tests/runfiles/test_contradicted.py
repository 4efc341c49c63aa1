"""Arguments of the Trainer beside a config of DeepSpeed that contradicts them: it does not start."""

import json

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read

LINE = "{} train.py --model_name_or_path org/name --bf16 True --per_device_train_batch_size 2 {}"
STAGE = {"zero_optimization": {"stage": 2}}
AUTO = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
    "bf16": {"enabled": "auto"},
}


@pytest.fixture
def refused(tmp_path):
    def of(config, more="", launcher="torchrun --nproc_per_node 4", text=None, name="a.sh"):
        (tmp_path / "ds.json").write_text(json.dumps({**STAGE, **config}))
        text = text or LINE.format(launcher, f"--deepspeed ds.json {more}")
        (run,) = read(text, name, folder=str(tmp_path)).runs
        return run.refused

    return of


STARTS = [
    (AUTO, ""),
    ({}, ""),
    ({"train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": True}}, ""),
    ({"gradient_accumulation_steps": 1, "fp16": {"enabled": False}}, ""),
    ({"gradient_accumulation_steps": 3}, "--gradient_accumulation_steps 3"),
    ({"gradient_accumulation_steps": 3}, "--gradient_accumulation_steps $N"),
    ({"train_batch_size": 8}, ""),
    ({"train_batch_size": 24}, "--gradient_accumulation_steps 3"),
]


def test_what_agrees_or_is_auto_starts(refused):
    for config, more in STARTS:
        assert (config, refused(config, more)) == (config, "")


STOPS = [
    (
        {"train_micro_batch_size_per_gpu": 4},
        "",
        "train_micro_batch_size_per_gpu 4 is not per_device",
    ),
    ({"gradient_accumulation_steps": 2}, "", "steps 2 is not gradient_accumulation_steps 1 of"),
    ({"train_batch_size": 16}, "", "train_batch_size 16 is not 2 x 1 x 4 = 8:"),
    ({"train_batch_size": 8}, "--gradient_accumulation_steps 2", "8 is not 2 x 2 x 4 = 16:"),
    ({"bf16": {"enabled": False}}, "", "bf16.enabled false is not bf16 true of the run"),
    ({"fp16": {"enabled": True}}, "", "fp16.enabled true is not fp16 false of the run"),
]


def test_what_differs_is_refused_with_both_values_and_what_to_do(refused):
    for config, more, why in STOPS:
        told = refused(config, more)
        assert told.startswith("ds.json: ") and why in told
        assert told.endswith('the Trainer does not start so; write "auto" there')


def test_without_ranks_no_number_of_them_may_do(refused):
    assert not refused({"train_batch_size": 8}, launcher="python")
    assert "7 is not a multiple of 2 x 1:" in refused({"train_batch_size": 7}, launcher="python")


def test_a_config_that_stands_in_the_arguments_counts_so_too(refused):
    yaml = """model_name_or_path: org/name
per_device_train_batch_size: 2
learning_rate: 0.1
deepspeed: {train_micro_batch_size_per_gpu: 3, zero_optimization: {stage: 2}}
"""
    assert refused({}, text=yaml, name="a.yaml").startswith("deepspeed: train_micro_batch")


def test_a_script_of_deepspeed_alone_is_not_the_trainer(refused):
    own = LINE.format("deepspeed --num_gpus 4", "--deepspeed --deepspeed_config ds.json")
    assert not refused({"train_micro_batch_size_per_gpu": 4}, text=own)


@all_of(
    ("text", "name"),
    [
        (LINE.format("torchrun", "--deepspeed zero3.json --fsdp full_shard"), "a.sh"),
        (
            "base_model: x\nmicro_batch_size: 2\nfsdp: [full_shard]\ndeepspeed: zero2.json\n",
            "a.yml",
        ),
        (
            "base_model: x\nmicro_batch_size: 2\nfsdp_config: {a: true}\ndeepspeed: zero2.json\n",
            "a.yml",
        ),
    ],
)
def test_fsdp_beside_deepspeed_is_refused(text, name):
    (run,) = read(text, name).runs
    assert "fsdp stands beside deepspeed" in run.refused


@all_of("more", ["--deepspeed zero3.json --fsdp ''", "--fsdp full_shard"])
def test_one_of_them_starts(more):
    (run,) = read(LINE.format("torchrun", more), "a.sh").runs
    assert not run.refused


AXOLOTL = "base_model: x\nadapter: lora\nmicro_batch_size: {}\nbf16: auto\ndeepspeed: ds.json\n"
FACTORY = """model_name_or_path: x
stage: sft
cutoff_len: 9
per_device_train_batch_size: 2
deepspeed: ds.json
"""


@all_of("text", [AXOLOTL.format(2), FACTORY])
def test_axolotl_and_llama_factory_are_the_trainer_too(text, refused):
    config = {"train_micro_batch_size_per_gpu": 4}
    assert "is not per_device_train_batch_size 2" in refused(config, text=text, name="a.yaml")
    config |= {"bf16": {"enabled": False}}
    assert not refused(config, text=AXOLOTL.format(4), name="a.yaml")


PACKED = "base_model: x\nmicro_batch_size: 1\nadapter: "
FOUR, EIGHT = "\nload_in_4bit: true", "\nload_in_8bit: true"


@all_of(
    ("text", "refused", "doubted"),
    [
        (f"{PACKED}qlora{FOUR}", "", ()),
        (f"{PACKED}lora{EIGHT}", "", ()),
        (f"{PACKED}qlora{FOUR}{EIGHT}", "both true", ("load_in_8bit",)),
        (f"{PACKED}lora{FOUR}{EIGHT}", "", ("load_in_8bit",)),
        (f"{PACKED}qlroa{FOUR}", "qlroa is not built into axolotl", ("adapter",)),
        (f"{PACKED}mine\nplugins: [a.b]", "", ("adapter",)),
        (f"{PACKED}llama-adapter", "", ("adapter",)),
    ],
)
def test_adapters_and_bits_that_axolotl_refuses(text, refused, doubted):
    (run,) = read(text, "a.yaml").runs
    assert refused in run.refused
    assert bool(run.refused) is bool(refused)
    left = [one for one in run.unread if one.key in ("adapter", "load_in_8bit")]
    assert tuple(one.key for one in left) == doubted
    assert all(one.lowers for one in left)
    assert [one.raises for one in left] == [one.key == "load_in_8bit" for one in left]


@pytest.mark.slow
def test_ranks_of_the_cards_that_are_typed_are_compared_too(tmp_path):
    (tmp_path / "ds.json").write_text(json.dumps({**STAGE, "train_batch_size": 16}))
    path = tmp_path / "a.yaml"
    path.write_text(FACTORY.replace(": x", ": llama-3.2-1b"))
    told = "ds.json: train_batch_size 16 is not 2 x 1 x 4 = 8: the Trainer does not start so; "
    assert any(told in each for each in weighbridge.weigh(path, gpu="h100:4").warnings)
    assert not any("train_batch" in each for each in weighbridge.weigh(path, gpu="h100:8").warnings)
    assert not any("train_batch" in each for each in weighbridge.weigh(path).warnings)

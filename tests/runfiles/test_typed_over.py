"""What is typed beside a file wins: what of the file means nothing beside it is left out, and told."""

import json

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.passes import IDLE, Typed, without_idle
from weighbridge.workload.consistency import idle

ZERO = {
    "stage": 3,
    "reduce_bucket_size": 100000000,
    "stage3_prefetch_bucket_size": 10000000,
    "offload_optimizer": {"device": "cpu"},
}
CONFIG = json.dumps({"zero_optimization": ZERO})
FSDP = """compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_processes: 4
fsdp_config:
  fsdp_version: 1
  fsdp_offload_params: true
  fsdp_cpu_ram_efficient_loading: true
  fsdp_backward_prefetch: BACKWARD_PRE
  fsdp_sharding_strategy: SHARD_GRAD_OP
"""
OF_FSDP = {"cpu_ram_efficient_loading", "reshard_after_forward", "backward_prefetch"}
QLORA = "base_model: x\nadapter: qlora\nload_in_4bit: true\nlora_r: 8\nmicro_batch_size: 1\n"


def left(text, name="f", **typed):
    file = read(text, name)
    (run,) = file.runs
    after = without_idle(run, Typed(file, typed))
    gone = run.settings.keys() - after.settings.keys()
    assert not {one.setting for one in after.understood} & gone
    assert not {one[0] for one in after.defaults} & gone
    return gone, after


STAGE_3 = {"zero_prefetch_bucket_size", "zero_param_persistence_threshold"}
ALL = {*STAGE_3, "zero_reduce_bucket_size", "offload"}
KEYS = ["offload_optimizer", "reduce_bucket_size", "stage3_prefetch_bucket_size"]


@all_of(
    ("shard", "gone", "told"),
    [
        ("zero3", set(), []),
        ("zero2", STAGE_3, KEYS[2:]),
        ("zero1", STAGE_3, KEYS[2:]),
        ("ddp", ALL, KEYS),
        ("fsdp2", ALL, KEYS),
    ],
)
def test_sizes_of_another_way_to_share_out_are_left_out_and_told(shard, gone, told):
    found, after = left(CONFIG, "z.json", shard=shard)
    assert found == gone
    why = IDLE.format(f"--shard {shard}")
    assert sorted(one.key.rpartition(".")[2] for one in after.unread if one.why == why) == told
    assert not any(one.raises or one.lowers for one in after.unread)


@all_of(
    ("shard", "gone"),
    [
        ("fsdp1", set()),
        ("fsdp2", {"backward_prefetch"}),
        ("hsdp", {"backward_prefetch"}),
        ("zero3", OF_FSDP),
        ("zero2", OF_FSDP | {"offload"}),
        ("ddp", OF_FSDP | {"offload"}),
    ],
)
def test_what_is_fsdps_alone_is_left_out_beside_others(shard, gone):
    found, _ = left(FSDP, "a.yaml", shard=shard)
    assert found == gone


@all_of(
    ("shard", "kept"),
    [("zero3", True), ("zero2", False), ("fsdp2", False), ("ddp", False)],
)
def test_a_disk_is_of_stage_3_alone(shard, kept):
    assert ("offload" not in idle({"shard": shard}, {"offload": "nvme"})) is kept
    assert not idle({"shard": shard}, {"offload": "none"})


def test_what_is_typed_too_stays_to_be_refused():
    assert not idle({"shard": "ddp", "offload": "params"}, {"offload": "params"})
    assert not left(CONFIG, "z.json", batch_size=2)[0]


def test_adapters_are_left_out_beside_full_training():
    gone, after = left(QLORA, "a.yaml", method="full")
    assert "lora_r" in gone
    assert any(one.key == "lora_r" and "--method full" in one.why for one in after.unread)
    assert not left(QLORA, "a.yaml", method="lora")[0]


def test_what_no_key_says_by_itself_is_told_as_well():
    line = "torchrun train.py --model_name_or_path x --per_device_train_batch_size 1 --fsdp "
    _, after = left(f'{line}"full_shard offload"\n', "a.sh", shard="ddp")
    assert f"offload params: {IDLE.format('--shard ddp')}" in after.notes


@pytest.mark.slow
def test_the_answer_is_that_of_the_settings_that_are_left():
    asked = {"model": "qwen3-0.6b", "seq_len": 64, "data_parallel_size": 4}
    found = weighbridge.weigh(CONFIG, name="z.json", shard="ddp", **asked).runs[0].report
    model = asked.pop("model")
    bare = weighbridge.train(model, shard="ddp", framework="deepspeed", **asked)
    assert found.peak == bare.peak

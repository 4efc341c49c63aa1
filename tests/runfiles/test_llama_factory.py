"""LLaMA-Factory's YAML: its own defaults, and the keys that decide something together."""

import pytest

from weighbridge.files.runfiles import read

BASE = "model_name_or_path: org/name\nstage: sft\ntemplate: qwen\ncutoff_len: 1024\n"


def settings(text: str) -> dict:
    return dict(read(BASE + text, "run.yaml", "llama-factory").runs[0].settings)


def refused(text: str) -> str:
    return read(BASE + text, "run.yaml", "llama-factory").runs[0].refused


def test_checkpoints_are_on_unless_they_are_disabled():
    assert settings("bf16: true\n")["checkpointing"] == "full"
    assert settings("bf16: true\n")["use_reentrant"] is True
    assert settings("disable_gradient_checkpointing: true\n")["checkpointing"] == "none"


def test_without_a_method_it_trains_adapters_of_rank_eight_on_all_linears():
    got = settings("bf16: true\n")
    assert (got["method"], got["lora_r"], got["lora_targets"]) == ("lora", 8, "all-linear")


def test_a_base_in_four_bits_is_packed_twice_and_stored_in_the_dtype_of_computing():
    got = settings("quantization_bit: 4\nbf16: true\n")
    assert (got["method"], got["quantization"]) == ("qlora", "nf4-dq")
    assert got["bnb_4bit_quant_storage"] == "bfloat16"
    assert settings("quantization_bit: 4\ndouble_quantization: false\n")["quantization"] == "nf4"
    assert settings("quantization_bit: 8\n")["quantization"] == "bnb-int8"


@pytest.mark.parametrize("packed", ["", "quantization_bit: 4\n", "quantization_bit: 8\n"])
def test_where_no_precision_is_named_the_base_is_as_it_is_kept(packed):
    """model/loader.py loads with torch_dtype "auto", whatever computes."""
    got = settings(packed)
    assert (got["precision"], got["dtype"]) == ("fp32", "bfloat16")
    assert ("bnb_4bit_quant_storage" in got) is ("4" in packed)


def test_other_packing_is_named():
    run = read(BASE + "quantization_bit: 4\nquantization_method: hqq\n", "r.yaml").runs[0]
    assert [one.key for one in run.unread] == ["quantization_method"]


def test_targets_are_names_or_all():
    assert settings("lora_target: q_proj, v_proj\n")["lora_targets"] == ["q_proj", "v_proj"]


def test_pure_bf16_has_no_autocast():
    assert settings("pure_bf16: true\nfinetuning_type: full\n")["precision"] == "bf16"


@pytest.mark.parametrize(
    ("name", "shard", "offload"),
    [
        ("ds_z0_config.json", "ddp", None),
        ("ds_z2_offload_config.json", "zero2", "optimizer"),
        ("ds_z3_offload_config.json", "zero3", "params"),
    ],
)
def test_a_deepspeed_file_says_its_stage_by_its_name(name, shard, offload):
    got = settings(f"deepspeed: examples/deepspeed/{name}\n")
    assert (got["shard"], got.get("offload")) == (shard, offload)


def test_what_has_another_step_is_refused_by_name():
    assert "cls" in refused("stage: cls\n")
    assert refused("stage: kto\n") == ""
    assert "oft" in refused("finetuning_type: oft\n")
    assert "Megatron" in refused("tensor_model_parallel_size: 2\n")
    assert "KTransformers" in refused("use_kt: true\n")

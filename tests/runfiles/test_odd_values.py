"""Files whose values are of another kind than the program reads: one line, and no traceback."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.faces.cli import menu
from weighbridge.files.runfiles import read

AXOLOTL = "base_model: meta-llama/Llama-3.1-8B\nadapter: lora\nmicro_batch_size: 2\n"
TUNE = """model:
  _component_: torchtune.models.llama3_2.lora_llama3_2_1b
  lora_attn_modules: {}
  lora_rank: 8
batch_size: 2
"""
ODD = [(value, "no list of modules") for value in ("5", "[{}]", "x", "[1]", "true")]


@all_of(("value", "why"), ODD)
def test_modules_that_are_none_are_told(value, why):
    run = read(TUNE.replace("{}", value, 1), "tune.yaml").runs[0]
    assert "lora_targets" not in run.settings
    assert [one.why for one in run.unread if one.key == "model.lora_attn_modules"] == [
        f"it is {why}"
    ]


STAGES = ['{"stage": "x"}', '{"stage": 7}', '{"stage": true}', '{"stage": 1e999}']


@all_of("said", STAGES)
def test_a_stage_that_deepspeed_has_not_is_refused(said):
    with pytest.raises(
        UsageError, match=r"zero\.json:1: zero_optimization\.stage .*: DeepSpeed has stages 0 to 3"
    ):
        read(f'{{"zero_optimization": {said}}}', "zero.json", "deepspeed")


PLACE = '{"zero_optimization": {"stage": 3, "%s": {"device": %s}}}'


@all_of("name", ["offload_param", "offload_optimizer"])
def test_a_place_that_deepspeed_has_not_is_refused(name):
    why = rf"zero\.json:1: zero_optimization\.{name}\.device 'disk': DeepSpeed has none, cpu, nvme"
    with pytest.raises(UsageError, match=why):
        read(PLACE % (name, '"disk"'), "zero.json", "deepspeed")
    for place in ("none", "CPU", "nvme"):
        read(PLACE % (name, f'"{place}"'), "zero.json", "deepspeed")
    read(PLACE % (name, "null"), "zero.json", "deepspeed")


@all_of("said", ["true", "[]"])
def test_what_says_no_stage_is_told(said):
    run = read(f'{{"zero_optimization": {said}}}', "zero.json", "deepspeed").runs[0]
    assert run.settings.get("shard") in (None, "ddp")
    assert any(one.key.startswith("zero_optimization") for one in run.unread)


def test_two_precisions_are_refused_and_parameters_that_stay_are_told():
    both = (
        '{"fp16": {"enabled": true}, "bf16": {"enabled": true}, "zero_optimization": {"stage": 2}}'
    )
    with pytest.raises(UsageError, match="fp16 and bf16 are enabled"):
        read(both, "zero.json", "deepspeed")
    away = '{"zero_optimization": {"stage": %d, "offload_param": {"device": "cpu"}}}'
    second, third = (read(away % n, "zero.json", "deepspeed").runs[0] for n in (2, 3))
    assert [one.why for one in second.unread] == ["stage 2 keeps its parameters on the device"]
    assert "offload" not in second.settings
    assert third.settings["offload"] == "params"


@all_of("kind", ["compose", "llama-swap"])
def test_a_file_of_another_kind_starts_nothing(kind):
    with pytest.raises(UsageError, match="starts nothing that has a size"):
        read(AXOLOTL, "run.yaml", kind)


@all_of(("text", "told"), [('{"model_type": "qwen3"}', True), ('{"model": "qwen3"}', False)])
def test_the_config_of_a_model_is_asked_about_by_another_command(text, told):
    with pytest.raises(UsageError) as refused:
        read(text, "some/config.json")
    assert ("type: weighbridge fit some/config.json" in str(refused.value)) is told


@pytest.mark.slow
def test_a_weighed_file_prints_as_the_command_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(AXOLOTL)
    found = weighbridge.weigh("run.yaml", gpu="a100-40gb")
    assert menu.run(["run.yaml", "--gpu", "a100-40gb"]) == 0
    assert str(found) == capsys.readouterr().out
    assert "fits on A100 SXM4 40GB" in found._repr_markdown_()
    assert found._repr_html_().startswith("<!doctype html>")


TWICE = f"{AXOLOTL}sequence_len: 2048\nsequence_len: 4096\nbf16: maybe\nsample_packing: sometimes\n"


@pytest.mark.slow
def test_switches_that_say_neither_yes_nor_no_and_keys_that_stand_twice_are_told():
    found = weighbridge.weigh(TWICE, name="run.yaml", gpu="a100-40gb")
    neither = "is neither true nor false; it is counted as if it were not there"
    told = found.to_dict()["warnings"]
    assert f"run.yaml:6: bf16: 'maybe' {neither}" in told
    assert f"run.yaml:7: sample_packing: 'sometimes' {neither}" in told
    assert "run.yaml:5: sequence_len stands twice; the last one counts" in told
    assert found.runs[0].report.workload["seq_len"] == 4096
    assert found.runs[0].report.workload["precision"] == "bf16-mixed"


@all_of("said", ["true", "yes", "off", "auto", "null", '"false"', "${BF16}"])
def test_a_switch_that_says_it_is_not_told(said):
    (run,) = read(f"{AXOLOTL}sample_packing: {said}\nbf16: true\n", "run.yaml").runs
    assert not any("neither" in one.why for one in run.unread)


def test_the_same_of_arguments_of_the_trainer():
    text = '{"per_device_train_batch_size": 1, "learning_rate": 1e-4, "bf16": "maybe"}'
    (run,) = read(text, "args.json", "trl").runs
    assert [one.key for one in run.unread if "neither" in one.why] == ["bf16"]


def test_a_length_that_is_none_is_said_to_be_no_number_of_tokens():
    with pytest.raises(UsageError, match="sequence_len is -5, which is no number of tokens: write"):
        read("base_model: org/name\nmicro_batch_size: 1\nsequence_len: -5\n", "a.yaml")

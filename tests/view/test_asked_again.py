"""The question that a screen offers next is the same question: what was typed stands in it."""

import re
import shlex

import pytest

import weighbridge
from weighbridge.base.records import replace
from weighbridge.faces.cli.menu import run
from weighbridge.faces.view.changes import ASKED_ANEW, askable, asks
from weighbridge.workload import FIT

LLAMA = "llama-3.1-8b"


def offered(report, sought="--max seq-len"):
    return asks(report, sought).removeprefix(f"weighbridge fit {LLAMA} ").removesuffix(sought)


@pytest.mark.parametrize(
    ("settings", "typed"),
    [
        ({}, "--for train"),
        ({"seq_len": 512}, "--for train"),  # is what is solved for
        ({"batch_size": 4}, "--for train --batch-size 4"),
        (
            {"checkpointing": "full", "use_reentrant": False},
            "--for train --checkpointing full --no-use-reentrant",
        ),
        ({"method": "qlora", "lora_r": 8}, "--for qlora --lora-r 8"),
        (
            {"method": "lora", "lora_targets": "q_proj,k_proj", "gradient_accumulation": 2},
            "--for lora --lora-targets q_proj,k_proj --gradient-accumulation 2",
        ),
    ],
)
def test_what_was_given_is_asked_again(settings, typed):
    report = weighbridge.train(LLAMA, **settings)
    assert offered(report).strip() == typed


@pytest.mark.slow
def test_limits_of_the_machine_are_asked_again():
    limits = {"gpu_memory": "60GiB", "headroom": "5GiB", "ram": "1TB", "no_zero_init": True}
    shared = {"shard": "zero3", "data_parallel_size": 16, "ranks_per_machine": 8}
    report = weighbridge.train(LLAMA, gpu="h100-sxm:16", **limits, **shared)
    words = shlex.split(offered(report))
    assert words[:2] == ["--gpu", "h100-sxm:16"]
    for typed in ("--gpu-memory 60GiB", "--headroom 5GiB", "--ram 1TB", "--ranks-per-machine 8"):
        assert typed in offered(report)
    assert "--no-zero-init" in words
    anywhere = offered(report, "--smallest gpu")
    assert "h100" not in anywhere and "60GiB" not in anywhere and "--ram 1TB" in anywhere


@pytest.mark.slow
def test_a_server_keeps_its_context_and_engine():
    report = weighbridge.infer("llama-3.1-70b", gpu="4090", context=65536, engine="vllm")
    asked = "weighbridge fit llama-3.1-70b --context 65536 --engine vllm --smallest gpu"
    assert sorted(asks(report, "--smallest gpu").split()) == sorted(asked.split())


@pytest.mark.parametrize(
    ("settings", "can"),
    [
        ({}, True),
        ({"method": "dora"}, False),
        ({"method": "lora"}, True),
        ({"method": "lora", "quantization": "int8"}, False),
        ({"method": "qlora", "quantization": "fp4"}, True),
    ],
)
def test_fit_has_no_word_for_every_run(settings, can):
    assert askable(weighbridge.train("qwen3-0.6b", **settings)) is can


@pytest.mark.slow
@pytest.mark.parametrize(("ram", "offered"), [("64GiB", False), ("100TiB", True)])
def test_no_larger_card_is_sought_where_host_memory_is_short(ram, offered):
    settings = {"shard": "zero3", "offload": "params", "checkpointing": "full", "seq_len": 8192}
    report = weighbridge.train("llama-3.1-405b", gpu="3060:2", ram=ram, **settings)
    assert report.verdict.fits == "no"
    text = str(replace(report, remedies=()))
    assert "No change was found" in text
    assert ("--smallest gpu" in text) == offered


@pytest.mark.parametrize(("each", "machines"), [(4, "4"), (16, ""), (None, "2"), (6, "3")])
def test_machines_are_as_many_as_are_said(each, machines):
    report = weighbridge.train(
        "qwen3-0.6b", gpu="h100-sxm:16", shard="fsdp2", ranks_per_machine=each
    )
    told = re.search(r"16 GPUs are (\d+) machines", str(report))
    assert (told[1] if told else "") == machines


def test_what_is_solved_for_is_a_setting_of_fit():
    for sought, anew in ASKED_ANEW.items():
        assert anew <= FIT.keys(), sought


@pytest.mark.slow
def test_the_offered_line_runs(capsys):
    report = weighbridge.train("qwen3-0.6b", gpu="4090", method="lora", ram="64GiB", lora_r=16)
    assert run(shlex.split(asks(report, "--max seq-len"))[1:], "weighbridge") == 0
    assert "error" not in capsys.readouterr().err

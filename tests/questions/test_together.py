"""Several models on the same cards at once: what they hold is added up, and shares are told."""

import json
from types import SimpleNamespace

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.memory import Bytes, Component, Device, Instant
from weighbridge.faces.cli.infer import one
from weighbridge.faces.cli.menu import run
from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions
from weighbridge.memory.report.together import Service, Services

SMALL = {"gpu": "3060"}


def service(*needs, fits="yes", taken=0, **derived):
    held = Component(name="weights", bytes=Bytes(*needs), basis="computed")
    serving = (Instant("decode", (held,)),)
    device = Device(index=0, kind="gpu", phases=serving, taken=taken or None)
    verdict = SimpleNamespace(per_device=Bytes(*needs), fits=fits, usable_each=())
    report = SimpleNamespace(verdict=verdict, devices=(device,), derived=derived, warnings=())
    report.workload = {"engine": "ollama"}
    return Service(report=report)


def judged(*services, usable=(10, 10, 11)):
    return Services(services=services, accelerator=None, usable=Bytes(*usable))


@all_of(
    ("services", "fits"),
    [
        ([service(4, 5, 5), service(4, 5, 5)], "yes"),
        ([service(4, 5, 6), service(4, 5, 5)], "unknown"),
        ([service(5, 6, 6), service(6, 6, 6)], "unknown"),
        ([service(6, 6, 6), service(6, 6, 6)], "no"),
        ([service(1, 1, 1), service(1, 1, 1, fits="no")], "no"),
        ([service(1, 1, 1), service(1, 1, 1, fits="unknown")], "unknown"),
        ([service(1, 1, 1), service(1, 1, 1, layers_on_card=[1, 2])], "no"),
        ([service(1, 1, 1), service(1, 1, 1, taken=10)], "unknown"),
        ([service(1, 1, 1), service(1, 1, 1, taken=9)], "yes"),
    ],
)
def test_what_all_of_them_hold_is_judged(services, fits):
    assert judged(*services).fits == fits


def test_what_is_left_for_the_next():
    found = judged(service(1, 2, 3), service(3, 4, 5), service(5, 6, 7))
    assert found.left == (8, 4, -2)
    assert found.holds == Bytes(9, 12, 15)
    assert found.margin_bytes == -2


SERVE = "OLLAMA_CONTEXT_LENGTH={} ollama serve & sleep 5"


@all_of(
    ("lines", "told"),
    [
        (["a --port 1", "b --port 2"], ("a --port 1", "b --port 2")),
        (["run a", f"{SERVE.format(512)}; run b"], (f"{SERVE.format(512)}; run a", "run b")),
        (
            [f"{SERVE.format(512)}; run a", f"{SERVE.format(4096)}\nmake b\nrun b", None],
            (f"{SERVE.format(4096)}\nrun a", "make b\nrun b", None),
        ),
    ],
)
def test_a_server_of_all_is_started_once(lines, told):
    services = [service(1, 1, 1, **({"launch": line} if line else {})) for line in lines]
    assert judged(*services).launches == told


def test_one_model_and_no_card_are_refused():
    with pytest.raises(UsageError, match="name two or more"):
        weighbridge.together(["gpt2"], **SMALL)
    with pytest.raises(UsageError, match="name it with --gpu"):
        weighbridge.together(["gpt2", "gpt2"])


@pytest.mark.slow
def test_each_is_the_answer_to_its_question_alone():
    found = weighbridge.together(["qwen3:4b", "bge-m3"], **SMALL)
    assert [s.report.workload["engine"] for s in found.services] == ["ollama", "ollama"]
    alone = [weighbridge.infer("qwen3:4b", **SMALL)]
    alone.append(weighbridge.infer("bge-m3", engine="ollama", **SMALL))
    assert [s.verdict for s in found.services] == [r.verdict for r in alone]
    assert found.fits == "yes"
    assert found.holds.expected == sum(r.verdict.per_device.expected for r in alone)


@pytest.mark.slow
def test_servers_are_told_the_smallest_shares_that_serve():
    found = weighbridge.together(["qwen3-8b", "qwen3-4b"], gpu="l40s", engine="vllm")
    assert found.fits == "yes"
    for s, model in zip(found.services, ("qwen3-8b", "qwen3-4b"), strict=True):
        told = {"gpu": "l40s", "engine": "vllm", "gpu_memory_utilization": s.share}
        alone = weighbridge.infer(model, **told)
        assert (alone.verdict, alone.derived["launch"]) == (s.verdict, s.report.derived["launch"])
        assert f"--gpu-memory-utilization {s.share:g}" in s.report.derived["launch"]
        assert "max-num-seqs" not in s.report.derived["launch"]
        less = weighbridge.infer(model, **{**told, "gpu_memory_utilization": s.share - 0.01})
        assert less.verdict.fits != "yes" or less.peak != alone.peak
        assert s.holds.expected >= s.report.devices[0].taken
        assert s.share <= 0.5


@pytest.mark.slow
def test_a_fraction_of_what_is_free_is_not_in_our_rules():
    with pytest.raises(UnsupportedError, match="what is free when it starts"):
        weighbridge.together(["qwen3-4b", "qwen3-8b"], gpu="l40s", engine="sglang")


@pytest.mark.slow
def test_the_command_prints_it_in_each_form_and_exits_with_the_verdict():
    ask = ["infer", "qwen3-0.6b", "bge-m3", "--together", "--gpu", "3060"]
    assert run([*ask, "--check", "--quiet"]) == 0
    big = ["infer", "qwen3-8b", "qwen3-14b", "--together", "--gpu", "3060", "--engine", "ollama"]
    assert run([*big, "--check", "--quiet", "--quantization", "Q4_K_M"]) == 1
    found = weighbridge.together(["qwen3-0.6b", "bge-m3"], **SMALL)
    told = json.loads(render(found, "json"))
    assert told["schema"] == "weighbridge.together/1"
    assert [s["left_bytes"] for s in told["services"]] == list(found.left)
    assert render(found, "quiet") == "yes\n"
    assert "Yes, all fit at once" in render(found, "human")
    assert "可以同时放下" in render(found, "human", RenderOptions(lang="zh"))
    assert max(map(len, render(found, "human").split("Start")[0].splitlines())) <= 80
    with pytest.raises(UsageError, match="one card"):
        one(("3060", "4090"))

"""Ollama and llama.cpp divide a model between card and RAM by themselves: "no" is no answer to who
asks them."""

from functools import cache
from types import SimpleNamespace

import pytest

import weighbridge
from weighbridge.answers.estimate import infer
from weighbridge.answers.estimate.divided import RAM_SPEED, divided
from weighbridge.base.memory import Component, Instant, exactly
from weighbridge.base.records import replace
from weighbridge.base.units import GIB
from weighbridge.workload import Infer

ASKED = {"engine": "ollama", "gpu": "3060"}
ON_LLAMA_CPP = {"engine": "llama.cpp", "quantization": "Q4_K_M"}


def asked(model="qwen3:30b-a3b", **settings):
    """The answer without remedies."""
    return prepared(model).briefly(Infer(**{**ASKED, **settings}))


@cache
def prepared(model):
    return weighbridge.prepare(model, offline=True)


def peak(report):
    return report.devices[0].peak("driver").expected


def test_it_is_a_yes_with_the_layers_that_stay_on_the_card():
    report = asked()
    kept, every = report.derived["layers_on_card"]
    assert report.verdict.fits == "yes"
    assert 0 < kept < every == 49
    assert f"Ollama keeps {kept} of {every} layers on it by itself" in report.verdict.reason
    assert report.devices == asked(n_gpu_layers=kept).devices
    more = asked(n_gpu_layers=kept + 1).verdict.fits
    assert more != "yes"  # as many as surely fit


def test_no_more_is_moved_where_the_host_has_no_room_for_less(monkeypatch):
    """Of a machine whose card has the memory of all: a division more has as much in all. Where RAM
    has room for it, a card that is full is the reason to move more."""
    whole, told = infer._infer, []

    def noted(*args):
        told.append(whole(*args))
        return told[-1]

    monkeypatch.setattr(infer, "_infer", noted)
    shared = {**ON_LLAMA_CPP, "gpu": "strix-halo-128gb"}
    assert asked("qwen3-235b-a22b", **shared).verdict.fits != "yes"
    [(_, ways), (moved, _)] = told
    assert len(ways) > 1 and moved.verdict.host.fits != "yes"
    told.clear()
    assert asked("qwen3-30b-a3b", **ON_LLAMA_CPP, ram="64GiB").verdict.fits == "yes"
    assert all(one.verdict.host.fits == "yes" for one, _ in told)


def test_how_far_was_looked_is_told_of_a_division():
    report = prepared("qwen3:30b-a3b").infer(Infer(**ASKED))
    assert "layers_on_card" in report.derived
    assert report.derived["searched_to"]["context"] > 4096
    assert "largest_context" not in report.derived


def test_llama_cpp_moves_layers_and_leaves_a_gibibyte():
    dense = {**ON_LLAMA_CPP, "gpu": "4090", "quantization": "Q6_K"}
    report = asked("qwen3-32b", **dense)
    kept, every = report.derived["layers_on_card"]
    assert report.verdict.fits == "yes"
    assert report.verdict.usable_bytes - peak(report) >= GIB
    assert 0 < kept < every == 65
    assert report.devices == asked("qwen3-32b", **dense, n_gpu_layers=kept).devices


def test_llama_cpp_moves_experts_before_layers():
    report = asked("qwen3-30b-a3b", **ON_LLAMA_CPP)
    kept, every = report.derived["layers_on_card"]
    assert "keeps the experts of" in report.verdict.reason
    assert report.devices == asked("qwen3-30b-a3b", **ON_LLAMA_CPP, n_cpu_moe=every - kept).devices
    assert report.verdict.usable_bytes - peak(report) >= GIB


def test_builds_before_fit_move_nothing():
    assert asked("qwen3-30b-a3b", **ON_LLAMA_CPP, engine_version="7300").verdict.fits == "no"


def test_with_less_than_a_gibibyte_to_spare_the_line_says_all_layers():
    tight = {**ON_LLAMA_CPP, "gpu_memory": "6GiB", "gpu": "3060"}
    report = asked("qwen3-8b", **tight)
    assert report.verdict.fits == "yes" and report.verdict.margin_bytes < GIB
    assert " -ngl 37" in report.derived["launch"]
    assert "layers_on_card" not in report.derived
    assert " -ngl" not in asked("qwen3-8b", **tight | {"gpu_memory": "12GiB"}).derived["launch"]


@pytest.mark.slow
def test_old_releases_of_ollama_go_by_an_estimate_of_their_own():
    """Before 0.12.11 a closed formula said how many: 35 of 41 where 36 have room."""
    kept = [
        asked("command-r", gpu="4090", engine_version=v, context=4096).derived["layers_on_card"]
        for v in ("0.9.2", "0.33")
    ]
    assert kept == [[35, 41], [36, 41]]


def test_the_line_says_no_number_of_layers():
    report = asked()
    assert report.derived["launch"].endswith("ollama run qwen3:30b-a3b")
    assert report.workload["n_gpu_layers"] is None


def test_it_sent_back_is_the_same_answer():
    report = asked()
    again = asked(
        **{
            name: value
            for name, value in report.workload.items()
            if name in ("engine", "gpu", "context")
        },
    )
    assert again.verdict == report.verdict


@pytest.mark.parametrize("said", [{"n_gpu_layers": 40}, {"ram": "4GiB"}])
def test_a_number_that_is_named_and_little_ram_are_judged_as_they_stand(said):
    report = asked(**said)
    assert report.verdict.fits == "no"
    assert "layers_on_card" not in report.derived


def test_what_fits_whole_stays_whole():
    assert "layers_on_card" not in asked("qwen3:8b").derived


def test_a_yes_takes_no_more_ram_than_any_machine_has():
    """40 GB of weights on a card of 24 leave some 20 GiB to RAM, which not every machine has."""
    open_ = asked("llama3.3:70b", gpu="4090")
    assert open_.verdict.fits == "unknown"
    assert "--ram SIZE says whether that is there" in open_.verdict.reason
    assert asked("llama3.3:70b", gpu="4090", ram="64GB").verdict.fits == "yes"
    assert asked("llama3.3:70b", gpu="4090", ram="16GB").verdict.fits == "no"


@pytest.mark.slow
def test_a_chip_that_shares_its_memory_moves_nothing():
    mac = {**ON_LLAMA_CPP, "gpu": "m3 max 64gb", "context": "1M"}
    assert asked("qwen3-30b-a3b", **mac).verdict.fits == "no"


@pytest.mark.slow
def test_what_is_told_besides_makes_it_whole():
    found = weighbridge.infer("qwen3:30b-a3b", **ASKED, offline=True).remedies
    assert found
    for remedy in found:
        again = asked(**remedy.change)
        assert again.verdict.fits == "yes"
        assert "layers_on_card" not in again.derived
        assert peak(again) == remedy.peak_bytes


def weights_on(**sizes):
    """A report of a GPU and a host that hold such weights, and 1 GB of cache on the GPU."""

    def component(name, nbytes):
        return Component(name=name, bytes=exactly(int(nbytes)), basis="computed", formula="by hand")

    def device(kind, nbytes):
        parts = (component("weights", nbytes), component("context", 10**9))
        cache = (component("kv_cache", 10**9),) if kind == "gpu" else ()
        return SimpleNamespace(kind=kind, phases=[Instant("decode", (*parts, *cache))])

    real = asked(gpu="h100", n_gpu_layers=30)
    return replace(
        real,
        devices=tuple(device(kind, nbytes) for kind, nbytes in sizes.items()),
        derived={"largest_context": 5},
    )


def dense(report):
    return replace(report, model=report.model._replace(active_parameters=report.model.parameters))


CARD = SimpleNamespace(bandwidth=(936.0, "its page"))


def test_how_much_slower_goes_by_what_is_read_for_a_token():
    """Weights of 4 GB and 1 GB of cache, 1 GB in RAM: a fifth; 1/5 x 936 / 102.4 + 4/5 = 2.6."""
    report = dense(weights_on(gpu=3 * 10**9, host=10**9))
    answer = divided(
        asked(n_gpu_layers=49), report, {"n_gpu_layers": 30}, "Ollama", CARD, known=True
    )
    assert answer.derived["share_in_ram"] == 0.2
    assert answer.derived["times_slower"] == [2.6, 5.7]
    assert "2.6 to 5.7 times slower" in answer.verdict.reason
    assert "largest_context" not in answer.derived
    assert RAM_SPEED == (38.4, 102.4)


def test_a_token_reads_the_experts_that_it_is_routed_to():
    """A tenth of 10 GB is active, 0.25 GB of it dense. A third of the experts, 3.25 GB, is in RAM,
    3 GB of it idle: 0.25 GB of 1 GB and 1 GB of cache. All kinds of weights: 3.25 GB of 10."""
    report = weights_on(gpu=6.75 * 10**9, host=3.25 * 10**9)
    report = replace(report, model=report.model._replace(parameters=1000, active_parameters=100))
    none = SimpleNamespace(bandwidth=None)
    answer = divided(
        asked(n_gpu_layers=49), report, {"n_cpu_moe": 16}, "llama.cpp", none, known=True
    )
    assert answer.derived["layers_on_card"] == [32, 48]
    assert answer.derived["share_in_ram"] == 0.125
    assert "keeps the experts of 32 of 48" in answer.verdict.reason
    assert "much slower" in answer.verdict.reason
    whole = divided(
        asked(n_gpu_layers=49), report, {"n_gpu_layers": 30}, "Ollama", none, known=True
    )
    assert whole.derived["share_in_ram"] == pytest.approx(0.1625, abs=0.001)

"""Ollama divides a model between card and RAM by itself: "no" is no answer to who asks it."""

import pytest

import weighbridge

ASKED = {"engine": "ollama", "gpu": "3060", "offline": True}


def asked(model="qwen3:30b-a3b", **settings):
    return weighbridge.infer(model, **{**ASKED, **settings})


def test_it_is_a_yes_with_the_layers_that_stay_on_the_card():
    report = asked()
    kept, every = report.derived["layers_on_card"]
    assert report.verdict.fits == "yes"
    assert 0 < kept < every == 49
    assert f"Ollama keeps {kept} of {every} layers on it by itself" in report.verdict.reason
    assert report.devices == asked(n_gpu_layers=kept).devices
    more = asked(n_gpu_layers=kept + 1).verdict.fits
    assert more != "yes"  # as many as surely fit


def test_the_line_says_no_number_of_layers():
    report = asked()
    assert report.derived["launch"].endswith("ollama run qwen3:30b-a3b")
    assert report.workload["n_gpu_layers"] is None


def test_it_sent_back_is_the_same_answer():
    report = asked()
    again = weighbridge.infer(
        "qwen3:30b-a3b",
        offline=True,
        **{
            name: value
            for name, value in report.workload.items()
            if name in ("engine", "gpu", "context")
        },
    )
    assert again.verdict == report.verdict


@pytest.mark.parametrize("said", [{"n_gpu_layers": 40}, {"ram": "4GiB"}, {"engine": "llama.cpp"}])
def test_a_number_that_is_named_little_ram_and_other_engines_are_judged_as_they_stand(said):
    report = asked(**said)
    assert report.verdict.fits == "no"
    assert "layers_on_card" not in report.derived


def test_what_fits_whole_stays_whole():
    assert "layers_on_card" not in asked("qwen3:8b").derived

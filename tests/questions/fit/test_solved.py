"""What is solved for is a plan that was asked with it: one answer on a screen, the same as without a
search, and the same as that of the question itself."""

import pytest

import weighbridge

ASKED = [
    ("qwen3-32b", "m3-max-36gb", "context", {}),
    ("qwen3-32b", "4090", "users", {"context": 4096}),
    ("llama-3.1-8b", "4090", "context", {"engine": "vllm"}),
    ("llama-3.1-8b", "3060", "users", {"context": 4096}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "card", "most", "settings"), ASKED)
def test_a_solved_number_is_that_of_its_plan(name, card, most, settings):
    found = weighbridge.fit(name, gpu=card, max=most, offline=True, **settings)
    setting = {"context": "context", "users": "batch_size"}[most]
    assert found.solved.value
    assert found.report.workload[setting] == found.solved.value
    assert found.fits == found.verdict.fits == "yes"
    assert "layers_on_card" not in found.report.derived  # whole: half in RAM is another question
    assert found.solved.peak_bytes == found.report.peak.expected
    told = found.report.workload | {"remedies": False}
    named = {n: told[n] for n in ("engine", "quantization", "context", "batch_size", "gpu")}
    asked = weighbridge.infer(name, offline=True, **named)
    assert (asked.verdict.fits, asked.peak) == ("yes", found.peak)
    more = weighbridge.infer(name, offline=True, **{**named, setting: found.solved.value + 1})
    assert more.verdict.fits != "yes" or "layers_on_card" in more.derived


@pytest.mark.slow
def test_a_context_has_one_answer():
    """A device that shares its memory: with a search, without one, and as the longest."""
    name, card = "qwen3-32b", "m3-max-36gb"
    found = weighbridge.fit(name, gpu=card, max="context", offline=True)
    plain = weighbridge.fit(name, gpu=card, offline=True)
    assert found.solved.value == found.plan.rung.longest == plain.plan.rung.longest

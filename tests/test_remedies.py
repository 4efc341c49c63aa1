"""What would make it fit: every remedy holds what it promises, and touches nothing that is pinned."""

import pytest

import weighbridge

LLAMA = weighbridge.prepare("llama-3.1-8b")
MIXTRAL = weighbridge.prepare("mixtral-8x7b")
LARGE = weighbridge.prepare("llama-3.1-70b")


def changes(report):
    return [dict(r.change) for r in report.remedies]


def holds(model, task, settings, report):
    """Every remedy of a report, asked like any other question."""
    for remedy in report.remedies:
        asked = {**settings, **remedy.change}
        again = getattr(model, task)(remedies=False, **asked)
        assert again.peak.expected == remedy.peak_bytes, remedy.change
        assert again.verdict.fits == remedy.fits, remedy.change
        assert again.verdict.margin_bytes == remedy.margin_bytes, remedy.change


def test_a_card_without_room_is_offered_smaller_weights_and_llama_cpp():
    settings = {"gpu": "3060"}
    report = LLAMA.infer(**settings)
    kinds = {r.kind for r in report.remedies}
    assert {"quantization", "engine"} <= kinds
    assert {"quantization": "nf4"} in changes(report)
    holds(LLAMA, "infer", settings, report)


def test_experts_stay_on_the_host_where_the_card_is_small():
    settings = {"gpu": "3060", "engine": "llama.cpp"}
    report = MIXTRAL.infer(**settings)
    assert any("n_cpu_moe" in change for change in changes(report))
    holds(MIXTRAL, "infer", settings, report)


@pytest.mark.parametrize("gpu", ["a100-80gb:2", "h100:2"])
def test_two_cards_are_offered_nf4_and_tensor_parallel(gpu):
    settings = {"gpu": gpu, "engine": "vllm"}
    report = LARGE.infer(**settings)
    assert {"tensor_parallel_size": 2} in changes(report)
    assert {"quantization": "bitsandbytes"} in changes(report)
    holds(LARGE, "infer", settings, report)


def test_nothing_is_said_where_it_fits_or_where_nobody_asks():
    assert LLAMA.infer(gpu="h100").remedies == ()
    assert LLAMA.infer().remedies == ()
    assert LLAMA.infer(gpu="3060", remedies=False).remedies == ()


def test_what_was_given_by_name_stays():
    report = LLAMA.infer(gpu="3060", engine="transformers", context=4096, dtype="bfloat16")
    assert not any({"engine", "context", "dtype"} & change.keys() for change in changes(report))
    free = LLAMA.infer(gpu="3060", engine="vllm", quantization="bitsandbytes", context=60000)
    assert not any({"context", "quantization"} & change.keys() for change in changes(free))

"""An optional package is a part of the release: asked, told, and in the interval."""

import pytest

import weighbridge
from tests.ask import usual
from weighbridge.base.units import GIB
from weighbridge.models.arch.mixers import PACKAGES, Attention, GatedDelta, Mamba2, packages

asked = usual("infer", "gpt-oss-20b", engine_version="5.17", gpu="h100", max_new_tokens=8)


def allocated(report):
    return report.fullest.peak("allocated")


@pytest.mark.parametrize(("prompt", "measured"), [(8192, 63.94), (4096, 45.40)])
def test_mxfp4_is_unpacked_where_kernels_is_missing(prompt, measured):
    """GiB that an H100 allocated after `pip install transformers` (our own, 5.17, torch 2.11)."""
    peak = allocated(asked(prompt_len=prompt))
    assert abs(peak.expected / GIB / measured - 1) < 0.001
    assert asked(prompt_len=prompt).derived["without_packages"] == ["kernels"]


def test_what_nobody_said_has_both_in_its_interval():
    """The least is that of weights that stay packed, 4.25 bits of most; the rest is as it was."""
    open_, there, missing = (asked(kernels=k) for k in (None, "installed", "missing"))
    assert allocated(open_).expected == allocated(missing).expected
    assert allocated(open_).high == allocated(missing).high
    assert allocated(open_).low < allocated(there).expected < allocated(missing).low
    assert "without_packages" not in there.derived and "without_packages" not in missing.derived


@pytest.mark.parametrize("name", ["bf16", "bfloat16", "none"])
def test_16_bits_of_a_packed_checkpoint_can_be_asked(name):
    """Unpacked as Mxfp4Config(dequantize=True) and FineGrainedFP8Config(dequantize=True) load it."""
    plain = asked(quantization=name)
    assert plain.devices == asked(dequantize=True).devices == asked(kernels="missing").devices
    fp8 = asked("qwen3-8b-fp8", dequantize=True)
    assert fp8.workload["quantization"] is None
    assert allocated(fp8).expected > allocated(asked("qwen3-8b-fp8")).expected + 6 * GIB
    of_its_own = asked("qwen3-8b", quantization=name)
    assert of_its_own.devices == asked("qwen3-8b").devices


def test_layers_with_kernels_may_take_less():
    recurrent = usual("infer", "qwen3.5-9b", prompt_len=4096, gpu="h100")
    open_, missing = recurrent(), recurrent(kernels="missing")
    assert open_.derived["without_packages"] == ["fla", "causal-conv1d"]
    assert allocated(open_).low < allocated(missing).low
    assert allocated(open_)[1:] == allocated(missing)[1:]
    assert "without_packages" not in weighbridge.infer("qwen3-8b").derived


def test_packages_are_named_once():
    assert packages((GatedDelta, Attention, Mamba2)) == ("fla", "causal-conv1d", "mamba-ssm")
    assert not PACKAGES[Attention]

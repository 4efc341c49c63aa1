"""Runs of Megatron in fp16, whose gradients are in 16 bits, and what its own attention keeps."""

import pytest

import weighbridge
from tests.training.megatron.runs import LLAMA, PLAIN, held, kept
from weighbridge.base.units import MIB
from weighbridge.training.megatron.states import StageNumbers
from weighbridge_lab.evidence.predict import outcomes
from weighbridge_lab.evidence.records import Prediction, chosen

FP16 = [r for r in chosen(source="megatron") if r.setting.get("precision") == "fp16-mixed"]
LESS = 2 * MIB  # remainders that are too small to split off a large block
SCORES = 8 * 8 * 512 * 512  # numbers of a sequence: layers, heads, tokens, tokens
LOCAL = {"engine": False, "attention": "local"}


def test_peaks_of_megatrons_own_tests():
    """The rule was read in the source, and met the first twelve at once."""
    errors = [abs(100 * p.error) for p in outcomes(FP16) if isinstance(p, Prediction)]
    assert errors
    assert max(errors) <= 0.6


def test_gradients_in_float32_are_there_between_steps():
    """2 bytes of a weight and 2 of its gradient, 12 of states, 4 of the gradient's copy."""
    numbers = StageNumbers(LLAMA, PLAIN, 0).all
    assert held(LLAMA, main_gradient=2) - held(LLAMA) == pytest.approx(2 * numbers, abs=LESS)
    assert held(LLAMA, main_gradient=2, precise=True) < held(LLAMA)


def test_a_run_in_fp16_has_gradients_in_fp16():
    def gradients(*words, precision="fp16-mixed"):
        report = weighbridge.train(
            "llama-3.2-1b",
            framework="megatron",
            precision=precision,
            seq_len=512,
            megatron_args=("no_gradient_accumulation_fusion", *words),
        )
        forward = next(p for p in report.devices[0].phases if p.name == "load")
        return {c.name: c.bytes.expected for c in forward.components}["gradients"]

    whole = gradients(precision="bf16-mixed")
    assert gradients() == whole // 2
    assert gradients("accumulate_allreduce_grads_in_fp32") == whole
    assert gradients("grad_reduce_in_bf16", precision="bf16-mixed") == whole // 2


def test_a_softmax_by_torch_is_kept_in_float32_where_it_is_made_so():
    fused = kept(LLAMA, **LOCAL)
    assert kept(LLAMA, **LOCAL, fused_softmax=False) == fused
    wide = kept(LLAMA, **LOCAL, fused_softmax=False, wide_softmax=True)
    assert wide == fused + 4 * SCORES  # four bytes for two, and a copy in 16 bits
    dropped = kept(LLAMA, **LOCAL, attention_dropout=0.1)
    wide = kept(LLAMA, **LOCAL, fused_softmax=False, wide_softmax=True, attention_dropout=0.1)
    assert wide == dropped + 2 * SCORES


def test_the_kernel_of_the_softmax_takes_4096_tokens():
    for tokens, more in ((4096, 0), (4100, 2)):
        run = {**LOCAL, "length": tokens, "attention_dropout": 0.1}
        found = kept(LLAMA, **run, wide_softmax=True) - kept(LLAMA, **run)
        assert found == more * 8 * 8 * tokens * tokens


def test_transformer_engines_attention_has_a_softmax_of_its_own():
    alike = {"attention": "unfused"}
    assert kept(LLAMA, **alike) == kept(LLAMA, **alike, fused_softmax=False, wide_softmax=True)

"""Formulas that are arithmetic: what they say, worked out, is the number that they explain."""

import re

import pytest

import weighbridge
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.memory.components import spelled
from weighbridge.models.arch.mixers import Attention, Latent


def worked_out(formula):
    """The product that a formula spells: `a x (b + c) x 2 B x 3 tokens + ...`."""
    arithmetic = re.sub(
        r"[A-Za-z]+(?: of the window)?|,(?=\d{3})", "", formula.replace(" x ", " * ")
    )
    assert re.fullmatch(r"[\d\s*+()]+", arithmetic), formula
    return eval(arithmetic)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("llama-3.1-8b", {}),
        ("llama-3.1-8b", {"batch_size": 8, "context": 1000}),
        ("llama-3.1-8b", {"engine": "vllm", "context": 32768}),
        ("deepseek-v3", {"engine": "vllm", "tensor_parallel_size": 8}),
        ("gemma-3-4b", {"engine": "vllm"}),
    ],
)
def test_a_cache_is_the_product_that_is_written(model, settings):
    report = weighbridge.infer(model, **settings)
    for phase in report.devices[0].phases[1:]:
        found = [c for c in phase.components if c.name == "kv_cache" and not c.detail]
        assert found
        for c in found:
            assert worked_out(c.formula) == c.bytes.expected


def test_weights_are_parameters_times_bytes():
    (c,) = [
        c
        for c in weighbridge.load("llama-3.1-8b").devices[0].phases[0].components
        if c.name == "weights"
    ]
    assert c.formula == "8,030,261,248 parameters in bfloat16 x 2 B"
    assert c.bytes.expected == 8_030_261_248 * 2


def test_what_is_no_product_is_not_spelled():
    kinds = {Attention(heads=8, kv_heads=8, key_dim=64, value_dim=64): 2}
    exact = 2 * 2 * 8 * 64 * 2 * 10
    told = spelled.cache(kinds, exact, batch=1, tokens=(10,), dtype=BFLOAT16)
    assert told == "2 layers x 2 x 8 heads x 64 x 2 B x 10 tokens"
    assert spelled.cache(kinds, exact + 1, batch=1, tokens=(10,), dtype=BFLOAT16) == ""
    assert spelled.cache({}, 0, batch=1, tokens=(10,), dtype=BFLOAT16) == ""


def test_windows_latents_and_requests_are_named():
    kinds = {
        Attention(heads=8, kv_heads=2, key_dim=64, value_dim=32, window=4): 1,
        Latent(heads=8, rank=512, rotary=64, nope=128, value_dim=128): 1,
    }
    nbytes = 3 * (2 * 96 * 2 * 4 + 576 * 2 * 10)
    told = spelled.cache(kinds, nbytes, batch=3, tokens=(11, 10), dtype=BFLOAT16)
    assert told == (
        "1 layer x 2 heads x (64 + 32) x 2 B x 4 tokens of the window x 3 requests + "
        "1 layer x (512 + 64) x 2 B x 10 tokens x 3 requests"
    )
    assert worked_out(told) == nbytes

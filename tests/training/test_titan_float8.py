"""torchtitan's products in float8: compiled casts take their results alone; published runs."""

import pytest

import weighbridge
from weighbridge.components.counted import CountedHeap
from weighbridge.dtypes import BFLOAT16
from weighbridge.forward.checkpoint import checkpoint, every_second_product
from weighbridge.forward.machine import Machine
from weighbridge.forward.ops.float8 import Casts, LinearFloat8
from weighbridge.forward.ops.pointwise import scale

ROWS, WIDTH = 64, 32


def forward(*, fused, chooses=None):
    """(what is left, the most on the way) of a product, but for the output."""
    m = Machine(CountedHeap())
    linear = LinearFloat8(m.param("w", (WIDTH, WIDTH), BFLOAT16), None, BFLOAT16, Casts(fused=fused))
    x = scale(m, m.param("x", (ROWS, WIDTH), BFLOAT16))
    before = m.heap.live("activations")
    run = lambda x: scale(m, linear(m, x))  # noqa: E731
    out = run(x) if chooses is None else checkpoint(m, run, x, chooses=chooses)
    return m.heap.live("activations") - before - out.nbytes


def test_a_product_keeps_what_it_was_given_and_selective_checkpoints_its_result():
    assert forward(fused=True) == forward(fused=False) == 0  # which others have
    assert forward(fused=True, chooses=every_second_product()) == 2 * ROWS * WIDTH


def trained(precision):
    """pytorch/torchtitan#808: 8B on eight H100 of 96 GB, compiled."""
    found = weighbridge.train(
        "llama-3.1-8b",
        framework="torchtitan",
        framework_version="2025-01-27",
        torch_version="2.7",
        precision=precision,
        checkpointing="selective",
        compile=True,
        seq_len=8192,
        batch_size=1,
        gpu="nvidia-h100-nvl-94gb:8",
    )
    return found.peak.expected / 2**30


@pytest.mark.slow
def test_published_runs_take_as_much_as_without():
    """47.77 GiB by rows and 47.65 in 16 bits."""
    wide, small = trained("bf16-mixed"), trained("fp8-mixed")
    assert small - wide == pytest.approx(47.77 - 47.65, abs=0.25)
    assert small == pytest.approx(47.77, rel=0.08)

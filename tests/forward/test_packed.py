"""Linears in GPTQ, AWQ, HQQ and EETQ under LoRA: what they keep, by hand."""

import pytest

from weighbridge.base.dtypes import FLOAT16
from weighbridge.base.errors import UsageError
from weighbridge.faces import api
from weighbridge.memory.components.activations import Heap
from weighbridge.training.forward.adapters import LoraLinear
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.packed import AWQ, EETQ, GPTQ, GPTQ_FUSED, HQQ, Dequantized
from weighbridge.training.forward.ops.pointwise import scale
from weighbridge.training.forward.tensors import LeafTensor

INSIDE, OUTSIDE, BATCH, LENGTH = 1024, 2048, 4, 512
ROWS = BATCH * LENGTH
MATRIX = 2 * INSIDE * OUTSIDE
LAYERS, EACH = 16, 2 * 2048 * 2048 + 2 * 512 * 2048 + 3 * 8192 * 2048  # of Llama-3.2-1B


def report(form, **settings):
    given = {"method": "lora", "framework": "trainer", "quantization": form, "seq_len": 256}
    return api.train("llama-3.2-1b", offline=True, **{**given, **settings})


def dequantized(found, phase):
    phases = {p.name: p for p in found.devices[0].phases}
    return next((c.bytes for c in phases[phase].components if "dequantized" in c.detail), None)


def run(kernel, batch=BATCH):
    """(bytes beside input and output behind the forward, the most that forward takes, that of
    backward, in which the gradient of the input is scaled once more)"""
    m = Machine(Heap())
    weight = LeafTensor("w", (OUTSIDE, INSIDE), FLOAT16, None, trainable=False)
    x = scale(m, m.param("x", (batch, LENGTH, INSIDE), FLOAT16))
    before = m.heap.phase() and sum(m.heap._live.values())
    out = Dequantized(weight, None, kernel)(m, x)
    del x
    kept = sum(m.heap._live.values()) - before - out.nbytes
    forward = m.heap.phase().allocated - before
    alive = sum(m.heap._live.values())
    backward(m, out)
    return kept, forward, m.heap.phase().allocated - alive


INPUT, OUTPUT = 2 * ROWS * INSIDE, 2 * ROWS * OUTSIDE


@pytest.mark.parametrize(
    ("kernel", "kept", "forward", "back"),
    [
        (GPTQ, MATRIX - INPUT, max(3 * MATRIX, MATRIX + OUTPUT), OUTPUT + INPUT),
        (GPTQ_FUSED, -INPUT, OUTPUT, OUTPUT + 2 * INPUT),
        (AWQ, 0, MATRIX + OUTPUT, OUTPUT + MATRIX + BATCH * MATRIX),
        (HQQ, 0, max(3 * MATRIX, MATRIX + OUTPUT), OUTPUT + 3 * MATRIX),
        (EETQ, 0, OUTPUT, OUTPUT + max(6 * INSIDE * INSIDE, MATRIX + INPUT)),
    ],
    ids=["gptq", "fused", "awq", "hqq", "eetq"],
)
def test_what_a_kernel_keeps_and_takes(kernel, kept, forward, back):
    assert run(kernel) == (kept, forward, back)


def test_awq_multiplies_few_rows_without_the_matrix():
    assert run(AWQ, batch=1)[1] == OUTPUT // BATCH


def test_gptq_costs_its_weights_in_16_bits_between_forward_and_backward():
    """But for queries, keys and values of the first layer, whose input asks for no gradient."""
    first = 2048 * 2048 + 2 * 512 * 2048
    kept = dequantized(report("gptq-4bit-g128"), "loss")
    assert kept.expected == kept.high == 2 * (LAYERS * EACH - first)
    assert kept.low == 0


@pytest.mark.slow
def test_the_kernel_settles_it():
    known, unknown = (
        dequantized(report("gptq-4bit-g128", gptq_kernel=name), "loss") for name in ("torch", None)
    )
    assert known.low > known.expected / 2 > unknown.low == 0
    assert known.expected == unknown.expected
    assert dequantized(report("gptq-4bit-g128", gptq_kernel="triton"), "loss") is None


@pytest.mark.slow
def test_checkpoints_keep_one_layers():
    found = report("gptq-4bit-g128", checkpointing="full")
    assert dequantized(found, "loss") is None
    assert dequantized(found, "backward").expected <= 2 * EACH


@pytest.mark.slow
def test_a_kernel_that_was_not_read_is_in_the_high_estimate():
    found = dequantized(report("quanto-int8"), "loss")
    assert (found.low, found.expected, found.high) == (0, 0, 2 * LAYERS * EACH)
    assert dequantized(report("awq-4bit-g128"), "loss") is None


def test_a_kernel_of_gptqs_is_for_gptq():
    with pytest.raises(UsageError, match="not in GPTQ"):
        report("nf4", gptq_kernel="torch")


@pytest.mark.parametrize(
    ("kernel", "packed"), [(AWQ, True), (HQQ, True), (GPTQ, False), (GPTQ_FUSED, False)]
)
def test_adapters_beside_a_kernel_that_keeps_its_input_are_of_a_packed_linear(kernel, packed):
    """Kernels that make the weights again in backward; PEFT's own layer stands behind them."""
    assert (kernel.keeps == "input") is packed
    base = Dequantized(None, None, kernel)
    assert LoraLinear(base, None, None, None, 0.0).packed is packed
    assert LoraLinear(lambda m, x: x, None, None, None, 0.0).packed is False

"""Buffers that llama.cpp and ik_llama.cpp printed, in MiB, to the second digit.

In public threads: the flags of each run are those of RUNS; the threads are of
github.com/ikawrakow/ik_llama.cpp, by the number of the issue, the pull request or the discussion.

By libllama on a processor: llama-cpp-python's vendored sources, built here and given files of the
models' shapes without data, a batch of 2,048, steps of 512, four sequences of one cache.
"""

import pytest

from tests.cases import each
from tests.engines.answers import answer
from tests.engines.llama_cpp_records import RUNS, held
from weighbridge.base.units import MIB

DIGITS = 0.0051  # of what is printed with two decimals
# Run, thread, and what it printed: caches, the buffer of outputs, compute buffers of CUDA0 (or of
# the processor) and of the host's memory that a card reads; "-": not printed
PRINTED = """
ik-005..008  258   2196.00  0.49  3393.00   176.01
ik-012..015  258   1166.62  0.49  3588.01   312.02
ik-029..031  258   2196.00  -     4472.01   312.02
ik-035..038  286   2440.00  0.49  -         283.01
ik-039..040  286     72.91  -      503.00   162.01
ik-078..081  397   2048.00  1.16   633.50    52.01
ik-094..096  245    137.25  1.97  -         -
ik-097..099  271   9760.00  1.97  -         670.01
ik-101..102  271    137.25  -     -         432.01
ik-104..106  285     72.91  1.97  -         450.01
ik-110..112  296   1166.62  0.49  -        2662.01
ik-128..130  388    300.00  0.49  -         255.50
ik-136..138  389  28060.00  3.95  -         266.50
ik-152..154  503   2244.00  0.58  -         -
ik-175..178  539  10240.00  0.58  -        5252.01
ik-202..203  259   1166.62  -     8470.00    78.01
ik-208..210  287    601.54  0.49  -        1383.76
ik-212..214  287   1098.00  0.49  -        3258.01
ik-230..233  344    162.03  0.58  -         308.00
ik-238..240  344   1952.00  -      353.00    76.01
ik-241..243  344   1952.00  -      308.00    76.01
ik-262..265  394   1098.00  0.99  -         -
ik-266..269  394   2074.00  0.49  -         -
lc-019..021  575    448.00  1.16  -         300.75
"""
LINES = [line.split() for line in PRINTED.strip().splitlines()]


@pytest.mark.parametrize(
    ("ids", "thread", "told"), each(2, [(a, b, rest) for a, b, *rest in LINES])
)
def test_what_a_thread_shows(ids, thread, told):
    (run,) = (r for r in RUNS if r.ids == ids)
    h = held(run)
    found = (sum(map(h.kv, range(h.launch.gpus + 1))), h.output)
    if told[2:] != ["-", "-"]:
        found = (*found, h.compute[0], h.compute[-1])
    for nbytes, printed in zip(found, told, strict=False):
        if printed != "-":
            assert nbytes / MIB == pytest.approx(float(printed), abs=DIGITS), thread


# Model, build, MiB of the processor's compute buffer by cells. 0.3.36 vendors 0c1e57098, 0.3.17 is
# of spring 2026, between the changes of b8480 and b8550
BY_CELLS = [
    (
        "llama-3.1-8b",
        "8480",
        {4096: 266.50, 12288: 274.50, 20480: 330.51, 23808: 337.01, 24576: 266.50, 32768: 266.50},
    ),
    (
        "phi-4",
        "11200",
        {4096: 240.01, 8192: 244.01, 9472: 245.26, 10496: 216.00, 16384: 216.00},
    ),
    ("qwen3-0.6b", "11200", {8192: 300.75, 16640: 320.75, 20480: 320.75, 28928: 300.75}),
]


@pytest.mark.parametrize(("model", "build", "printed"), each(1, BY_CELLS))
def test_a_longer_context_in_a_smaller_buffer(model, build, printed):
    """A feed-forward's two halves find room in the gap that a longer mask leaves, the last hidden
    state comes to lie before them instead of behind, and the logits behind it begin earlier."""
    for cells, mib in printed.items():
        found = answer(
            model, engine="llama.cpp", engine_version=build, quantization="Q4_K_M", context=cells,
            n_gpu_layers=0, parallel=4, kv_unified=True, flash_attn="on", program="cli",
        )  # fmt: skip
        (host,) = found.devices
        (nbytes,) = (c.bytes for c in host.phases[1].components if c.name == "activations")
        assert nbytes.expected / MIB == pytest.approx(mib, abs=DIGITS), cells
    assert list(printed.values()) != sorted(printed.values())

"""What a process holds of a GPU before it allocates anything: readings, and what is reckoned."""

import pytest

from tests.cases import all_of
from weighbridge import infer, load
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import MIB
from weighbridge.machines.accelerators.chips import BRIDGED, CAPABILITIES, LINKED, SWITCHED
from weighbridge.machines.accelerators.names import find, sized
from weighbridge.machines.accelerators.parts import chip_of, parts
from weighbridge.memory.components.device import (
    CONTEXT,
    Settled,
    _reckoned,
    cached,
    context,
    in_one_buffer,
    libraries,
    loaded,
    replay,
    rough,
    settled,
    words_alone,
)
from weighbridge.memory.components.weights import FormatChoice, PlacedTensor
from weighbridge.models.quantization.schemes import scheme

READ = [("a100-40gb", 501), ("h100", 522), ("l4", 226), ("rtx 3090", 256)]


@pytest.mark.parametrize(("name", "mib"), READ)
def test_readings(name, mib):
    """AgileRL (A100, L4), InvokeAI (RTX 3090), vLLM 0.19's logs (H100): a fifth more or less."""
    found = context(find(name).part)
    assert found.bytes.expected == mib * MIB
    assert found.bytes.low == pytest.approx(0.8 * mib * MIB, abs=1)
    assert found.bytes.high == pytest.approx(1.2 * mib * MIB, abs=1)
    assert found.basis == "measured"
    assert find(name).part.context[1] in found.source


@pytest.mark.parametrize(("name", "mib"), READ)
def test_what_is_reckoned_agrees_with_every_reading(name, mib):
    assert _reckoned(find(name).part) == pytest.approx(mib * MIB, rel=0.03)


@all_of(
    ("name", "processors", "threads", "base"),
    [
        ("rtx 4090", 128, 1536, 136),
        ("h200", 132, 2048, 272),
        ("T4", 40, 1024, 136),
        ("rtx 4060 ti 16gb", 34, 1536, 136),
        ("h100 pcie", 114, 2048, 272),
    ],
)
def test_reckoned_by_hand(name, processors, threads, base):
    """A stack of 1 KiB for each thread that the multiprocessors keep; a quarter more or less."""
    found = context(find(name).part)
    mib = processors * threads // 1024 + base
    assert found.bytes == Bytes(mib * MIB * 3 // 4, mib * MIB, mib * MIB * 5 // 4)
    assert found.basis == "assumed"


@pytest.mark.parametrize("name", [None, "mi300x", "a100-80gb/1g.20gb", "24GiB"])
def test_unknown(name):
    """Other makers, slices of a part, a size alone: the whole range of readings."""
    part = sized(name) if name == "24GiB" else find(name).part if name else None
    assert context(part).bytes == CONTEXT


def test_every_part_has_an_interval():
    for part in parts().values():
        low, expected, high = context(part).bytes
        assert 100 * MIB < low < expected < high < 800 * MIB, part.id


UNREAD = {"nvidia-l2"}  # of whose multiprocessors no source tells


def test_every_nvidia_part_has_its_chip():
    for part in (p for p in parts().values() if p.vendor == "NVIDIA"):
        assert part.capability in CAPABILITIES, part.id
        assert (part.chip is None) == (part.id in UNREAD), part.id
        if part.chip:
            assert part.chip.capability == part.capability
            assert 1 <= part.chip.multiprocessors <= 192
            assert part.chip.cache is None or 2 <= part.chip.cache <= 128


@all_of(
    ("name", "multiprocessors"),
    [
        ("rtx 4060", 24),
        ("a30", 56),
        ("a10g", 80),
        ("a10", 72),
        ("h100 pcie", 114),
        ("h100", 132),
        ("gb200", 152),
        ("rtx 5060 laptop", 26),
        ("p40", 30),
    ],
)
def test_multiprocessors(name, multiprocessors):
    """Product pages; torch's multi_processor_count for A10G and GB200."""
    part = find(name).part
    assert part.chip.multiprocessors == chip_of(part).multiprocessors == multiprocessors


def test_what_is_not_known_is_an_a100():
    assert chip_of(None).multiprocessors == 108
    assert chip_of(find("mi300x").part).capability == (8, 0)
    sliced = chip_of(find("h100/1g.10gb").part)
    assert (sliced.capability, sliced.multiprocessors) == ((9, 0), 108)


def test_links_by_hand():
    assert {(9, 0), (10, 0), (10, 3)} == SWITCHED
    assert {(6, 0), (7, 0), (8, 0)} == BRIDGED
    assert LINKED == SWITCHED | BRIDGED


def contexts(report):
    return {
        c.bytes
        for d in report.devices
        for p in d.phases
        for c in p.components
        if c.name == "context" and not c.detail
    }


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang"])
def test_engines_and_load_agree(engine):
    of_part = context(find("l4").part).bytes
    assert contexts(infer("qwen3-0.6b", engine=engine, gpu="l4")) == {of_part}
    assert contexts(load("qwen3-0.6b", gpu="l4")) == {of_part}
    assert contexts(infer("qwen3-0.6b", engine=engine)) == contexts(load("qwen3-0.6b")) == {CONTEXT}


# What is placed


def blocks(*sizes, copies=1):
    return [PlacedTensor(f"layers.{n}", size, "weights", copies) for n, size in enumerate(sizes)]


def as_listed(pairs):
    return [tensor for _, tensor in pairs]


def test_weights_and_buffers_are_apart_and_rounded_up():
    """Blocks of 512 bytes: 1,000 and 100 bytes take 1,024 and 512 of one segment of 2 MiB."""
    held = settled([*blocks(1000), PlacedTensor("rope", 100, "buffers")], as_listed)
    assert (held.weights, held.buffers) == (1000, 100)
    assert (held.allocated, held.reserved) == (1536, 2 * MIB)
    assert (held.rounding, held.free) == (436, 2 * MIB - 1536)


def test_without_an_order_one_block_of_all_comes_first():
    """Three of 5 MiB: within the segment of 16 MiB (15, up to whole 2 MiB) that the first block had
    in the one case, within kLargeBuffer's 20 MiB in the other."""
    three = blocks(5 * MIB, 5 * MIB, 5 * MIB)
    assert settled(three, None).reserved == 16 * MIB
    assert settled(three, as_listed).reserved == 20 * MIB


def test_copies_are_so_many_tensors():
    """The last keeps what is left of the block: no more than kSmallSize, 1 MiB, is not split off."""
    held = settled(blocks(5 * MIB, copies=3), None)
    assert (held.weights, held.allocated, held.reserved) == (15 * MIB, 16 * MIB, 16 * MIB)
    assert settled(blocks(5 * MIB, copies=3), as_listed).reserved == 20 * MIB


def test_single_tensors_before_and_after_experts_are_placed():
    """12 + 3 x 12 + 12 MiB, each a segment of its own."""
    mixed = [*blocks(12 * MIB), *blocks(12 * MIB, copies=3), *blocks(12 * MIB)]
    held = settled(mixed, as_listed)
    assert (held.allocated, held.reserved) == (60 * MIB, 60 * MIB)


def test_a_load_has_what_is_there_and_nothing_that_is_empty():
    held = Settled(weights=1000, buffers=0, allocated=1024, reserved=2 * MIB)
    phase = loaded(held, formula="by hand", basis="read")
    told = {c.name: c.bytes for c in phase.components}
    assert told == {
        "weights": exactly(1000),
        "rounding": exactly(24),
        "fragmentation": exactly(2 * MIB - 1024),
        "context": CONTEXT,
    }
    assert phase.components[0].source == "file headers"
    assert loaded(held, formula="", basis="computed").components[0].source == "the class's tensors"


def test_one_buffer_is_neither_rounded_nor_fragmented():
    for basis, source in (("read", "file headers"), ("computed", "the class's tensors")):
        phase = in_one_buffer(1001, formula="by hand", basis=basis)
        assert [(c.name, c.bytes) for c in phase.components] == [
            ("weights", exactly(1001)),
            ("context", CONTEXT),
        ]
        assert phase.components[0].source == source


def test_free_blocks_go_back_or_leave_another_segment_open():
    """kLargeBuffer, c10/cuda/CUDACachingAllocator.h of torch 2.13: 20 MiB."""
    assert cached(7 * MIB) == Bytes(0, 7 * MIB, 27 * MIB)
    assert cached(1) == Bytes(0, 1, 20 * MIB + 1)
    assert cached(0) == exactly(0)


# Kernels, unread contexts and bare sizes


def test_the_context_of_an_unknown_part():
    """The readings of the module's docstring, 226 to 616 MiB, with something to spare."""
    assert context().bytes == Bytes(200 * MIB, 450 * MIB, 650 * MIB)


def test_a_capability_before_lazy_loading_is_not_reckoned():
    assert _reckoned(find("p40").part) is None  # 6.1
    assert _reckoned(find("v100").part) == (272 + 80 * 2048 // 1024) * MIB  # 7.0: 80 processors


def test_an_apple_chip_has_a_runtime_and_no_context():
    found = context(find("m4-24gb").part)
    assert (found.name, found.bytes) == ("other", CONTEXT)


def test_kernels_are_loaded_lazily_from_torch_1_13_on():
    """An eager process has what it uses and all of torch's own beside it."""
    lazy = Bytes(64 * MIB, 240 * MIB, 960 * MIB)
    assert libraries((2, 9)).bytes == libraries((1, 13)).bytes == lazy
    assert libraries((1, 12)).bytes == Bytes(384 * MIB, 930 * MIB, 2160 * MIB)
    assert "1.13" in libraries((1, 12)).formula
    assert "rocBLAS" in libraries((2, 9), find("mi300x").part).formula


def test_an_h100_holds_686_mib_in_inference_and_758_in_training():
    """Measured in 94 of 95 runs (torch 2.11, CUDA 13, driver 580); the context is read to 4 MiB."""
    part = find("h100").part
    bare = context(part).bytes.expected
    for training, mib in ((False, 686), (True, 758)):
        kernels = libraries((2, 11), part, training=training)
        assert abs(bare + kernels.bytes.expected - mib * MIB) <= 4 * MIB
        assert kernels.basis == "measured"
        assert 2 * kernels.bytes.low == kernels.bytes.expected == kernels.bytes.high // 2


def test_a_bare_size_is_a_tenth_more_or_less():
    weights, around = rough(1000).components
    assert (weights.bytes, around.bytes) == (Bytes(900, 1000, 1100), CONTEXT)
    assert rough(1000, alone=50).components[0].bytes == Bytes(900, 1000, 1150)
    assert "words" in rough(1000, alone=50).components[0].formula
    assert "words" not in weights.formula


def chosen(name):
    return FormatChoice(dtype=BFLOAT16, scheme=scheme(name) if name else None)


def test_words_that_a_format_leaves_in_sixteen_bits():
    """12 x 4096^2 x 32 parameters are 32 layers of width 32 x 128: two tables of 152,064 words take
    1,245,708,288 parameters, 2 bytes each where the format had half a byte."""
    parameters = 12 * 4096**2 * 32
    words = 2 * 152_064 * 4096
    assert words == 1_245_708_288
    assert words_alone(parameters, chosen("nf4"), parameters // 2) == 2 * words - words // 2


def test_words_are_half_of_a_small_model_at_most():
    """500 of 1,000 parameters: 1,000 bytes where 250 were counted."""
    assert words_alone(1000, chosen("nf4"), 500) == 750


def test_words_in_a_format_of_all_weights_take_nothing_more():
    assert words_alone(1000, chosen(""), 2000) == 0
    assert words_alone(1000, chosen("Q4_K_M"), 500) == 0
    assert words_alone(1000, chosen("nf4"), 2001) == 0  # larger than in 16 bits
    assert words_alone(1, chosen("nf4"), 1) == 0


def test_what_was_placed_is_not_placed_again():
    """The same tensors in the same order, behind the same warm-up; nothing else is the same."""
    tensors = [PlacedTensor(f"{i}", (3 + i) * MIB, "weights") for i in range(4)]
    once = replay(tensors, None)
    assert replay(list(tensors), None) is once
    assert replay(tensors[::-1], None) is not once
    assert replay(tensors, lambda pairs: (t for _, t in pairs)) is not once

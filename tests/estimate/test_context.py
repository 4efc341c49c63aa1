"""What a process holds of a GPU before it allocates anything: readings, and what is reckoned."""

import pytest

from weighbridge import infer, load
from weighbridge.accelerators.chips import BRIDGED, CAPABILITIES, LINKED, SWITCHED
from weighbridge.accelerators.names import find, sized
from weighbridge.accelerators.parts import chip_of, parts
from weighbridge.components.device import CONTEXT, _reckoned, context
from weighbridge.memory import Bytes
from weighbridge.units import MIB

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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang"])
def test_engines_and_load_agree(engine):
    of_part = context(find("l4").part).bytes
    assert contexts(infer("qwen3-0.6b", engine=engine, gpu="l4")) == {of_part}
    assert contexts(load("qwen3-0.6b", gpu="l4")) == {of_part}
    assert contexts(infer("qwen3-0.6b", engine=engine)) == contexts(load("qwen3-0.6b")) == {CONTEXT}

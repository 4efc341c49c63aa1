"""Memory that a part shows and hands out, against readings; counts and headrooms: by hand."""

import pytest

from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.machines.accelerators import budget, names, rules
from weighbridge.machines.accelerators.chips import CAPABILITIES, Chip
from weighbridge.machines.accelerators.detected import amd
from weighbridge.machines.accelerators.names import find, sized


# recommendedMaxWorkingSetSize of ggml-metal's logs, MB of 1,000,000 bytes: before macOS 26, there
@all_of(
    ("gb", "before", "since"),
    [
        (16, 11_453.25, 12_713.12),
        (24, 17_179.89, 19_069.67),
        (32, 22_906.50, 26_800.60),
        (36, 28_991.03, 30_150.67),
        (48, 38_654.71, 40_200.90),
        (64, 51_539.61, 55_662.79),
        (128, 103_079.22, 115_448.73),
        (512, None, 498_216.21),
    ],
)
def test_the_share_that_metal_gives_is_that_of_logs(gb, before, since):
    share = rules.visible("apple", exactly(gb * GIB), gb)
    assert share.high == pytest.approx(since * 1e6, rel=0.002)
    assert before is None or share.low == pytest.approx(before * 1e6, rel=0.002)
    assert share.low < share.expected < share.high


@all_of(
    ("gb", "least", "most"),
    [
        (16, 100, 475),
        (17, 220, 510),
        (32, 220, 510),
        (33, 460, 770),
        (96, 460, 770),
        (97, 600, 930),
        (288, 600, 930),
    ],
)
def test_what_the_driver_of_nvidia_keeps(gb, least, most):
    of = Bytes(90 * GIB, 91 * GIB, 92 * GIB)
    middle = (least + most) // 2
    expected = (of.low - most * MIB, of.expected - middle * MIB, of.high - least * MIB)
    assert rules.visible("nvidia", of, gb) == Bytes(*expected)


def test_shares_of_the_size_that_is_sold():
    assert rules.total("nvidia ecc", 100) == Bytes(93 * GIB, 937 * GIB // 10, 100 * GIB)
    assert rules.total("shared", 100) == Bytes(90 * GIB, 935 * GIB // 10, 96 * GIB)
    assert rules.visible("apu", exactly(100 * GIB), 100) == Bytes(
        475 * GIB // 10, 75 * GIB, 100 * GIB
    )
    assert rules.visible("amd", Bytes(1, 2, 3), 100) == Bytes(1, 2, 3)


# CUDA C++ programming guide, technical specifications per compute capability: resident threads of a
# multiprocessor, KiB of shared memory that a block can have
@all_of(
    ("capabilities", "threads", "kib"),
    [
        ([(3, 7), (5, 2), (5, 3), (6, 0), (6, 1)], 2048, 48),
        ([(7, 0), (7, 2)], 2048, 96),
        ([(7, 5)], 1024, 64),
        ([(8, 0)], 2048, 163),
        ([(8, 6), (8, 9), (12, 0), (12, 1)], 1536, 99),
        ([(8, 7)], 1536, 163),
        ([(9, 0), (10, 0), (10, 3), (11, 0)], 2048, 227),
    ],
)
def test_threads_and_shared_memory_of_a_chip(capabilities, threads, kib):
    for capability in capabilities:
        chip = Chip(capability, 10)
        assert (chip.threads, chip.shared_memory) == (threads, kib * KIB)
        assert chip.resident == 10 * threads


def test_every_capability_is_in_the_guide_once():
    assert {v for v, c in CAPABILITIES.items() if c.hbm} == {
        *((6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (10, 3))
    }
    assert {v for v, c in CAPABILITIES.items() if c.links == "bridge"} == {(6, 0), (7, 0), (8, 0)}
    assert {v for v, c in CAPABILITIES.items() if c.links == "switch"} == {
        *((9, 0), (10, 0), (10, 3))
    }


@all_of(
    ("text", "nbytes"),
    [
        (None, 0),
        ("1GiB", GIB),
        ("10%", 1000),
        (" 12.5 % ", 1250),
        ("0%", 0),
        ("99.99%", 9999),
    ],
)
def test_headroom_of_ten_thousand_bytes(text, nbytes):
    assert budget._headroom(text, Bytes(9_000, 10_000, 11_000)) == nbytes


def test_a_headroom_of_all_leaves_nothing():
    for text in ("100%", "100.5%"):
        with pytest.raises(UsageError, match="leaves nothing"):
            budget._headroom(text, exactly(10_000))


@pytest.mark.parametrize(("count", "there"), [(1, True), (1 << 14, True), ((1 << 14) + 1, False)])
def test_devices_are_counted_to_a_limit(count, there):
    if there:
        assert find(f"4090:{count}").count == count
    else:
        with pytest.raises(UsageError, match="our limit is 16,384"):
            find(f"4090:{count}")


def test_a_machine_of_eight_counts_eight_times():
    assert names._times(find("h100:8"), 3, "").count == 24
    with pytest.raises(UsageError, match="1 or more"):
        find("4090:0")


@pytest.mark.parametrize(
    ("gpu", "given", "more"),
    [("4090", 24 * GIB, False), ("4090", 24 * GIB + 1, True), ("h100", 80 * GIB, False)],
)
def test_more_memory_than_is_sold_is_said(gpu, given, more):
    assert bool(budget._more_than_sold(find(gpu).part, given)) is more


def test_a_bare_size_is_what_it_says():
    part = sized("24GiB")
    assert part.visible.bytes == exactly(24 * GIB)


def test_rows_of_rocm_are_read_to_a_limit(monkeypatch):
    monkeypatch.setattr(amd, "MOST", 2)
    head = "device,VRAM Total Memory (B),VRAM Total Used Memory (B)\n"
    rows = [f"card{n},{GIB},{MIB}\n" for n in range(3)]
    for count, read in ((1, 1), (2, 2), (3, 2)):
        found = amd.rocm_csv(head + "".join(rows[:count])).devices
        assert [one.total for one in found] == [GIB] * read


@pytest.mark.parametrize("typed", ["4090:-1", "4090:1.5", "4090:0", "4090 x -2"])
def test_a_count_is_a_whole_number_of_at_least_one(typed):
    with pytest.raises(UsageError, match="a count is a whole number, 1 or more"):
        find(typed)

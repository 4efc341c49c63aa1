"""One memory for devices and processes: by hand, against readings, and what is typed beside it."""

import pytest

import weighbridge
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.base.words import words_in
from weighbridge.machines.accelerators import local
from weighbridge.machines.accelerators.budget import budget
from weighbridge.machines.accelerators.machines import machine
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.accelerators.parts import parts
from weighbridge.machines.accelerators.pools import machine_memory, measured
from weighbridge.machines.accelerators.ram import Ram

SPARK = 122_040 * MIB, 122_573 * MIB, 124_611 * MIB  # what the system shows


def test_a_spark_leaves_what_was_read_of_it():
    """At start 101.3 to 102.2 GiB were free under a plain Ubuntu, and 112 to 113 of logs."""
    low, expected, high = find("gb10").part.pool
    assert (low, expected, high) == (
        SPARK[0] * 850 // 1000,
        SPARK[1] * 940 // 1000,
        SPARK[2] * 967 // 1000,
    )
    assert low <= 101.35 * GIB and high >= 117 * GIB
    assert 112 * GIB <= expected <= 113 * GIB


def test_a_card_of_its_own_memory_brings_no_ram():
    """GH200's two memories are coherent, and two: its HBM is not the machine's."""
    for name in ("4090", "h100", "gh200", "b70"):
        assert find(name).part.pool is None
        assert machine_memory(None, budget(name, None, None)) is None
        assert find(name).part.room == find(name).part.visible.bytes
    apart = machine_memory("64GiB", budget("gh200", None, None))
    assert (apart.room, apart.shared, apart.note) == (exactly(64 * GIB), False, "")
    assert machine_memory("64GiB", None).room == exactly(64 * GIB)


def test_a_shared_card_brings_its_ram_by_its_name():
    for name in ("gb10", "strix halo", "m4 max 128gb", "orin nano", "mi300a", "jetson thor"):
        part = find(name).part
        brought = machine_memory(None, budget(name, None, None))
        assert (brought.room, brought.shared) == (part.pool, True)
        assert part.name in brought.source
        for seen, pool, room in zip(part.visible.bytes, part.pool, part.room, strict=True):
            assert room == min(seen, pool) < part.total.bytes.high


def test_what_the_gpu_may_take_is_less_than_the_pool_where_it_is_bound():
    """Metal's working set, and GTT, leave the rest to processes."""
    for name in ("m4 max 128gb", "strix halo"):
        part = find(name).part
        assert part.room.low == part.visible.bytes.low < part.pool.low


def test_every_part_with_a_pool_has_a_source_in_its_record():
    for part in parts().values():
        told = part.to_dict()["pool_bytes"]
        assert (told is None) == (not part.shares_host)
        assert told is None or (told["basis"], told["low"]) == ("assumed", part.pool.low)


@pytest.mark.parametrize(
    ("typed", "room", "contradicts"),
    [
        ("64GiB", exactly(64 * GIB), False),  # what processes can have, as they know it
        ("110GiB", Bytes(SPARK[0] * 850 // 1000, 110 * GIB, 110 * GIB), False),
        ("128GiB", None, False),  # what it is sold with: the system has its part of that
        ("128.1GiB", None, True),
    ],
)
def test_a_size_beside_a_pool_is_no_more_than_the_pool(typed, room, contradicts):
    found = machine_memory(typed, budget("gb10", None, None))
    assert found.room == (room or find("gb10").part.pool)
    assert found.shared
    assert ("one memory of 128 GB" in found.note) == contradicts


def test_headroom_is_kept_free_of_the_pool():
    found = machine_memory(None, budget("gb10", None, "10GiB"))
    assert found.room == Bytes(*(n - 10 * GIB for n in find("gb10").part.pool))
    assert measured(Ram(90 * GIB, ""), budget("gb10", None, "10GiB")).room == exactly(80 * GIB)
    assert measured(Ram(90 * GIB, ""), budget("4090", None, "1GiB")).room == exactly(90 * GIB)


def test_what_was_typed_of_the_device_is_there():
    typed = budget("gb10", "118GiB", None)
    assert typed.usable == exactly(118 * GIB)
    assert typed.pool == exactly(118 * GIB)
    part = find("strix halo").part
    assert budget("strix halo", "80GiB", None).usable == exactly(80 * GIB)
    assert budget("strix halo", "80GiB", None).pool == part.pool
    assert not typed.mixed and typed.others == 0
    assert budget("gb10:2", "90GiB", None).each == (exactly(90 * GIB),) * 2


def test_what_the_system_holds_is_no_use_by_others():
    assert budget("gb10", None, None).others == 0


def test_idle_is_without_what_the_system_holds(monkeypatch):
    from tests.accelerators.test_local import chosen

    spark = chosen("nvidia_smi_gb10", idle=True, host=local.HostMemory(120 * GIB, 90 * GIB))
    assert spark.room.low == 102 * GIB
    assert spark.room.high <= 120 * GIB * 967 // 1000


def test_a_contradiction_and_what_a_gpu_may_take_are_said():
    (contradicted,) = weighbridge.load("llama-3.2-1b", gpu="gb10", ram="256GiB").warnings
    assert contradicted.startswith("--ram 256.00 GiB: GB10")
    assert contradicted.endswith("leave --ram out")
    assert weighbridge.load("llama-3.2-1b", gpu="gb10", ram="64GiB").warnings == ()
    (carved,) = (
        line
        for line in weighbridge.load("llama-3.2-1b", gpu="strix halo").warnings
        if "ttm" in line
    )
    assert "ttm.pages_limit, 60.81 GiB to 120.00 GiB" in carved
    typed = weighbridge.load("llama-3.2-1b", gpu="strix halo", gpu_memory="80GiB").warnings
    assert not any("ttm" in line for line in typed)
    chinese = words_in("zh")
    for line in (contradicted, carved):
        assert chinese.told(line) != line


def test_a_computer_has_one_such_chip_and_a_node_several():
    """Four MI300A are no four machines by our rules: nothing says how many a board has."""
    assert machine(find("gb10").part).devices == 1
    assert machine(find("strix halo").part).devices == 1
    assert machine(find("mi300a").part) is None

"""Figures of the catalogue: against readings, by hand, and as laws over every part."""

import json
import os
import re
from pathlib import Path

import pytest

import weighbridge
from tests.cases import all_of
from tests.corpus import ROOT
from weighbridge.base.memory import Bytes
from weighbridge.base.units import GIB, MIB, parse_size
from weighbridge.machines.accelerators import local
from weighbridge.machines.accelerators import parts as module
from weighbridge.machines.accelerators.budget import budget
from weighbridge.machines.accelerators.detected.device import DetectedDevice
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.accelerators.parts import instances, parts, slice_of
from weighbridge.machines.accelerators.rules import KEPT, RULES, total, visible

HERE = Path(module.__file__).parent
EVERY = list(parts().values())
RECORDS = {
    r["id"]: r for r in map(json.loads, (HERE / "parts.jsonl").read_text("utf-8").splitlines())
}

# Printed by nvidia-smi (memory.total, MiB), on machines of today's drivers
NVIDIA_SMI = {
    "T4": 15360,
    "A10": 23028,
    "L4": 23034,
    "L40S": 46068,
    "A100 40GB": 40960,
    "A100 80GB": 81920,
    "H100": 81559,
    "H100 NVL": 95830,
    "H20": 97871,
    "H200": 143771,
    "B200": 183359,
    "B300": 275040,
    "RTX 3090": 24576,
    "RTX 4090": 24564,
    "4090 48G": 49140,
    "RTX 5090": 32607,
    "RTX A6000": 49140,
    "RTX 6000 Ada": 49140,
}


@all_of(("name", "mib"), NVIDIA_SMI.items())
def test_what_the_driver_shows(name, mib):
    figure = find(name).part.total
    assert figure.bytes == Bytes(mib * MIB, mib * MIB, mib * MIB)
    assert figure.basis == "read"
    assert figure.source


# Bytes of torch.cuda.get_device_properties(0).total_memory, or the MiB and GiB of torch's own texts
SEEN_BY_A_PROCESS = {
    "T4": 15637086208,
    "RTX 4000 Ada": 20982726656,
    "L40S": 44.39 * GIB,
    "H200": 139.81 * GIB,
    "B200": 178.35 * GIB,
    "RTX 5090": 31.36 * GIB,
    "DGX Spark": 119.70 * GIB,
    "MI325X": 255.98 * GIB,
    "MI355X": 287.98 * GIB,
    "m3 16gb": 11.84 * GIB,
    "m4 24gb": 17.76 * GIB,
    "m5 max 128gb": 107.52 * GIB,
    "a100-80gb/1g.10gb": 9728 * MIB,
    "a100-40gb/1g.10gb": 9856 * MIB,
}


@all_of(("name", "nbytes"), SEEN_BY_A_PROCESS.items())
def test_what_a_process_can_have(name, nbytes):
    low, _, high = find(name).part.visible.bytes
    rounding = 0.006 * GIB
    assert low - rounding <= nbytes <= high + rounding


def test_a_marketed_size_is_neither_gb_nor_gib():
    """24 GB of a 4090 are 23.99 GiB, of an A10 22.49; 180 of a B200 are 192.3e9 bytes."""
    assert 25.75e9 < find("4090").part.total.bytes.low < 24 * GIB
    assert find("A10").part.total.bytes.high < 24.2e9
    assert find("B200").part.total.bytes.low > 192e9
    assert find("B200 192GB").part == find("B200").part


# By hand


def test_an_assumed_interval_by_hand():
    """RTX 3070 Ti, 8 GB: 0.994 to 1 of 8192 MiB are shown, of which 100 to 475 MiB are kept."""
    part = find("3070 ti").part
    assert part.total.basis == part.visible.basis == "assumed"
    assert part.total.bytes == Bytes(8 * GIB * 994 // 1000, 8 * GIB * 998 // 1000, 8 * GIB)
    assert part.visible.bytes.low == 8 * GIB * 994 // 1000 - 475 * MIB
    assert part.visible.bytes.high == 8 * GIB - 100 * MIB


def test_unified_memory_by_hand():
    """64 GB of an M4 Max: all of it is shown, three quarters to 0.81 may be wired."""
    part = find("M4 Max 64GB").part
    assert part.total.bytes == Bytes(64 * GIB, 64 * GIB, 64 * GIB)
    assert part.visible.bytes[::2] == (48 * GIB, 64 * GIB * 81 // 100)


def test_ecc_switches_the_memory_of_some_parts():
    assert find("P40").part.total.bytes == Bytes(23040 * MIB, 24576 * MIB, 24576 * MIB)


def test_a_slice_by_hand():
    """1g.20gb of an A100: 0.87 to 1 of 20 GiB."""
    whole = find("a100-80gb").part
    part = slice_of(whole, "1g.20gb")
    assert (part.id, part.marketed_gb) == ("nvidia-a100-sxm4-80gb/1g.20gb", 20)
    assert part.visible.bytes == Bytes(20 * GIB * 87 // 100, 19 * GIB, 20 * GIB)
    assert part.visible.basis == "assumed"


def test_readings_are_kept_where_they_were_read():
    part = find("rtx 3060").part
    assert (part.visible.basis, part.visible.bytes[::2]) == ("read", (11931 * MIB, 12044 * MIB))
    assert find("3090").part.context[0] == 256
    assert find("T4").part.compute_capability == "7.5"


KEYS = {
    *("id", "name", "vendor", "kind", "gb", "rule", "year"),
    *("aliases", "also_sold_as", "compute", "multiprocessors", "l2_mib", "chip_source"),
    *("driver", "visible", "mig", "slices", "context", "nvlink", "bandwidth"),
}
NEEDED = ("id", "name", "vendor", "kind", "gb", "rule")
KINDS = {"gpu", "soc", "apu", "npu", "tpu", "hpu"}


def test_every_key_of_the_file_is_known():
    for record in RECORDS.values():
        assert set(record) <= KEYS, f"{record['id']}: parts.jsonl has a key that nobody knows"
        assert set(NEEDED) <= set(record), f"{record['id']}: parts.jsonl lacks a key"
        assert record["kind"] in KINDS, f"{record['id']}: a kind that no rule knows"


def test_a_vendor_has_one_spelling():
    vendors = {record["vendor"] for record in RECORDS.values()}
    assert len({name.lower() for name in vendors}) == len(vendors)  # rules go by it: "NVIDIA"


# Laws


def test_every_part():
    for part in EVERY:
        for figure in (part.total, part.visible):
            low, expected, high = figure.bytes
            assert 0 < low <= expected <= high
            assert figure.basis in ("read", "assumed")
            assert figure.source
        for total_of, visible_of in zip(part.total.bytes, part.visible.bytes, strict=True):
            assert visible_of <= total_of
        sold = max(part.marketed_gb, *part.also_sold_as, 0)
        least = 0.45 if part.kind == "apu" else 0.6
        assert least * part.marketed_gb * GIB < part.visible.bytes.low
        assert part.total.bytes.high <= sold * GIB
        if part.visible.basis == "assumed":
            assert part.visible.bytes.low < part.visible.bytes.high


@all_of("part", [p for p in EVERY if p.mig], ids=lambda p: p.id)
def test_slices_are_smaller_than_the_whole(part):
    for profile in part.mig:
        piece = slice_of(part, profile)
        assert piece.total.bytes.low <= part.total.bytes.high
        assert piece.visible.bytes.low <= piece.visible.bytes.high <= piece.total.bytes.high
        assert int(re.match(r"\d+", profile)[0]) * piece.marketed_gb <= 7.2 * part.marketed_gb


def test_a_rule_holds_every_reading_of_its_kind():
    """So that parts without a reading are inside, too."""
    for record in RECORDS.values():
        rule, gb = record["rule"], record["gb"]
        driver = record.get("driver")
        if driver and driver["basis"] == "read":
            bounds = total(rule, gb)
            assert bounds.low <= driver["mib"][0] * MIB <= driver["mib"][2] * MIB <= bounds.high
        seen = record.get("visible")
        if seen and seen["basis"] == "read" and not unusual(record):
            shown = parts()[record["id"]].total.bytes
            bounds = visible(rule, shown, gb)
            assert bounds.low <= seen["mib"][0] * MIB <= seen["mib"][2] * MIB <= bounds.high


METAL_LOGS = {  # GB of RAM: MB of recommendedMaxWorkingSetSize, before macOS 26 and there (rules.py)
    16: (11453.25, 12713.12),
    24: (17179.89, 19069.67),
    32: (22906.50, 26800.60),
    36: (28991.03, 30150.67),
    48: (38654.71, 40200.90),
    64: (51539.61, 55662.79),
    128: (103079.22, 115448.73),
}


@all_of(("gb", "megabytes"), METAL_LOGS.items())
def test_macs_are_held_by_what_metal_recommends(gb, megabytes):
    """To a thousandth of the size: a Mac of 36 GB has 27 GiB at least, not two thirds."""
    macs = [p for p in EVERY if p.vendor == "Apple" and p.marketed_gb == gb]
    assert macs
    for part in macs:
        for found, read in zip(part.visible.bytes[::2], megabytes, strict=True):
            assert found == pytest.approx(read * 1e6, rel=0.0015)
    chip = DetectedDevice(name="Apple M9", kind="mps", source="sysctl", unified=True)
    card = local.card(chip, local.HostMemory(total=gb * GIB, left=None))
    assert card is not None and card.part.visible.bytes == macs[0].visible.bytes


@pytest.mark.parametrize(("gb", "megabytes"), [(18, 14302.25), (512, 498216.21)])
def test_macs_of_which_one_reading_was_found(gb, megabytes):
    (high,) = {p.visible.bytes.high for p in EVERY if p.vendor == "Apple" and p.marketed_gb == gb}
    assert high == pytest.approx(megabytes * 1e6, rel=0.0015)


def unusual(record):
    """Readings on Windows, and a chip whose BIOS decides."""
    return "Windows)" in record["visible"]["source"] or "BIOS" in record["visible"]["source"]


def test_the_law_above_can_fail():
    small = visible("nvidia", Bytes(8 * GIB, 8 * GIB, 8 * GIB), 8)
    assert not small.low <= 8 * GIB <= small.high


def test_rules_are_used_and_sizes_ascend():
    assert {r["rule"] for r in RECORDS.values()} | {"mig"} == set(RULES)
    assert [size for size, *_ in KEPT] == sorted(size for size, *_ in KEPT)


def test_the_data_are_small_and_complete():
    assert (
        sum(os.path.getsize(HERE / name) for name in ("parts.jsonl", "instances.jsonl")) < 200_000
    )
    assert parts() and instances()
    assert all(i.part in parts() and i.count >= 1 for i in instances().values())


@pytest.mark.skipif(not (ROOT / "accelerators.jsonl").exists(), reason="the corpus is not here")
def test_every_cited_figure_of_the_corpus_is_kept():
    compared = 0
    for line in (ROOT / "accelerators.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        if record["confidence"] != "cited" or record["kind"] == "instance":
            continue
        part = parts()[record["id"]]
        for key, figure in (("memory_total_mib", part.total), ("torch_total_mib", part.visible)):
            given = record.get(key)
            if given is None:
                continue
            compared += 1
            values = given if isinstance(given, list) else [given]
            low, _, high = figure.bytes
            if values[0] * MIB == part.total.bytes.high:  # Windows shows a process all there is
                low = high = part.total.bytes.high
            assert low <= values[0] * MIB <= values[-1] * MIB <= high
    assert compared > 140


def test_a_size_that_is_sold_by_the_same_name_is_a_card_of_its_own():
    """vLLM 0.28 at 0.6 of an RTX 3050 of 6 GiB had 2.14 GiB for blocks (a start log, 2026): its
    share is of that card. Law: of any other size the card is that which was named."""
    line = "vllm serve qwen3-0.6b --gpu-memory-utilization 0.6 --max-model-len 2048 --enforce-eager"
    asked = {"command": line, "gpu": "rtx-3050", "engine_version": "0.28.0", "offline": True}
    pool = weighbridge.infer(**asked, gpu_memory="6GiB").derived["available_kv_cache_interval"]
    assert pool[0] <= 2.14 * GIB <= pool[2]
    for name, size, sold in (
        ("rtx-3050", "6GiB", "nvidia-geforce-rtx-3050-6gb"),
        ("rtx-3050", "6.5GiB", "nvidia-geforce-rtx-3050-8gb"),
        ("rtx-3050", "5GiB", "nvidia-geforce-rtx-3050-8gb"),
        ("a100-80gb:2", "40GiB", "nvidia-a100-sxm4-40gb"),
        ("l4", "16GiB", "nvidia-l4"),
    ):
        found = budget(name, size, None)
        assert found.choice.part.id == sold, (name, size)
        assert found.choice.room.expected == parse_size(size)

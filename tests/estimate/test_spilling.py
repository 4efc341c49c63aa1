"""What a card of a machine with Windows has no room for: by hand, and where nothing is moved."""

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.records import replace
from weighbridge.base.units import GIB
from weighbridge.workload import Load

ON_WINDOWS = {"gpu": "4070", "platform": "windows"}
CARD = weighbridge.load("qwen3-8b", gpu="4070").verdict  # 11.5 to 11.9 GiB


def judged(beyond, **asked):
    """The verdict where the card lacks so many bytes of RAM."""
    low, high = CARD.usable.low, CARD.usable.high
    held = Bytes(high + beyond, high + beyond, low + beyond + (high - low))
    verdict = replace(CARD, per_device=held, fits="no", host=None)
    return spilled(verdict, Load(**{**ON_WINDOWS, **asked}))


@all_of(
    ("gib", "ram", "fits", "moved"),
    [
        (7, None, "unknown", True),  # half of what any machine has
        (9, None, "unknown", False),
        (9, "32GiB", "unknown", True),
        (15, "32GiB", "unknown", True),
        (16, "32GiB", "unknown", False),
        (17, "32GiB", "no", False),
    ],
)
def test_half_of_ram_is_lent_to_a_card(gib, ram, fits, moved):
    found = judged(gib * GIB, **({"ram": ram} if ram else {}))
    assert found.fits == fits
    assert bool(found.spilled) == moved
    if moved:
        assert "Windows moves" in found.reason and "10 times slower" in found.reason
        assert found.spilled == gib * GIB + CARD.usable.high - CARD.usable.low
        assert found.per_device.expected > found.usable.high


@pytest.mark.parametrize("asked", [{"platform": None}, {"platform": "linux"}, {"gpu": "h100"}])
def test_linux_moves_nothing_nor_does_a_card_of_a_server(asked):
    assert judged(GIB, **asked).fits == "no"


def test_a_yes_and_a_no_of_the_machine_stay():
    workload = Load(**ON_WINDOWS, ram="64GiB")
    fitting = replace(CARD, fits="yes", per_device=exactly(GIB))
    assert spilled(fitting, workload) is fitting
    full = weighbridge.load("qwen3-8b", dtype="float32", **ON_WINDOWS, ram="8GiB").verdict
    assert (full.fits, full.spilled) == ("no", 0)
    assert spilled(None, workload) is None


@pytest.mark.slow
def test_a_run_that_spills_says_so_and_is_no_yes():
    report = weighbridge.prepare("qwen3-8b").train(
        method="lora", gpu="4080", platform="windows", ram="64GiB"
    )
    assert report.verdict.fits == "unknown"
    assert report.to_dict()["verdict"]["spilled_bytes"] == report.verdict.spilled > GIB
    assert "runs, spilling into RAM" in str(report)
    again = weighbridge.prepare("qwen3-8b").train(method="lora", gpu="4080")
    assert "spilled_bytes" not in again.to_dict()["verdict"]


@pytest.mark.parametrize(
    ("system", "asked", "windows"),
    [
        ("win32", {"gpu": "local"}, True),
        ("win32", {"gpu": "4070"}, False),  # a card of another machine
        ("linux", {"gpu": "local"}, False),
        ("win32", {"gpu": "local", "platform": "linux"}, False),
        ("linux", {"platform": "windows"}, True),
        ("win32", {}, False),
    ],
)
def test_windows_is_what_was_said_or_what_is_here(monkeypatch, system, asked, windows):
    monkeypatch.setattr("sys.platform", system)
    assert Load(**asked).on_windows() == windows

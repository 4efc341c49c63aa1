"""Paged states: what the device has no room for is on the host, and nothing is in both places."""

import pytest

import weighbridge
from weighbridge.answers import bounds
from weighbridge.answers.bounds.margin import Margin
from weighbridge.answers.estimate.train import run, train
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import GIB
from weighbridge.models.checkpoint.gather import GatherOptions, gather
from weighbridge.models.checkpoint.model import resolve
from weighbridge.training.host import _here, paged_out
from weighbridge.training.optimizers import NAMES
from weighbridge.workload import Train

SMALL = "qwen2.5-0.5b"
MANAGED = 8 * 494_032_768  # two float32 of every parameter, nearly


def trained(optimizer, **settings):
    return weighbridge.train(SMALL, optimizer=optimizer, seq_len=512, **settings)


def paged(device, phase="step"):
    found = next(p for p in device.phases if p.name == phase)
    parts = [c.bytes for c in found.components if "paged" in c.detail]
    return parts[0] if parts else Bytes(0, 0, 0)


TWINS = {
    "paged_adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_32bit": "adamw_bnb_32bit",
    "paged_lion_8bit": "lion_8bit",
    "paged_lion_32bit": "lion_32bit",
    "paged_ademamix_8bit": "ademamix_8bit",
    "paged_ademamix_32bit": "ademamix",
}


def test_every_paged_optimizer_has_its_twin_here():
    assert {n for n in NAMES if n.startswith("paged_")} == TWINS.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "twin"), TWINS.items())
def test_it_is_expected_to_take_no_more_than_its_twin(optimizer, twin):
    """Where no device was named, too."""
    ours, theirs = trained(optimizer).peak, trained(twin).peak
    assert ours.expected <= theirs.expected
    assert ours.low < theirs.low


@pytest.mark.slow
def test_what_a_device_has_no_room_for_is_on_the_host():
    """The plain twin may not fit the card; it does, with the rest of its states in host memory."""
    assert trained("adamw_bnb_32bit", gpu_memory="8GiB").verdict.fits != "yes"
    found = trained("paged_adamw_32bit", gpu_memory="8GiB")
    assert found.verdict.fits == "yes"
    here, there = (paged(d) for d in found.devices)
    assert 0 < here.high < MANAGED
    assert there.expected > 0
    assert there.high >= MANAGED * 0.999 - here.high
    assert found.verdict.per_device.high <= 8 * GIB


@pytest.mark.slow
def test_all_of_it_is_on_a_device_with_room():
    found = trained("paged_adamw_32bit", gpu="h100")
    here, there = (paged(d) for d in found.devices)
    assert here.low == 0  # as NVML tells of a process, which leaves managed memory out
    assert here.expected == here.high == pytest.approx(MANAGED, rel=0.001)
    assert there == Bytes(0, 0, 0)


def test_none_is_there_before_the_first_step():
    assert paged(trained("paged_adamw_32bit").devices[0], "load") == Bytes(0, 0, 0)


def test_by_hand():
    """A device with 90 to 100; 60 to 80 are taken, and 50 are paged."""
    assert paged_out([Bytes(60, 70, 80)], 50, Bytes(90, 95, 100)) == Bytes(10, 25, 40)
    assert paged_out([Bytes(60, 70, 120)], 50, Bytes(90, 95, 100)) == Bytes(10, 25, 50)
    assert paged_out([Bytes(10, 20, 30)], 50, Bytes(90, 95, 100)) == Bytes(0, 0, 0)
    assert paged_out([Bytes(10, 20, 30)], 50, None) == Bytes(0, 25, 50)


@pytest.mark.slow
def test_margins_come_before_pages():
    """What is paged fills the room that all else leaves with its margins, for a report and for
    published figures."""
    w = Train(optimizer="paged_adamw_32bit", seq_len=512, gpu_memory="8GiB")
    model = resolve(gather(SMALL, GatherOptions(offline=True)))
    alone = run(model, w)
    assert alone.devices() == train(model, w).devices
    kind = bounds.kind(alone.like, bounds.PEAK, "allocated", several=False)
    wide = bounds.MarginTable({kind: Margin(0.02, 0.02, runs=9)}, ("reserved", "driver"))
    for table in (None, wide, bounds.NOTHING):
        device = alone.devices(table)[0]
        assert paged(device).high > 0
        assert device.peak("driver").high <= 8 * GIB


@pytest.mark.parametrize(
    ("usable", "here"),
    [
        (None, Bytes(0, 50, 100)),  # how much room there is nobody has said
        # What is surely left beside 30 at most; a process's figure of NVML has none of it
        (Bytes(80, 90, 95), Bytes(0, 50, 50)),
        (Bytes(300, 300, 300), Bytes(0, 100, 100)),
        (Bytes(20, 90, 95), exactly(0)),
    ],
)
def test_what_is_on_the_device(usable, here):
    assert _here(Bytes(10, 20, 30), 100, usable) == here


def test_what_is_paged_out():
    """The fullest phase and 100 bytes are more than there is room for: the most where there is least."""
    rests = [Bytes(10, 20, 30), Bytes(15, 18, 25)]
    assert paged_out(rests, 100, Bytes(80, 90, 95)) == Bytes(20, 30, 50)
    assert paged_out(rests, 100, Bytes(10, 10, 10)) == Bytes(100, 100, 100)
    assert paged_out(rests, 100, Bytes(200, 200, 200)) == Bytes(0, 0, 0)
    assert paged_out(rests, 100, None) == Bytes(0, 50, 100)

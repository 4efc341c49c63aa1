"""Which phase of a device is told as its peak."""

from weighbridge.base.memory import Component, Device, Instant, exactly


def phase(name, *, tensors, free=0):
    parts = [
        Component(name="temporaries", bytes=exactly(tensors), basis="computed"),
        Component(name="fragmentation", bytes=exactly(free), basis="computed"),
    ]
    return Instant(name, tuple(parts))


def fullest(*phases):
    return Device(index=0, kind="gpu", phases=phases).peak_phase


def test_the_phase_in_which_the_driver_shows_most():
    assert fullest(phase("forward", tensors=5), phase("step", tensors=4, free=2)) == "step"


def test_of_phases_that_reserve_alike_the_one_in_which_tensors_take_most():
    """What a step has reserved stays in the allocator's cache all through the next one."""
    forward, step = phase("forward", tensors=4, free=6), phase("step", tensors=9, free=1)
    assert fullest(forward, step) == fullest(step, forward) == "step"

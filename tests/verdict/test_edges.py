"""Edges of a verdict, each by hand."""

from tests.cases import all_of
from tests.charts.made import verdict
from weighbridge.answers.verdict import closeness, on_host
from weighbridge.answers.verdict.on_devices import _in_turn
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.records import replace
from weighbridge.memory.report.verdict import Condition

SIZE = Bytes(100, 200, 400)
PARTS = [(99, 0.0), (100, 0.0), (150, 0.25), (200, 0.5), (300, 0.75), (399, 0.9975), (400, 1.0)]


@all_of(("nbytes", "part"), PARTS)
def test_the_part_of_an_interval_below_some_bytes(nbytes, part):
    assert closeness._below(SIZE, nbytes) == part
    if 100 <= nbytes < 400:
        assert closeness._at(SIZE, part) == nbytes


@all_of("nbytes", [7])
def test_an_exact_size_lies_at_its_bytes_and_not_below(nbytes):
    exact = Bytes(7, 7, 7)
    assert closeness._below(exact, nbytes) == 1.0
    assert closeness._below(exact, nbytes - 1) == 0.0


def test_cards_are_filled_in_turn_and_the_last_has_what_is_left():
    """None takes more than an even share and a layer and a quarter."""
    found = _in_turn(Bytes(900, 950, 1000), 40, [300, 10_000, 10_000])
    most = -(-1000 // 3) + 5 * 40 // 4
    first, second = Bytes(260, 280, 300), Bytes(most - 40, most - 20, most)
    low, high = 900 - 300 - most, 1000 - 260 - (most - 40)
    assert found == [first, second, Bytes(low, (low + high) // 2, high)]


@all_of(
    ("device", "half", "tight"),
    [
        ((True, "yes"), (False, "yes"), True),
        ((False, "yes"), (True, "yes"), True),
        ((False, "no"), (True, "yes"), False),
        ((False, "yes"), (False, "yes"), False),
    ],
)
def test_a_yes_is_tight_where_either_half_is(monkeypatch, device, half, tight):
    one = replace(verdict(fits=half[1], ram=1).host, fits=half[1], tight=half[0])
    monkeypatch.setattr(on_host, "judged", lambda *_: one)
    devices = [Device(index=0, kind="host", phases=(Instant("load", ()),))]
    memory = Condition("memory", exactly(1), exactly(device[1] == "yes"))
    judged = replace(verdict(fits=device[1]), conditions=(memory,), tight=device[0])
    assert on_host.both(judged, devices, None).tight is tight


def test_pages_of_files_may_stay_or_go():
    def weights(**more):
        return Component(name="weights", bytes=Bytes(3, 4, 5), basis="computed", **more)

    parts = (weights(droppable=True), weights())
    away = Instant("step", (weights(droppable=True),))
    device = Device(index=0, kind="host", phases=(Instant(on_host.LOAD, parts), away))
    (page,) = on_host._pages(device)
    assert (page.name, page.bytes, page.droppable) == ("other", Bytes(0, 0, 5), False)

"""What each of several cards holds, counted by hand: cards that differ, and none that is too small."""

from types import SimpleNamespace

import pytest

import weighbridge
from weighbridge.answers.verdict import shares
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.units import GIB
from weighbridge.machines.accelerators.budget import budget


def device(weights, own=0, context=0):
    parts = (("weights", weights), ("fragmentation", exactly(own)), ("context", exactly(context)))
    components = tuple(Component(name=n, bytes=b, basis="computed") for n, b in parts)
    return Device(index=0, kind="gpu", phases=(Instant("load", components),))


def held(engine, weights, rooms, layer, **more):
    """What each card holds at driver level."""
    cards = SimpleNamespace(each=[exactly(room) for room in rooms])
    dealt = shares.dealt(device(weights, **more), cards, engine, layer)
    assert [d.index for d in dealt] == list(range(len(rooms)))
    return [tuple(d.peak("driver")) for d in dealt]


def test_device_map_fills_cards_in_turn():
    """100 in layers of 8 over 30, 90 and 50: each but the last at most 34 + 10, or what it has."""
    assert held("transformers", exactly(100), (30, 90, 50), 8) == [
        (22, 26, 30),  # all that it has, less a layer that did not fit
        (36, 40, 44),  # its even share and 5/4 of a layer
        (26, 34, 42),  # what is left of 100 after 74 at most and 58 at least
    ]


def test_a_context_is_kept_free_and_what_a_card_has_of_its_own_stays():
    assert held("transformers", exactly(100), (35, 90, 50), 8, own=2, context=5) == [
        (29, 33, 37),  # 35 less 5 are 30 of weights, as above, and 2 and 5 of its own
        (43, 47, 51),
        (33, 41, 49),
    ]


def test_llama_cpp_deals_by_what_is_free():
    """100 to 110 over 60 and 20: three quarters and a quarter, a layer more or less."""
    assert held("llama.cpp", Bytes(100, 104, 110), (60, 20), 8) == [(67, 78, 91), (17, 26, 36)]


def test_no_share_is_below_nothing_or_above_all():
    assert held("llama.cpp", exactly(10), (60, 20), 8) == [(0, 7, 10), (0, 2, 10)]
    assert held("transformers", exactly(10), (2, 60), 8)[0] == (0, 0, 2)


def test_cards_without_room_leave_all_to_the_last():
    assert held("llama.cpp", exactly(10), (0, 0), 8) == [(0, 0, 0), (10, 10, 10)]
    assert held("transformers", exactly(10), (0, 0), 8) == [(0, 0, 0), (10, 10, 10)]


def test_a_layer_of_unknown_size_may_be_all_of_the_load():
    (first, _) = held("transformers", exactly(100), (500, 500), None)
    assert first == (0, 50, 100)


@pytest.mark.parametrize(("gpu", "fits"), [("3060+4090", "unknown"), ("3060:2", "no")])
def test_device_map_over_a_small_card_and_a_large_one(gpu, fits):
    """29.5 GB over both: half of it is more than the small one has."""
    assert weighbridge.load("llama-3.1-8b", dtype="float32", gpu=gpu).verdict.fits == fits


def test_device_map_fills_a_small_card_no_further_than_it_has():
    load = weighbridge.load("llama-3.1-8b", dtype="float32").devices[0]
    cards = budget("3060+4090", None, None)
    small, large = shares.dealt(load, cards, "transformers", 2 * GIB)
    assert small.peak("driver").low < cards.of(0).low < 15 * GIB < large.peak("driver").low
    assert large.peak("driver").high < cards.of(1).low

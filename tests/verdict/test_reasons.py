"""Sentences of verdicts, word by word."""

import pytest

from weighbridge.answers.verdict import reasons
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.machines.accelerators.budget import Budget, budget
from weighbridge.machines.accelerators.names import DeviceChoice, sized

CARD = exactly(12 * GIB)


def test_sentences_by_hand():
    said = reasons.compared
    assert said("no", exactly(16 * GIB), CARD, "the card") == (
        "needs about 16.0 GiB; the card has 12.0 GiB for you: short by 4.0 GiB"
    )
    assert said("yes", Bytes(5 * GIB, 6 * GIB, 7 * GIB), CARD, "the card") == (
        "needs about 6.0 GiB, at worst 7.0 GiB; the card has 12.0 GiB for you: 6.0 GiB to spare"
    )
    close = Bytes(11 * GIB, 12 * GIB, 13 * GIB)
    assert said("unknown", close, CARD, "the card") == (
        "too close to call: needs 11.00-13.00 GiB, the card has 12.00 GiB for you; "
        "50 % of that range fits"
    )
    narrow = said("no", exactly(12 * GIB + 100 * MIB), CARD, "the card")
    assert narrow.endswith("short by 100.00 MiB")
    assert "12.10 GiB; the card has 12.00 GiB" in narrow


def compared(needed, usable=CARD, answer="yes"):
    return reasons.compared(answer, needed, usable, "it")


@pytest.mark.parametrize(
    ("spare", "shown"),
    [(512 * MIB - 1, "512.00 MiB"), (512 * MIB, "512.00 MiB"), (GIB, "1.0 GiB"), (0, "0 B")],
)
def test_a_small_difference_has_two_decimals(spare, shown):
    """Half a GiB is the limit; less than one GiB is told in MiB anyway."""
    told = compared(exactly(12 * GIB - spare))
    assert told.endswith(f"{shown} to spare")
    assert ("needs about 12.00 GiB" in told) == (spare == 0)
    assert ("has 12.00 GiB" in told) == (spare < 512 * MIB)


def test_the_worst_case_decides_over_decimals():
    """1 GiB to spare as expected, and none, a little, or less than none at worst."""
    need = lambda worst: Bytes(10 * GIB, 11 * GIB, worst)  # noqa: E731
    assert "at worst 12.00 GiB; it has 12.00 GiB" in compared(need(12 * GIB))
    assert "at worst 11.51 GiB; it has 12.00 GiB" in compared(need(12 * GIB - 500 * MIB))
    assert "at worst 11.4 GiB; it has 12.0 GiB" in compared(need(12 * GIB - 600 * MIB))
    assert "at worst 13.0 GiB; it has 12.0 GiB" in compared(need(13 * GIB))


def test_a_share_is_never_all_or_nothing():
    """1 of a million, and all but one: neither is sure."""
    nearly = Bytes(12 * GIB - 1, 30 * GIB, 40 * GIB)
    assert compared(nearly, answer="unknown").endswith("; 1 % of that range fits")
    hardly = Bytes(1, 2, 12 * GIB + 1)
    assert compared(hardly, answer="unknown").endswith("; 99 % of that range fits")
    much = Bytes(10 * GIB, 11 * GIB, 12 * GIB + 256 * MIB)
    assert compared(much, answer="unknown").endswith("; 90 % of that range fits")
    half = Bytes(11 * GIB, 12 * GIB, 13 * GIB)
    assert compared(half, answer="unknown").endswith("; 50 % of that range fits")


def test_spans_have_one_unit_where_both_do():
    assert reasons.span(exactly(3 * GIB)) == "3.00 GiB"
    assert reasons.span(Bytes(3 * GIB, 3 * GIB, 4 * GIB)) == "3.00-4.00 GiB"
    assert reasons.span(Bytes(3 * MIB, 3 * GIB, 4 * GIB)) == "3.00 MiB to 4.00 GiB"


def room(count, nbytes=12 * GIB):
    return Budget(choice=DeviceChoice(part=sized(f"{nbytes}B"), count=count), headroom=0)


def test_several_cards_are_no_sum():
    told = reasons.dealt("no", exactly(16 * GIB), room(4), 2)
    assert "on each of 2; each card has" in told
    assert "; 2 of 4 are not used; 4 x 12.00 GiB is not 48.00 GiB: each must hold" in told
    alone = reasons.dealt("no", exactly(16 * GIB), room(1), 1)
    assert "is not" not in alone and "not used" not in alone and "; the card has" in alone
    assert "is not" not in reasons.dealt("yes", exactly(6 * GIB), room(4), 4)
    assert "is not" not in reasons.dealt("no", exactly(16 * GIB), room(4), 1)


def test_a_load_says_who_splits_it():
    one = reasons.loaded("no", exactly(16 * GIB), room(2), None)
    assert one.endswith("and nothing splits this model over 2")
    split = reasons.loaded("no", exactly(16 * GIB), room(2), "device_map")
    assert (
        "on each of 2" in split and "layers dealt out by device_map; 2 x 12.00 GiB is not" in split
    )
    assert reasons.loaded("yes", exactly(6 * GIB), room(2), None).endswith("6.0 GiB to spare")


def test_more_cards_than_a_machine_has_are_several_machines():
    cards = budget("h100:16", None, None)
    told = reasons.dealt("yes", exactly(6 * GIB), cards, 16)
    assert "; 16 are 2 nodes of 8 (" in told
    assert "nodes" not in reasons.dealt("yes", exactly(6 * GIB), budget("h100:8", None, None), 8)

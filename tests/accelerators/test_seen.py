"""What facts say of a card is noted, and a card of which they say the same has what was made."""

import gc
import weakref
from dataclasses import dataclass

import pytest

from weighbridge.machines.accelerators import seen
from weighbridge.machines.accelerators.budget import budget
from weighbridge.machines.accelerators.seen import SeenCard, by_card, fact


@dataclass(frozen=True)
class Record:
    name: str = "a"


class OddError(Exception):
    """What nobody expects."""


@fact
def small(card):
    return card.usable.high < 30 * 2**30


@fact
def below(card, number):
    return card.choice.part.capability < number


def on(gpu):
    return budget(gpu, None, None)


@pytest.fixture
def asked():
    return []


@pytest.fixture
def make(asked):
    """Ask whether a card is small, and only of a small one what it can do."""

    def made(card):
        asked.append(card)
        return ("small", below(card, (8, 9))) if small(card) else ("large",)

    return made


def test_a_card_of_which_facts_say_the_same_has_what_was_made(asked, make):
    one = Record()
    told = [by_card(one, ("x",), on(gpu), make) for gpu in ("4090", "3090", "h100", "b200", "5090")]
    assert told == [("small", False), ("small", True), ("large",), ("large",), ("large",)]
    assert len(asked) == 3
    for gpu, found in (("l4", told[0]), ("a10", told[1]), ("a100-80gb", told[2])):
        assert by_card(one, ("x",), on(gpu), make) is found
    assert len(asked) == 3


def test_other_questions_and_other_records_have_their_own(asked, make):
    one = Record()
    for owner, question in ((one, "x"), (one, "y"), (Record(), "x")):
        by_card(owner, (question,), on("4090"), make)
    assert len(asked) == 3


def test_no_card_is_asked_where_none_was_named(asked):
    one = Record()
    for _ in range(2):
        assert by_card(one, (), None, lambda card: asked.append(card) or "none") == "none"
    assert asked == [None]
    assert by_card(one, (), on("4090"), lambda card: "one") == "one"


def test_a_fact_is_asked_of_cards_that_nobody_sees_too():
    assert small(on("4090"))
    assert below(on("4090"), (9, 0))


def test_a_seen_card_tells_nothing_but_facts():
    card = SeenCard(on("4090"))
    assert {name for name in dir(card) if not name.startswith("_")} == {"ended", "like", "says"}
    with pytest.raises(AttributeError):
        small.__wrapped__(card)


def test_facts_are_noted_in_the_order_in_which_they_were_asked_first():
    card = SeenCard(on("4090"))
    for number in ((8, 0), (9, 0), (8, 0)):
        below(card, number)
    small(card)
    notes = [(one.rule.__name__, one.given, said) for one, said in card.ended().items()]
    assert notes == [("below", ((8, 0),), False), ("below", ((9, 0),), True), ("small", (), True)]


def test_what_was_not_noted_is_not_told_once_the_answer_is_made():
    """It would be that of the first card, and not of those that have its answer."""
    late = by_card(Record(), (), on("4090"), lambda card: (small(card), card)[1])
    assert small(late)
    with pytest.raises(RuntimeError, match="below"):
        below(late, (9, 0))


def test_what_is_made_inside_is_noted_outside_whether_it_was_kept_or_not(asked, make):
    one = Record()

    def outer(card):
        return "outer", by_card(one, ("inner",), card, make)

    by_card(one, ("first",), on("4090"), outer)
    assert by_card(one, ("second",), on("4090"), outer)[1] == ("small", False)  # the inner is kept
    assert by_card(one, ("second",), on("3090"), outer)[1] == ("small", True)
    assert by_card(one, ("second",), on("h100"), outer)[1] == ("large",)
    assert len(asked) == 3


def test_of_cards_that_differ_each_is_asked(asked):
    one = Record()

    def made(card):
        asked.append(card)
        return [below(card.like(n), (8, 9)) for n in range(2)]

    for gpu in ("4090+3090", "l4+a10", "rtx 6000 ada+a6000"):
        assert by_card(one, (), on(gpu), made) == [False, True]
    assert by_card(one, (), on("3090+4090"), made) == [True, False]
    assert by_card(one, (), on("4090:2"), made) == [False, False]
    assert len(asked) == 3
    assert [seen.first_alike(on("4090+3090+4090"), n) for n in range(3)] == [0, 1, 0]
    assert [seen.first_alike(on("4090:3"), n) for n in range(3)] == [0, 0, 0]


def test_cards_that_are_alike_are_one_card():
    card = SeenCard(on("4090:2"))
    assert card.like(1) is card


def test_nothing_is_kept_of_an_error(asked):
    one = Record()

    def made(card):
        asked.append(card)
        raise OddError

    for _ in range(2):
        with pytest.raises(OddError):
            by_card(one, (), on("4090"), made)
    assert len(asked) == 2


def test_the_question_that_nobody_asked_for_goes_first(monkeypatch, asked, make):
    monkeypatch.setattr(seen, "MOST", 4)
    one = Record()
    for question, gpu in (("a", "4090"), ("a", "3090"), ("b", "4090"), ("b", "3090")):
        by_card(one, (question,), on(gpu), make)
    by_card(one, ("a",), on("l4"), make)  # asked for just now
    by_card(one, ("c",), on("4090"), make)  # one too many: all of "b" goes
    assert len(asked) == 5
    by_card(one, ("a",), on("3090"), make)
    assert len(asked) == 5
    by_card(one, ("b",), on("3090"), make)
    assert len(asked) == 6


def test_a_question_of_too_many_cards_begins_anew(monkeypatch, asked):
    monkeypatch.setattr(seen, "MOST", 2)
    one = Record()

    def made(card):
        asked.append(card)
        return below(card, (8, 9)), small(card)

    for gpu in ("4090", "3090", "h100", "4090"):
        by_card(one, (), on(gpu), made)
    assert len(asked) == 4


def test_facts_in_another_order_take_the_place_of_those_before(asked):
    """Nobody should ask so: what is made must follow from the facts."""
    one, orders = Record(), [small, lambda card: below(card, (9, 0))]

    def made(card):
        asked.append(card)
        return [rule(card) for rule in orders]

    assert by_card(one, (), on("4090"), made) == [True, True]
    orders.reverse()
    assert by_card(one, (), on("h100"), made) == [False, False]
    assert by_card(one, (), on("4090"), made) == [True, True]
    assert len(asked) == 3


@pytest.mark.slow
def test_it_goes_with_its_record():
    def known():
        one = Record()
        by_card(one, (), on("4090"), lambda card: [one])
        return weakref.ref(by_card(one, ("other",), on("4090"), lambda card: Record("made")))

    found = known()
    gc.collect()
    assert found() is None

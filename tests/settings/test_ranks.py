"""One record of how many of what: its laws, and groups as Megatron's own sources have them."""

import re
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from weighbridge.settings.ranks import (
    MOST,
    OF_A_COPY,
    ORDER,
    SETTINGS,
    SHAPE,
    SIZES,
    Ranks,
    arranged,
)

SMALL = st.integers(1, 4)
RANKS = st.builds(
    Ranks, data=SMALL, tensor=SMALL, pipeline=SMALL, context=SMALL, per_machine=st.integers(1, 9)
)


@given(ranks=RANKS)
def test_the_cards_of_ranks_have_the_same_ranks(ranks):
    others = {kind: getattr(ranks, kind) for kind in SETTINGS if kind != "data"}
    assert Ranks(**others).over(ranks.cards) == ranks
    assert Ranks.of(ranks.settings(*SETTINGS)) == ranks
    assert not list(ranks.contradictions(ranks.cards))


@given(ranks=RANKS)
def test_groups_of_a_kind_have_each_card_once(ranks):
    for kind in ORDER:
        groups = {ranks.together(kind, card) for card in range(ranks.cards)}
        assert sorted(card for group in groups for card in group) == list(range(ranks.cards))
        assert {len(group) for group in groups} == {getattr(ranks, kind)}
        assert all(card in ranks.together(kind, card) for card in range(ranks.cards))
        assert max(max(group) - min(group) for group in groups) < ranks.span(kind)


@given(ranks=RANKS, copies=SMALL)
def test_copies_and_what_shares_each_are_all_that_have_the_same(ranks, copies):
    wide = Ranks(data=ranks.data * copies, context=ranks.context, replicas=copies)
    assert wide.sharing * copies == wide.among == ranks.among * copies


def test_groups_of_sixteen_cards_are_those_of_megatron():
    """core/parallel_state.py, initialize_model_parallel: its example of 16 cards."""
    ranks = Ranks(tensor=2, pipeline=4).over(16)
    assert ranks.data == 2
    assert [list(ranks.together("data", card)) for card in (0, 1, 4)] == [[0, 2], [1, 3], [4, 6]]
    assert list(ranks.together("tensor", 3)) == [2, 3]
    assert list(ranks.together("pipeline", 5)) == [1, 5, 9, 13]
    assert [ranks.span(kind) for kind in ORDER] == [2, 2, 4, 16]


@pytest.mark.parametrize(
    ("ranks", "local", "machines"),
    [
        (Ranks(), 1, 1),
        (Ranks(data=12), 8, 2),
        (Ranks(data=20), 8, 4),  # five on each
        (Ranks(data=8, per_machine=4), 4, 2),
    ],
)
def test_a_machine_has_eight_where_nobody_says(ranks, local, machines):
    assert (ranks.local, ranks.machines) == (local, machines)


def test_settings_are_read_by_their_names():
    said = {"tensor_parallel_size": 2, "data_parallel_size": None, "ranks_per_machine": 4}
    assert Ranks.of(said) == Ranks(tensor=2, per_machine=4)
    assert Ranks.of({"tensor_parallel_size": 0, "context_parallel_size": "2"}) == Ranks()
    assert next(iter(Ranks(data=3).settings().items())) == ("data_parallel_size", 3)
    assert list(Ranks().settings()) == list(SIZES.values())
    assert (*OF_A_COPY, "expert") == SHAPE


@all_of(
    ("ranks", "cards", "settings", "says"),
    [
        (Ranks(tensor=2), 7, "tensor_parallel_size", "on 2 devices, and 7 .* name 6 devices"),
        (Ranks(tensor=4), 3, "tensor_parallel_size", "name 4 devices"),
        (Ranks(data=MOST + 1), None, "data_parallel_size", "65,537 ranks: 65,536 are"),
        (Ranks(data=16, replicas=3), None, "data_parallel_replicas", "3 does not divide the 16"),
        (Ranks(data=8, expert=9), None, "expert_parallel_size", "9 is more than the 8"),
        (Ranks(data=4, tensor=2, expert=3), None, "expert_parallel_size", "divide the 8 ranks"),
    ],
)
def test_what_cannot_be_names_its_settings(ranks, cards, settings, says):
    (wrong,) = ranks.contradictions(cards)
    assert settings in wrong.settings
    assert re.search(says, wrong.why)


def test_the_most_ranks_are_none_too_many():
    assert not list(Ranks(data=MOST).contradictions())


@given(ranks=RANKS, cards=st.integers(1, 400))
def test_what_cards_leave_is_never_more_than_they_are(ranks, cards):
    left = ranks.over(cards)
    assert left.cards <= max(cards, ranks.copy)
    assert left.cards + left.copy > cards
    assert prod(getattr(left, kind) for kind in ORDER) == left.cards


def test_every_way_to_arrange_cards_uses_all_of_them():
    choices = {"tensor": (1, 2, 4), "pipeline": (1, 3), "context": (1, 2), "expert": (1, 4, 8)}
    found = list(arranged(Ranks(per_machine=4), 24, choices))
    assert {(ranks.cards, ranks.per_machine) for ranks in found} == {(24, 4)}
    assert {ranks.tensor * ranks.pipeline * ranks.context for ranks in found} == {
        *(1, 2, 4, 8),
        *(3, 6, 12, 24),
    }
    assert not [r for ranks in found for r in ranks.contradictions(24)]
    assert len(found) == len(set(found)) == 36  # of 4 and 8 experts all ranks of a stage are some
    assert not list(arranged(Ranks(), 10, {**choices, "tensor": (4,)}))

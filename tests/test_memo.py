"""What is kept of a record: made once, with its facts, no more than so much, as long as it lives."""

import gc
import weakref
from dataclasses import dataclass, replace

import pytest

from weighbridge.base.memo import MOST, memo


@dataclass(frozen=True)
class Record:
    name: str = "a"


def counter():
    asked = []
    return asked, lambda fact: asked.append(fact) or object()


def test_it_is_made_once_for_a_record_and_facts():
    asked, make = counter()
    one = Record()
    first = memo(one, ("x", 1), lambda: make("x1"))
    assert memo(one, ("x", 1), lambda: make("x1")) is first
    assert memo(one, ("x", 2), lambda: make("x2")) is not first
    assert asked == ["x1", "x2"]


@pytest.mark.parametrize("made", [None, 0, ()])
def test_what_is_made_may_be_nothing(made):
    asked = []
    one = Record()
    for _ in range(2):
        assert memo(one, (), lambda: asked.append(1) or made) == made
    assert asked == [1]


def test_an_equal_record_has_its_own():
    one = Record()
    first = memo(one, (), object)
    for other in (Record(), replace(one)):
        assert other == one
        assert memo(other, (), object) is not first


def test_keeping_changes_no_record():
    one = Record()
    memo(one, (), object)
    assert one == Record()
    assert hash(one) == hash(Record())
    assert repr(one) == repr(Record())


def test_the_one_that_nobody_asked_for_goes_first():
    asked, make = counter()
    one = Record()
    for fact in range(MOST):
        memo(one, (fact,), object)
    memo(one, (0,), lambda: make("again"))  # asked for just now
    memo(one, (MOST,), lambda: make(MOST))  # one too many
    memo(one, (0,), lambda: make("again"))
    assert "again" not in asked
    memo(one, (1,), lambda: make("gone"))
    assert asked[-1] == "gone"


@pytest.mark.slow
def test_it_goes_with_its_record():
    """Also where what was made holds the record."""

    def known():
        one = Record()
        memo(one, ("circle",), lambda: [one])
        return weakref.ref(memo(one, (), lambda: Record("made")))

    found = known()
    gc.collect()
    assert found() is None


def test_a_record_with_slots_cannot_keep():
    with pytest.raises(TypeError):
        memo((), (), object)

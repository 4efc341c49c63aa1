"""Records beside the dataclasses of the standard library, which they stand for."""

import copy
import dataclasses
import pickle
import typing
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from tests.cases import all_of
from weighbridge.base import records

T = TypeVar("T")
WAYS = [
    {"frozen": frozen, "slots": slots, "kw_only": kw_only, "eq": eq}
    for frozen in (False, True)
    for slots in (False, True)
    for kw_only in (False, True)
    for eq in (False, True)
]


def plain(home: Any, **way: Any) -> type:
    @home.dataclass(**way)
    class Plain:
        """A record."""

        TABLE: ClassVar[dict[str, int]] = {"a": 1}

        a: int
        b: str = "x"
        c: list[int] = home.field(default_factory=list)
        d: str = home.field(default="secret", repr=False)

        @property
        def twice(self) -> int:
            return 2 * self.a

    return Plain


@all_of("way", WAYS, ids=str)
def test_a_record_behaves_as_a_dataclass(way):
    ours, theirs = plain(records, **way), plain(dataclasses, **way)
    seen = []
    for kind in (ours, theirs):
        one, same, other = kind(a=1), kind(a=1), kind(a=1, b="y", c=[3])
        assert one.c is not same.c
        seen.append(
            [
                *(repr(one), repr(other), one.a, one.b, one.c, one.d, one.twice, kind.TABLE),
                *(one == same, one == other, one != other, one == 1, one == one),
                hasattr(one, "__dict__"),
                *("a" in vars(kind), kind.__doc__, kind.__qualname__, kind.__match_args__),
                kind.__hash__ is None,
                [f.name for f in dataclasses.fields(one)],
                dataclasses.asdict(other),
                dataclasses.replace(other, a=5).a,
                copy.deepcopy(other).c,
            ]
        )
        if not way["kw_only"]:
            assert repr(kind(1, "y", [3])) == repr(other)
        for wrong in ({}, {"a": 1, "nothing": 2}):
            with pytest.raises(TypeError, match=r"Plain.__init__\(\)"):
                kind(**wrong)
        if way["kw_only"]:
            with pytest.raises(TypeError, match="positional"):
                kind(1)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("slots", [False, True])
def test_a_frozen_record_keeps_its_values(slots):
    one = plain(records, frozen=True, slots=slots)(a=1)
    for change in (lambda: setattr(one, "a", 2), lambda: delattr(one, "a")):
        with pytest.raises(AttributeError, match="Plain is frozen: a keeps its value"):
            change()
    assert one.a == 1


def test_a_record_that_is_not_frozen_changes():
    one = plain(records, slots=True)(a=1)
    one.a = 2
    assert one.a == 2


def test_equal_frozen_records_are_one_key_and_kinds_are_told_apart():
    @records.dataclass(frozen=True, slots=True)
    class Wide:
        n: int

    @records.dataclass(frozen=True, slots=True)
    class Long:
        n: int

    assert {Wide(1): "a"}[Wide(1)] == "a"
    assert len({Wide(1), Wide(1), Long(1), Wide(2)}) == 3
    assert Wide(1) != Long(1)


@pytest.mark.parametrize("home", [records, dataclasses], ids=["records", "dataclasses"])
@pytest.mark.parametrize("slots", [False, True])
def test_fields_of_a_base_come_first(home, slots):
    @home.dataclass(frozen=True, slots=slots, kw_only=True)
    class Base:
        a: int = 1

    @home.dataclass(frozen=True, slots=slots, kw_only=True)
    class More(Base):
        b: int

        def __post_init__(self) -> None:
            if self.b < 0:
                raise ValueError("below 0")

    @home.dataclass(frozen=True, slots=slots, kw_only=True)
    class Other(Base):
        a: int = 7

    assert repr(More(b=2)).endswith("More(a=1, b=2)")
    assert (home.replace(More(b=2), a=3).a, Other().a, Base().a) == (3, 7, 1)
    assert More(b=2) != Base()
    with pytest.raises(ValueError, match="below 0"):
        More(b=-1)


@pytest.mark.parametrize("home", [records, dataclasses], ids=["records", "dataclasses"])
def test_below_a_line_fields_are_named(home):
    @home.dataclass(frozen=True)
    class Half:
        a: int
        _: home.KW_ONLY
        b: int = 2

    assert (Half(1).b, Half(1, b=3).b) == (2, 3)
    assert Half.__match_args__ == ("a",)
    with pytest.raises(TypeError, match="positional"):
        Half(1, 3)


@pytest.mark.parametrize("home", [records, dataclasses], ids=["records", "dataclasses"])
def test_what_a_class_defines_stays(home):
    @home.dataclass(frozen=True)
    class Own(Generic[T]):
        value: T

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        @cached_property
        def made(self) -> list[int]:
            return [1]

    one = Own[int](3)
    assert (repr(one), one == 5, hash(one) == hash(Own(3))) == ("own", True, True)
    assert one.made is one.made


@records.dataclass(frozen=True, slots=True)
class Sent:
    a: int
    b: tuple[int, ...] = ()


@records.dataclass(frozen=True)
class SentWhole:
    a: int


@pytest.mark.parametrize("one", [Sent(1, (2,)), SentWhole(3)], ids=repr)
def test_a_record_goes_to_another_process(one):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(one, protocol)) == one
    assert copy.copy(one) == one


def test_names_of_fields():
    assert records.fields_of(Sent(1)) == ("a", "b")
    assert records.fields_of((1, 2)) == records.fields_of(Sent) == ()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_hundredth_is_made_as_the_first(way):
    """What makes a record is written when many were made: both ways say the same."""
    kind = plain(records, **way)
    calls = [
        ({"a": 1}, None),
        ({"a": 1, "c": [2]}, None),
        ({"a": 1, "b": "y", "d": "z", "c": []}, None),
        ({}, "missing 1 required"),
        ({"b": "x"}, "missing 1 required"),
        ({"a": 1, "e": 2}, "unexpected keyword argument 'e'"),
    ]
    for given, wrong in calls:
        seen = set()
        for fresh in range(2 * records.FEW):
            kind = plain(records, **way) if fresh == 0 else kind
            if wrong:
                with pytest.raises(TypeError, match=wrong) as error:
                    kind(**given)
                seen.add(str(error.value))
            else:
                one = kind(**given)
                seen.add((repr(one), one.d, one.a, one.b, tuple(one.c)))
        assert len(seen) == 1
    if not way["kw_only"]:
        for _ in range(2 * records.FEW):
            with pytest.raises(TypeError, match="multiple values for argument 'a'"):
                plain(records, **way)(1, a=1)
            with pytest.raises(TypeError, match="takes from 2 to 5 positional arguments"):
                plain(records, **way)(1, "x", [], "y", 5)


# Named tuples


def pair(home):
    class Pair(home.NamedTuple):
        """Two."""

        a: int
        b: str = "x"

        @property
        def twice(self) -> int:
            return 2 * self.a

        @classmethod
        def of(cls, text: str) -> "Pair":
            return cls(len(text), text)

    return Pair


@pytest.mark.parametrize("times", [1, 2 * records.FEW])
def test_a_named_tuple_behaves_as_the_standard_one(times):
    seen = []
    for home in (records, typing):
        kind = pair(home)
        for _ in range(times):
            one = kind(1)
            other = kind(b="y", a=2)
        made = [
            *(repr(one), repr(other), one.a, one.b, other[1], one.twice, kind.of("abc")),
            *(one == (1, "x"), hash(one) == hash((1, "x")), len(one), [*one], one < other),
            *(kind._fields, kind._field_defaults, kind.__match_args__, kind.__doc__),
            *(kind._make([3, "z"]), one._replace(b="w"), one._asdict()),
            *(
                isinstance(one, tuple),
                hasattr(one, "__dict__"),
                kind.__qualname__,
                kind.__mro__[1:],
            ),
            *(copy.copy(other), copy.deepcopy(other), type(copy.copy(one)) is kind),
        ]
        for wrong in ({}, {"a": 1, "c": 2}, {"b": 1}):
            with pytest.raises(TypeError) as error:
                kind(**wrong)
            made.append(str(error.value).replace("Pair.", "").replace("test_", ""))
        with pytest.raises(TypeError, match="Expected 2 arguments, got 3"):
            kind._make([1, 2, 3])
        with pytest.raises(ValueError, match="unexpected field names"):
            one._replace(c=1)
        with pytest.raises(TypeError, match="from 2 to 3 positional"):
            kind(1, "x", 2)
        with pytest.raises(TypeError, match="multiple values"):
            kind(1, a=1)
        with pytest.raises(AttributeError):
            one.a = 2
        with pytest.raises(AttributeError):
            one.new = 2
        seen.append(made)
    ours, theirs = seen
    assert [str(x).replace("pair.<locals>.", "") for x in ours] == [
        str(x).replace("pair.<locals>.", "") for x in theirs
    ]


class SentPair(records.NamedTuple):
    a: int
    b: tuple[int, ...] = ()


def test_a_named_tuple_goes_to_another_process():
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(SentPair(1, (2,)), protocol))
        assert (again, type(again)) == (SentPair(1, (2,)), SentPair)


@pytest.mark.parametrize("home", [records, typing], ids=["records", "typing"])
def test_a_named_tuple_of_any_type_and_one_with_its_own_words(home):
    class Held(home.NamedTuple, Generic[T]):
        value: T

        def __repr__(self) -> str:
            return "held"

    one = Held[int](3)
    assert (repr(one), one.value, one) == ("held", 3, (3,))
    assert issubclass(Held, tuple)


@pytest.mark.parametrize("home", [records, typing], ids=["records", "typing"])
def test_a_place_may_have_the_name_of_a_parameter(home):
    class Named(home.NamedTuple):
        cls: int
        make: int = 2

    for _ in range(2 * records.FEW):
        assert Named(cls=1) == Named(1, 2) == (1, 2)


@pytest.mark.parametrize("home", [records, dataclasses], ids=["records", "dataclasses"])
def test_a_field_may_have_the_name_of_a_parameter(home):
    @home.dataclass(frozen=True, slots=True)
    class Named:
        kind: int
        args: int = 2
        given: list[int] = home.field(default_factory=list)

    for _ in range(2 * records.FEW):
        assert Named(kind=1, args=3) == Named(1, 3, [])

"""A card as rules of memory see it: what they say of it is noted, and tells which cards are alike.

    @fact
    def blackwell(budget): ...            a rule: something that is asked of a card
    by_card(case, (tokens,), card, make)  what `make` gave for a card that is alike, or gives now

`make` is handed a `SeenCard`, which tells nothing but what facts say of the card, and notes each of
them. For the next card the same facts are asked in the same order, and where all say the same, the
answer is the same. What a card holds and is called is asked where it matters, outside of `make`.
Training does so with the rules of kernels: forward/machine.py, KernelFacts.
"""

from collections.abc import Callable, Hashable
from functools import update_wrapper
from threading import Lock
from typing import Any, Concatenate, ParamSpec, TypeVar, Union

from weighbridge.base.memo import memo
from weighbridge.base.records import NamedTuple
from weighbridge.machines.accelerators.budget import Budget

MOST = 256  # answers for cards that are not alike, about one record
Made = TypeVar("Made")
Said = TypeVar("Said")
Given = ParamSpec("Given")
Rule = Callable[..., Any]
Card = Union[Budget, "SeenCard", None]  # None where no card was named


class AskedFact(NamedTuple):
    """A rule, and what it is asked beside the card."""

    rule: Rule
    given: tuple[Hashable, ...]

    def of(self, card: "Budget | SeenCard") -> Any:
        if isinstance(card, SeenCard):
            return card.says(self)
        return self.rule(card, *self.given)


def fact(
    rule: Callable[Concatenate[Budget | None, Given], Said],
) -> Callable[Concatenate[Card, Given], Said]:
    """Make a rule about a card one that may be asked of a `SeenCard`, too. It says what can be
    compared and hashed."""

    def asked(card: Card, /, *given: Given.args, **named: Given.kwargs) -> Said:
        if not isinstance(card, SeenCard):
            return rule(card, *given, **named)
        assert not named, "what a rule is asked is told by place"
        said: Said = card.says(AskedFact(rule, given))
        return said

    return update_wrapper(asked, rule)


class SeenCard:
    """A card of which facts alone are asked. Each is noted, in the order in which it was first
    asked, until the answer is made; what was not noted then is not told any more, since the answer
    is that of other cards, too. With a number it is like that one of cards that differ, and what is
    asked of it is noted of all."""

    __slots__ = ("_card", "_made", "_notes", "_number")

    def __init__(self, card: "Budget | SeenCard", number: int | None = None) -> None:
        self._card, self._number = card, number
        self._notes: dict[AskedFact, Any] = {}
        self._made = False

    def says(self, asked: AskedFact) -> Any:
        if self._number is not None:
            return AskedFact(_of_one, (self._number, asked)).of(self._card)
        if asked not in self._notes:
            if self._made:
                raise RuntimeError(f"{asked.rule.__name__} is asked after the answer was made")
            self._notes[asked] = asked.of(self._card)
        return self._notes[asked]

    def like(self, number: int) -> "SeenCard":
        """Return as many cards, each like number `number`: itself where all are alike."""
        return SeenCard(self, number) if mixed(self) else self

    def ended(self) -> dict[AskedFact, Any]:
        """Return what was noted, with which the answer is made."""
        self._made = True
        return self._notes


def _of_one(every: Budget, number: int, asked: AskedFact) -> Any:
    return asked.of(every.like(number))


@fact
def mixed(budget: Budget | None) -> bool:
    """Tell whether cards differ."""
    return budget is not None and budget.mixed


@fact
def first_alike(budget: Budget | None, number: int) -> int:
    """Return the number of the first card that is like that one in all that is known of it."""
    if budget is None or not budget.mixed:
        return 0
    kinds = [
        (one.part.id, one.part.name, one.room)
        for one in (budget.like(n).choice for n in range(number + 1))
    ]
    return kinds.index(kinds[number])


class _Next(NamedTuple):
    """The fact that is asked next, and where what it says leads: to another one, or an answer."""

    asked: AskedFact
    leads: dict[Any, Any]


class _End(NamedTuple):
    """An answer. It is that of all cards of which every fact on the way here says the same."""

    made: Any


class KeptByCard:
    """Answers about one record: by what was asked beside the card, and then by what facts say.
    Where there are more than MOST, those to the question that was not asked for the longest time
    go."""

    def __init__(self) -> None:
        self._first: dict[Hashable, _Next | _End] = {}
        self._counts: dict[Hashable, int] = {}
        self._turn = Lock()

    def of(
        self, question: Hashable, card: "Budget | SeenCard", make: Callable[[SeenCard], Made]
    ) -> Made:
        """Return what was made for a card that is alike, or make it."""
        found = self._first.get(question)
        while isinstance(found, _Next):
            found = found.leads.get(found.asked.of(card))
        if found is not None:
            with self._turn:
                if question in self._counts:
                    self._counts[question] = self._counts.pop(question)  # the last in order
            return found.made  # type: ignore[no-any-return]
        seen = SeenCard(card)
        made = make(seen)
        self._keep(question, list(seen.ended().items()), made)
        return made

    def _keep(self, question: Hashable, notes: list[tuple[AskedFact, Any]], made: Any) -> None:
        with self._turn:
            self._counts[question] = self._counts.pop(question, 0) + 1
            while sum(self._counts.values()) > MOST:
                oldest = next(iter(self._counts))
                del self._counts[oldest]
                self._first.pop(oldest, None)
            if question not in self._counts:  # it alone has too many
                self._counts[question] = 1
            place: dict[Any, Any] = self._first
            key: Hashable = question
            for asked, said in notes:
                known = place.get(key)
                if not isinstance(known, _Next) or known.asked != asked:
                    known = place[key] = _Next(asked, {})
                place, key = known.leads, said
            place[key] = _End(made)


def by_card(
    owner: object,
    question: tuple[Hashable, ...],
    card: "Budget | SeenCard | None",
    make: Callable[[Card], Made],
) -> Made:
    """Return what was made of this record for a card that is alike, or make it. `make` must depend
    on nothing else than the record, the question and the facts that it asks of the card it gets.
    The owner is a record without slots."""
    if card is None:
        return memo(owner, ("no card", *question), lambda: make(None))
    return memo(owner, ("by card",), KeptByCard).of(question, card, make)

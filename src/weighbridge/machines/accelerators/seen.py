"""A card as memory rules see it: the facts that they use are recorded, and show which are alike.

    @fact
    def blackwell(budget): ...            a rule: a function of a card
    by_card(case, (tokens,), card, make)  what `make` returned for an alike card, or returns now

`make` gets a `SeenCard`, which gives only facts of the card, and records each. For the next card
the same facts are compared in the same order; if all are equal, the answer is the same. The card's
memory and name are read outside of `make`, where they matter. Training does so with the rules of
kernels: forward/machine.py, KernelFacts.
"""

from collections.abc import Callable, Hashable
from functools import update_wrapper
from threading import Lock
from typing import Any, Concatenate, ParamSpec, TypeVar, Union

from weighbridge.base.memo import memo
from weighbridge.base.records import NamedTuple
from weighbridge.machines.accelerators.budget import Budget

MOST = 256  # answers for unlike cards, per record
Made = TypeVar("Made")
Said = TypeVar("Said")
Given = ParamSpec("Given")
Rule = Callable[..., Any]
Card = Union[Budget, "SeenCard", None]  # None if the user named no card


class AskedFact(NamedTuple):
    """A rule, and its arguments other than the card."""

    rule: Rule
    given: tuple[Hashable, ...]

    def of(self, card: "Budget | SeenCard") -> Any:
        if isinstance(card, SeenCard):
            return card.says(self)
        return self.rule(card, *self.given)


def fact(
    rule: Callable[Concatenate[Budget | None, Given], Said],
) -> Callable[Concatenate[Card, Given], Said]:
    """Return a rule about a card that also accepts a `SeenCard`. Its result must be comparable and
    hashable."""

    def asked(card: Card, /, *given: Given.args, **named: Given.kwargs) -> Said:
        if not isinstance(card, SeenCard):
            return rule(card, *given, **named)
        assert not named, "what a rule is asked is told by place"
        said: Said = card.says(AskedFact(rule, given))
        return said

    return update_wrapper(asked, rule)


class SeenCard:
    """A card that only gives facts and records each, until the answer is made; then it gives no new
    ones, since the answer is also for other cards. With a number, it is like one of several
    different cards, and its facts are recorded for all."""

    __slots__ = ("_card", "_made", "_notes", "_number")

    def __init__(self, card: "Budget | SeenCard", number: int | None = None) -> None:
        self._card, self._number = card, number
        self._notes: dict[AskedFact, Any] = {}
        self._made = False

    def says(self, asked: AskedFact) -> Any:
        if self._number is not None:
            return AskedFact(_fact_of_card, (self._number, asked)).of(self._card)
        if asked not in self._notes:
            if self._made:
                raise RuntimeError(f"{asked.rule.__name__} is asked after the answer was made")
            self._notes[asked] = asked.of(self._card)
        return self._notes[asked]

    def like(self, number: int) -> "SeenCard":
        """Return as many cards, each like number `number`; itself if all are alike."""
        return SeenCard(self, number) if mixed(self) else self

    def ended(self) -> dict[AskedFact, Any]:
        """Return the recorded facts, and end the recording, since the answer is made."""
        self._made = True
        return self._notes


def _fact_of_card(every: Budget, number: int, asked: AskedFact) -> Any:
    return asked.of(every.like(number))


@fact
def mixed(budget: Budget | None) -> bool:
    """Return whether cards of the budget differ."""
    return budget is not None and budget.mixed


@fact
def first_alike(budget: Budget | None, number: int) -> int:
    """Return the index of the first card with the part, name and room of card `number`."""
    if budget is None or not budget.mixed:
        return 0
    kinds = [
        (one.part.id, one.part.name, one.room)
        for one in (budget.like(n).choice for n in range(number + 1))
    ]
    return kinds.index(kinds[number])


class _Next(NamedTuple):
    """The next fact to compare, and where each value of it leads: another one, or an answer."""

    asked: AskedFact
    leads: dict[Any, Any]


class _End(NamedTuple):
    """An answer for all cards that agree in the facts on the path to it."""

    made: Any


class KeptByCard:
    """Cached answers about one record, by question and by facts of the card. Beyond MOST, the
    question unused for longest is dropped."""

    def __init__(self) -> None:
        self._first: dict[Hashable, _Next | _End] = {}
        self._counts: dict[Hashable, int] = {}
        self._turn = Lock()

    def of(
        self, question: Hashable, card: "Budget | SeenCard", make: Callable[[SeenCard], Made]
    ) -> Made:
        """Return the cached answer for an equal card, or make it."""
        found = self._first.get(question)
        while isinstance(found, _Next):
            found = found.leads.get(found.asked.of(card))
        if found is not None:
            with self._turn:
                if question in self._counts:
                    self._counts[question] = self._counts.pop(question)  # moved to the end
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
            if question not in self._counts:  # this question by itself exceeds MOST
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
    """Return what `make` returned for `owner` and an equal card, or make it. `make` must depend
    only on the owner, the question and facts of the card that it gets. The owner is a record
    without slots."""
    if card is None:
        return memo(owner, ("no card", *question), lambda: make(None))
    return memo(owner, ("by card",), KeptByCard).of(question, card, make)

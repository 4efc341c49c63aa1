"""Bytes that depend on the card, in a program that is otherwise the same on every card: recorded.py
repeats it for another card with that card's bytes."""

from typing import Any


class CardBytes(int):
    """Bytes that a rule computes for a card. `origin`: the rule with its arguments, and which of
    its sizes this is."""

    origin: tuple[Any, int]

    @classmethod
    def of(cls, nbytes: int, origin: tuple[Any, int]) -> "CardBytes":
        made = cls(nbytes)
        made.origin = origin
        return made


def nothing(nbytes: int) -> bool:
    """Return whether a size is 0 on this card but may not be on another."""
    return not nbytes and isinstance(nbytes, CardBytes)

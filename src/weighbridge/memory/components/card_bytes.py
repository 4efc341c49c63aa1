"""Bytes that a rule says of a card, in a program that does not depend on them: another card may be
asked for the same with other bytes (recorded.py)."""

from typing import Any


class CardBytes(int):
    """Bytes that a rule says of a card: `origin` is the rule, what it was asked, and which of the
    sizes it gave."""

    origin: tuple[Any, int]

    @classmethod
    def of(cls, nbytes: int, origin: tuple[Any, int]) -> "CardBytes":
        made = cls(nbytes)
        made.origin = origin
        return made


def nothing(nbytes: int) -> bool:
    """Tell whether it is nothing on this card, and may be something on another one."""
    return not nbytes and isinstance(nbytes, CardBytes)

"""Names that are spelled nearly as one that is not known."""

from collections.abc import Iterable

LONGEST = 80  # characters of a name that are compared: the time goes with their square
ALIKE = 0.6  # of two names: twice the characters that they share, of both (difflib's own)


def spelled_like(
    name: str, known: Iterable[str], most: int = 1, *, least: float = ALIKE
) -> list[str]:
    """Return the names that are spelled most like one, the nearest first."""
    from difflib import get_close_matches  # what is spelled right does without

    return get_close_matches(name[:LONGEST], [*known], most, least)

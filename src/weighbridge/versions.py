"""Versions of libraries as people write them."""

import re


def numbers(text: str | None) -> tuple[int, ...] | None:
    """(0, 43, 1) of "0.43.1.dev0", at most three numbers; None of None and of what is none."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(n) for n in match.groups() if n) if match else None


def release(text: str) -> tuple[int, int] | None:
    """Read (2, 5) of "2.5.1+cu124"; None where it is no version."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


DATES = {  # torchtitan's tags
    (0, 1): (2025, 6, 17),
    (0, 2): (2025, 10, 17),
    (0, 2, 1): (2025, 12, 26),
    (0, 2, 2): (2026, 2, 20),
}


def dated(text: str) -> tuple[int, ...] | None:
    """(2025, 4, 2) of "2025-04-02", (2025, 4) of "2025-04"; a tag of torchtitan by its date."""
    match = re.fullmatch(r"(20\d\d)[-.](\d{1,2})(?:[-.](\d{1,2}))?", text)
    if match:
        return tuple(int(n) for n in match.groups() if n is not None)
    tag = numbers(text)
    return None if tag is None else DATES.get(tag, DATES.get(tag[:2]))


def since(release: tuple[int, ...] | None, date: tuple[int, ...]) -> bool:
    """Tell whether a release is of `date` or newer; None is the newest."""
    return release is None or release >= date

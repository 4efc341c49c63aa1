"""Versions of libraries as people write them."""

import re
from collections.abc import Mapping


def numbers(text: str | None) -> tuple[int, ...] | None:
    """Return (0, 43, 1) for "0.43.1.dev0", at most three numbers; None if it is no version."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(n) for n in match.groups() if n) if match else None


def release(text: str) -> tuple[int, int] | None:
    """Return (2, 5) for "2.5.1+cu124"; None if it is no version."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def dated(text: str, whose: str = "") -> tuple[int, ...] | None:
    """Return (2025, 4, 2) for "2025-04-02", (2025, 4) for "2025-04", or the date of a release of
    `whose`; None for others."""
    match = re.fullmatch(r"(20\d\d)[-.](\d{1,2})(?:[-.](\d{1,2}))?", text)
    if match:
        return tuple(int(n) for n in match.groups() if n is not None)
    tag = numbers(text)
    tags = DATES.get(whose, {})
    return None if tag is None else tags.get(tag, tags.get(tag[:2]))


def since(release: tuple[int, ...] | None, date: tuple[int, ...]) -> bool:
    """Return whether a release is from `date` or newer; None stands for the newest."""
    return release is None or release >= date


# torchtitan: its tags; Megatron-core: pypi.org/project/megatron-core, the first of each release
_DATES = {
    "torchtitan": """
0.1 2025-06-17
0.2 2025-10-17
0.2.1 2025-12-26
0.2.2 2026-02-20
""",
    "megatron": """
0.10 2025-02-17
0.11 2025-03-14
0.12 2025-05-06
0.13 2025-07-25
0.14 2025-10-08
0.15 2025-12-18
0.16 2026-02-26
0.17 2026-04-16
0.18 2026-06-22
0.19 2026-08-19
""",
}
DATES: Mapping[str, Mapping[tuple[int, ...], tuple[int, ...]]] = {
    whose: {
        numbers(tag) or (): dated(day) or ()
        for tag, day in map(str.split, table.strip().splitlines())
    }
    for whose, table in _DATES.items()
}

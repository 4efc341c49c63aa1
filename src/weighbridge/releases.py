"""Versions of libraries as people write them."""

import re


def numbers(text: str) -> tuple[int, ...] | None:
    """(0, 43, 1) of "0.43.1.dev0", at most three numbers; None where it is no version."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(n) for n in found.groups() if n) if found else None


def release(text: str) -> tuple[int, int] | None:
    """(2, 5) of "2.5.1+cu124"; None where it is no version."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def patched(text: str | None) -> tuple[int, ...] | None:
    """(0, 13, 5) of "0.13.5", (0, 13) of "0.13"; None of None and where it is no version."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(n) for n in found.groups() if n is not None) if found else None

"""Files in the user's cache folder. One that cannot be read or written is as if there were none."""

import os


def path(name: str) -> str:
    """Return the path of one of our files in the user's cache folder (XDG base directories:
    $XDG_CACHE_HOME if it is an absolute path, else ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "weighbridge", name)


def write(file: str, text: str) -> None:
    """Write a file atomically: another process sees all of it or nothing. Raises OSError."""
    temporary = f"{file}.{os.getpid()}"
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(temporary, "w", encoding="utf-8") as opened:
        opened.write(text)
    os.replace(temporary, file)

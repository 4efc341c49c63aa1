"""Patterns of files, as weighbridge.toml has them: a path in a folder, with wildcards.

    *  ?  [ab]    any characters of one name, one of them, one of these
    **/           any number of folders, none too
    **            at the end: every file below

A file that is named by hand and one that is found in its folder match alike.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

FOLDERS = "**"


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether `name`, a relative path with slashes, matches one of the patterns."""
    parts = PurePosixPath(name).parts
    return ".." not in parts and any(
        _alike(parts, PurePosixPath(_whole(pattern)).parts) for pattern in patterns
    )


def below(folder: Path, patterns: Sequence[str]) -> Iterator[str]:
    """Yield the files below `folder` that match a pattern, as relative paths in sorted order."""
    paths = {path for pattern in patterns for path in folder.glob(_whole(pattern))}
    yield from sorted(path.relative_to(folder).as_posix() for path in paths if path.is_file())


def _whole(pattern: str) -> str:
    """Return a pattern that matches files: `a/**` becomes `a/**/*`."""
    return f"{pattern}/*" if pattern.endswith(FOLDERS) else pattern


def _alike(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether a path's names match a pattern's names, one by one."""
    if not wanted or not names:
        return not names and not wanted
    if wanted[0] == FOLDERS:
        return _alike(names, wanted[1:]) or _alike(names[1:], wanted)
    return fnmatchcase(names[0], wanted[0]) and _alike(names[1:], wanted[1:])

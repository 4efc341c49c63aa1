"""A hash of the files that answers of one family depend on: if it changes, they are asked again.

It covers the files of this package that such an answer may read, also those that read the headers
of local weights. Folders that only show answers are left out, and so are the rules of other
engines; all files that no list leaves out count.
"""

import re
from collections.abc import Iterator, Set
from functools import cache
from hashlib import sha256
from itertools import product
from pathlib import Path

from weighbridge.engines.table import FOLDERS, usual
from weighbridge.faces.scan.asking import MODEL

ROOT = Path(__file__).parent.parent.parent
ENDS = (".py", ".json", ".jsonl", ".txt")
# Folders and files that decide no answer about a config
ASIDE = frozenset(
    (
        *("faces", "files", "answers/remedies", "base/_version.py", "measure.py", "__init__.py"),
        *("__main__.py", "base/words/__init__.py", "base/words/settings.json"),
        *(f"base/words/{each}.json" for each in ("charts", "oom", "page", "screens")),
    )
)
NAMES = "models/catalogue"  # the folder whose entries few engines read
TRAINING, TRAINED = "training", "train"  # the folder, and the family that reads it
FORWARD = "forward"  # the folder of training that engines read, too
ROWS = "faces/scan/answers.py"
# Files of every engine that answers of others read: those for a question, those for a process that
# only loads a file, and those of formats, since a refusal names the engines that read one
EVERY = ("__init__.py", "settings.py", "process.py", "formats.py", "formats.txt", "releases.txt")
IMPORTED = re.compile(r"weighbridge\.engines\.(\w+)")
MODULE = re.compile(r"from weighbridge\.engines\.(\w+)\.(\w+) import")


@cache
def rules(family: str) -> str:
    """Return a hash of 12 hexadecimal digits, which changes if answers of a family may change."""
    digest = sha256()
    for path in files(family):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def files(family: str) -> Iterator[Path]:
    """Yield the files that answers of a family may read, in order."""
    folders = _engine_folders(family)
    others = set(FOLDERS.values()) - folders
    paths = set(_shared_files())
    entries = any(
        "weighbridge.models.catalogue" in text
        for folder in folders
        for text in _engine_sources(folder)
    )
    for path in sorted(ROOT.rglob("*")):
        place = path.relative_to(ROOT)
        wing, room, *_ = (*place.parts, "")
        if path.suffix not in ENDS or (_in(place, ASIDE) and place.as_posix() != ROWS):
            continue
        if _in(place, {NAMES}) and path.suffix != ".py" and not entries:
            continue
        if wing == "engines" and room in others and path not in paths:
            continue
        if wing != TRAINING or room == FORWARD or family == TRAINED:
            yield path


def _in(place: Path, rooms: Set[str]) -> bool:
    """Return whether a file of the package lies in one of `rooms`, or is one of them."""
    return not rooms.isdisjoint(path.as_posix() for path in (place, *place.parents))


def _shared_files() -> Iterator[Path]:
    """Yield the files of every engine that answers of other engines read, and the modules that
    those import."""
    engines = ROOT / "engines"
    for folder, name in product(FOLDERS.values(), EVERY):
        path = engines / folder / name
        if path.exists():
            yield path
            yield from (engines / f / f"{m}.py" for f, m in MODULE.findall(path.read_text("utf-8")))


def _engine_folders(family: str) -> set[str]:
    """Return the folders of an engine and of the engines whose rules it imports. Loading and
    training use the default engine."""
    folders: set[str] = set()
    if family == MODEL:  # the config is read before any engine is asked
        return folders
    wanted = {FOLDERS.get(family, FOLDERS[usual().name])}
    while wanted:
        folder = wanted.pop()
        folders.add(folder)
        for text in _engine_sources(folder):
            wanted |= set(IMPORTED.findall(text)) & set(FOLDERS.values()) - folders
    return folders


def _engine_sources(folder: str) -> Iterator[str]:
    """Yield the Python sources of one engine."""
    for path in sorted((ROOT / "engines" / folder).rglob("*.py")):
        yield path.read_text("utf-8")

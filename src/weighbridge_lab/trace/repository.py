"""A repository, read: what its README starts, what of that is not here, and the memory that its
authors state. Nothing of it is run. Torch-free.
"""

import ast
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from weighbridge.base._version import __version__
from weighbridge.base.records import NamedTuple

SCHEMA = "weighbridge.trace-repository/1"
LONGEST = 1 << 20  # bytes of a file that is read
MOST = 12  # commands, and statements, that are told
DEEP = 200  # modules of the repository that are followed for their imports
STARTS = re.compile(
    r"^[\s$>]*(?:[A-Z_][A-Z0-9_]*=\S+\s+)*((?:python3?|torchrun|accelerate\s+launch)\s+.+)$"
)
TOOLS = ("-m pip", "setup.py", "-m venv", "-m build", "-m pytest", "-m unittest", "-c ")
MEMORY = re.compile(r"\b\d+(?:\.\d+)?\s*(?:GB|GiB|G)\b", re.IGNORECASE)
ABOUT = re.compile(r"VRAM|GPU|memory|A100|H100|V100|4090|3090|显存", re.IGNORECASE)
PATHLIKE = re.compile(r"[\w./-]+/[\w./-]+|[\w-]+\.(?:ya?ml|json|toml|pth?|ckpt|safetensors|npz?)")


class StartCommand(NamedTuple):
    """A command of a README: its place and words, packages and files of it that are not here."""

    place: str
    words: tuple[str, ...]
    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def trace(self) -> str:
        """Return the line that traces it."""
        stub = f"--stub {','.join(self.packages)} " if self.packages else ""
        return f"weighbridge trace --gpu NAME {stub}{shlex.join(self.words)}"


class Repository(NamedTuple):
    folder: str
    starts: tuple[StartCommand, ...]
    stated: tuple[tuple[str, str], ...]  # place and line

    def to_dict(self) -> dict[str, Any]:
        """Return the record, schema `weighbridge.trace-repository/1`."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "folder": self.folder,
            "starts": [one._asdict() | {"trace": one.trace} for one in self.starts],
            "stated": [{"place": place, "line": line} for place, line in self.stated],
        }


def read(folder: str) -> Repository:
    root = Path(folder)
    starts: list[StartCommand] = []
    stated: list[tuple[str, str]] = []
    for path in _readmes(root):
        for number, line in _lines(path):
            match = STARTS.match(line)
            place = f"{path.relative_to(root)}:{number}"
            if match is not None:
                starts += _start(root, place, match[1])
            elif MEMORY.search(line) and ABOUT.search(line):
                stated.append((place, " ".join(line.split())[:160]))
    distinct: dict[tuple[str, ...], StartCommand] = {}
    for start in starts:
        distinct.setdefault(start.words, start)
    return Repository(folder, tuple(distinct.values())[:MOST], tuple(stated[:MOST]))


def _readmes(root: Path) -> list[Path]:
    names = sorted(path for path in root.iterdir() if path.is_file())
    readmes = [path for path in names if path.name.lower().startswith("readme")]
    docs = root / "docs"
    more = sorted(docs.glob("*.md"))[:MOST] if docs.is_dir() else []
    ours = [path for path in (*readmes, *more) if path.resolve().is_relative_to(root.resolve())]
    return [path for path in ours if path.stat().st_size <= LONGEST]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers; those that a backslash continues as one."""
    first, parts = 0, list[str]()
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        first = first if parts else number
        parts.append(line.rstrip().removesuffix("\\"))
        if not line.rstrip().endswith("\\"):
            yield first, " ".join(parts)
            parts = []


def _start(root: Path, place: str, command: str) -> Iterator[StartCommand]:
    words = _words(command.strip().strip("`"))
    script = next((word for word in words if word.endswith((".py", ".ipynb"))), "")
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    path = root / (script or f"{module.replace('.', '/')}.py")
    if not script and not module:
        return
    packages = tuple(sorted(_missing_packages(root, path))) if path.is_file() else ()
    files = tuple(dict.fromkeys(_missing_files(root, words)))
    yield StartCommand(place, words, packages, files)


def _words(command: str) -> tuple[str, ...]:
    """Split a command; () of one that starts no program of the repository."""
    try:
        words = tuple(shlex.split(command, comments=True))
    except ValueError:  # a quote without its end
        return ()
    return () if any(tool in command for tool in TOOLS) else words


def _missing_files(root: Path, words: Sequence[str]) -> Iterator[str]:
    for word in words[1:]:
        value = word.rpartition("=")[2]
        if PATHLIKE.fullmatch(value) and not value.startswith("-") and not (root / value).exists():
            yield value


def _missing_packages(root: Path, script: Path) -> set[str]:
    """Return packages that a script and the repository's own modules import, which are not here."""
    waiting, seen, missing = [script], set[Path](), set[str]()
    while waiting and len(seen) < DEEP:
        path = waiting.pop()
        if path in seen or path.stat().st_size > LONGEST:
            continue
        seen.add(path)
        for name in _imports(path):
            inside = _inside(root, script.parent, name)
            package = name.partition(".")[0]
            if inside is not None:
                waiting.append(inside)
            elif not _is_own(root, script.parent, package) and _absent(package):
                missing.add(package)
    return missing


def _inside(root: Path, folder: Path, name: str) -> Path | None:
    parts = name.split(".")
    for base in (folder, root, root / "src"):
        module = base.joinpath(*parts)
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path.is_file():
                return path
    return None


def _is_own(root: Path, folder: Path, package: str) -> bool:
    """Tell whether a folder of the repository has the name, with an `__init__.py` or without."""
    return any((base / package).is_dir() for base in (folder, root, root / "src"))


def _absent(package: str) -> bool:
    if package in sys.stdlib_module_names:
        return False
    try:
        return find_spec(package) is None
    except (ImportError, ValueError):
        return True


def _imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports at its top, unless it would do without them."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except (SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module

"""A repository as it is read: what its README starts, which parts of that are missing, and the
memory that its authors state. Nothing of it is run. Torch-free."""

import ast
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from weighbridge.base._version import __version__
from weighbridge.base.records import NamedTuple
from weighbridge_lab.trace.shell_lines import LONGEST as LONGEST_LINE
from weighbridge_lab.trace.shell_lines import SCRIPTS, ShellCommand, commands

SCHEMA = "weighbridge.trace-repository/1"
LONGEST = 1 << 20  # bytes of a file that is read
MOST = 12  # commands, and statements, that are listed
READ = 400  # commands that are looked at
MAKEFILE = "Makefile"
DEEP = 200  # modules of the repository that are followed for their imports
MEMORY = re.compile(r"\b\d+(?:\.\d+)?\s*(?:GB|GiB|G)\b", re.IGNORECASE)
ABOUT = re.compile(r"VRAM|GPU|memory|A100|H100|V100|4090|3090|显存", re.IGNORECASE)
PATHLIKE = re.compile(r"[\w./-]+/[\w./-]+|[\w-]+\.(?:ya?ml|json|toml|pth?|ckpt|safetensors|npz?)")


class StartCommand(NamedTuple):
    """A command in a README: its place and words, and the packages and files that are missing for
    it."""

    place: str
    words: tuple[str, ...]
    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def trace(self) -> str:
        """Return the command line that traces it."""
        stub = f"--stub {','.join(self.packages)} " if self.packages else ""
        return f"weighbridge trace --gpu NAME {stub}{shlex.join(self.words)}"


class Repository(NamedTuple):
    folder: str
    starts: tuple[StartCommand, ...]  # the first MOST
    stated: tuple[tuple[str, str], ...]  # place and line
    total: int = 0  # number of all commands

    @property
    def example(self) -> str:
        """Return a program in the folder, a notebook or a script; else "train.py"."""
        inside = sorted(path for path in Path(self.folder).iterdir() if path.suffix in SCRIPTS)
        return str(min(inside, key=_rank, default=Path(self.folder) / "train.py"))

    def to_dict(self) -> dict[str, Any]:
        """Return the record, schema `weighbridge.trace-repository/1`."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "folder": self.folder,
            "total": self.total,
            "starts": [one._asdict() | {"trace": one.trace} for one in self.starts],
            "stated": [{"place": place, "line": line} for place, line in self.stated],
        }


def _rank(path: Path) -> tuple[bool, bool]:
    """Return a sort key of programs: those that train first, then notebooks."""
    return "train" not in path.name, path.suffix != ".ipynb"


def read(folder: str) -> Repository:
    root = Path(folder)
    listed: dict[tuple[str, ...], tuple[str, ShellCommand]] = {}
    stated: list[tuple[str, str]] = []
    for path in _readmes(root):
        for place, line in _placed(root, path):
            started = list(_commands(root, place, line)) if len(listed) < READ else []
            for where, command in started:
                listed.setdefault((command.folder, *command.words), (where, command))
            short = len(line) <= LONGEST_LINE and not started
            if short and MEMORY.search(line) and ABOUT.search(line):
                stated.append((place, " ".join(line.split())[:160]))
    starts = (_start(root, place, command) for place, command in listed.values())
    known = [start for start in starts if start is not None]
    return Repository(folder, tuple(known[:MOST]), tuple(stated[:MOST]), len(known))


def _placed(root: Path, path: Path) -> Iterator[tuple[str, str]]:
    for number, line in _lines(path):
        yield f"{path.relative_to(root)}:{number}", line


def _commands(root: Path, place: str, line: str) -> Iterator[tuple[str, ShellCommand]]:
    """Yield (place, Python command) for a line; for a shell script the commands in it."""
    for command in commands(line):
        script, rule = command.shell_script, command.rule
        path = root / command.folder / (script or MAKEFILE)
        if not (script or rule):
            yield place, command
        elif os.path.isfile(path) and _is_below(root, path) and path.stat().st_size <= LONGEST:
            lines = _placed(root, path) if script else _recipe(_placed(root, path), rule)
            yield from islice((c for there, text in lines for c in _of(there, text)), MOST)


def _recipe(lines: Iterator[tuple[str, str]], rule: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that a rule of a Makefile runs."""
    within = False
    for place, line in lines:
        if within and line.startswith("\t"):
            yield place, line.strip().lstrip("@-+")
        elif line.strip():
            within = line.partition(":")[0].split().count(rule) > 0


def _of(place: str, line: str) -> Iterator[tuple[str, ShellCommand]]:
    comment = line.lstrip().startswith("#")
    of_python = (c for c in commands(line) if not (comment or c.shell_script or c.rule))
    yield from ((place, c) for c in of_python)


def _is_below(root: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _readmes(root: Path) -> list[Path]:
    names = sorted(path for path in root.iterdir() if path.is_file())
    readmes = [path for path in names if path.name.lower().startswith("readme")]
    docs = root / "docs"
    more = sorted(docs.glob("*.md"))[:MOST] if docs.is_dir() else []
    ours = [path for path in (*readmes, *more) if _is_below(root, path)]
    return [path for path in ours if path.stat().st_size <= LONGEST]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line); lines continued by a backslash are one."""
    first, parts = 0, list[str]()
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        first = first if parts else number
        parts.append(line.rstrip().removesuffix("\\"))
        if not line.rstrip().endswith("\\"):
            yield first, " ".join(parts)
            parts = []


def _start(root: Path, place: str, command: ShellCommand) -> StartCommand | None:
    """Return a command with what is missing for it; None if its program is missing."""
    words = command.words
    script = next((word for word in words if word.endswith(SCRIPTS)), "")
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if script:
        where = _beside(root, command.folder, script)
        if where is None:
            return None
        words = tuple(where if word == script else word for word in words)
        path = root / where
    else:
        path = root / command.folder / f"{module.replace('.', '/')}.py"
    packages = tuple(sorted(_missing_packages(root, path))) if path.is_file() else ()
    others = [word for word in command.words if word != script]
    files = tuple(dict.fromkeys(_missing_files(root / command.folder, others)))
    return StartCommand(place, words, packages, files)


def _beside(root: Path, folder: str, script: str) -> str | None:
    """Return the path of a script relative to the repository's folder; None if it is missing."""
    for path in (root / folder / script, root / script):
        if os.path.isfile(path) and _is_below(root, path):  # also of a name that none can have
            return str(path.relative_to(root))
    return None


def _missing_files(root: Path, words: Sequence[str]) -> Iterator[str]:
    for word in words[1:]:
        value = word.rpartition("=")[2]
        if PATHLIKE.fullmatch(value) and not value.startswith("-") and not (root / value).exists():
            yield value


def _missing_packages(root: Path, script: Path) -> set[str]:
    """Return the missing packages that a script and the repository's own modules import."""
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
    """Return whether a folder from the script's up to the repository's has the package, as a file
    or a folder, with or without `__init__.py`."""
    above = [one for one in folder.parents if one == root or root in one.parents]
    bases = (folder, *above, root, root / "src")
    return any((base / package).is_dir() or (base / f"{package}.py").is_file() for base in bases)


def _absent(package: str) -> bool:
    if package in sys.stdlib_module_names:
        return False
    try:
        return find_spec(package) is None
    except (ImportError, ValueError):
        return True


def _imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports at its top level, outside of try and if."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except (SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module

"""Change one sign, comparison or number of a room at a time, and see whether its tests notice.

    python -m tools.mutants components              20 mutants, by the tests of the room
    python -m tools.mutants engines/mlx --count 8 --seed 3
    python -m tools.mutants fitting --suite         survivors meet the whole fast suite, too

A survivor is a line of code that no test holds. Mutants are written to a copy of the package, one
after another; the checkout stays as it is. Exit code 1 where more than `--allowed` survive.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "weighbridge"
TESTS = {"autograd": ("training",), "web": ("web", "space")}  # else its name
COMPARED: Mapping[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
}
SIGNS: Mapping[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.Mod: ("%", "*"),
}
PATIENCE = 600  # seconds for one run: a mutant that never ends is noticed


class Mutant(NamedTuple):
    """One change: what stands between two offsets of a file, and what stands there instead."""

    path: Path
    line: int
    start: int
    end: int
    was: str
    becomes: str

    def __str__(self) -> str:
        where = self.path.relative_to(PACKAGE)
        return f"{where}:{self.line}  {self.was!r} -> {self.becomes!r}"


class Source:
    """The text of one module, and where its pieces stand in bytes."""

    def __init__(self, path: Path) -> None:
        self.path, self.raw = path, path.read_bytes()
        self.starts = [0]
        for line in self.raw.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def begin(self, node: ast.expr) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr) -> int:
        return self.starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)

    def mutants(self) -> Iterator[Mutant]:
        """Yield every change. Docstrings, annotations and texts are no code."""
        for node in ast.walk(ast.parse(self.raw)):
            if isinstance(node, ast.BinOp) and type(node.op) in SIGNS and not _is_text(node):
                yield from self._between(node.left, node.right, *SIGNS[type(node.op)])
            elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
                yield from self._between(
                    node.left, node.comparators[0], *COMPARED[type(node.ops[0])]
                )
            elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
                start, end = self.begin(node), self.end(node)
                was = self.raw[start:end].decode()
                yield Mutant(self.path, node.lineno, start, end, was, f"({was} + 1)")

    def _between(self, left: ast.expr, right: ast.expr, was: str, new: str) -> Iterator[Mutant]:
        found = self.raw.find(was.encode(), self.end(left), self.begin(right))
        if found >= 0:
            yield Mutant(self.path, right.lineno, found, found + len(was), was, new)


def _is_text(node: ast.BinOp) -> bool:
    """Tell whether two texts are put together: a change of their sign is no more than an error."""
    sides = (node.left, node.right)
    return any(isinstance(s, ast.JoinedStr) or _text(s) for s in sides)


def _text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def survives(mutant: Mutant, copy: Path, tests: Sequence[str]) -> bool:
    """Run the tests over a copy of the package that has the change alone."""
    place = copy / "weighbridge" / mutant.path.relative_to(PACKAGE)
    whole = mutant.path.read_bytes()
    place.write_bytes(whole[: mutant.start] + mutant.becomes.encode() + whole[mutant.end :])
    try:
        line = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*line, *tests],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        place.write_bytes(whole)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("room", help="a folder of src/weighbridge, or a module")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tests", nargs="*", help="files and folders of tests/; else the room's")
    parser.add_argument("--suite", action="store_true", help="survivors meet the fast suite, too")
    parser.add_argument("--allowed", type=int, default=0, help="survivors without exit code 1")
    asked = parser.parse_args()
    place = PACKAGE / asked.room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    every = [one for path in files for one in Source(path).mutants()]
    chosen = random.Random(asked.seed).sample(every, min(asked.count, len(every)))
    room = asked.room.split("/")[0].removesuffix(".py")
    tests = asked.tests or [f"tests/{name}" for name in TESTS.get(room, (room,))]
    left = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(PACKAGE, copy / "weighbridge", ignore=shutil.ignore_patterns("__pycache__"))
        for one in chosen:
            alive = survives(one, copy, tests) and (
                not asked.suite or survives(one, copy, ["tests"])
            )
            left += [one] if alive else []
            print(f"{'SURVIVES' if alive else 'noticed '}  {one}", flush=True)
    print(f"{asked.room}: {len(chosen) - len(left)} of {len(chosen)} noticed")
    sys.exit(len(left) > asked.allowed)


if __name__ == "__main__":
    main()

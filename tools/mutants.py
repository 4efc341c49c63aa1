"""Change one sign, comparison or number of a room at a time, and see whether a test notices.

    python -m tools.mutants components              60 mutants, by the tests of the room
    python -m tools.mutants engines/mlx --count 8 --seed 3
    python -m tools.mutants verdict --fast          by the fast tests of the room alone
    python -m tools.mutants questions remedies --suite    by the whole fast suite
    python -m tools.mutants --from sample.jsonl     those that an earlier --write listed

A survivor is a line of code that no test holds. All mutants are written into one copy of the
package, each behind a switch, and one run of the tests notes which test comes by which switch. Then
each mutant is switched on in a child of a process that has collected the tests, slow ones too, and
asked of those that come by it, cheap ones first (`tools/mutant_judge.py`); what runs on import, as
tables do, gets a process of its own. The checkout stays as it is. Exit code 1 where more than
`--allowed` survive, which is one in ten.
"""

import argparse
import ast
import copy
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.house import WINGS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "weighbridge"
LAB = "weighbridge_lab"  # beside the package
TESTS = {  # folders of tests/ that hold a room; else the one of its name
    "engines": ("engines", "launch"),
    "forward": ("forward", "training"),
    "lab": ("trace", "evidence", "measure"),
    "programs": ("runfiles", "oom"),
    "web": ("web", "space"),
}
COMPARED: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
SIGNS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
}
SWITCHES = '''"""Which mutant is switched on, and who came by which."""
import os
ACTIVE = int(os.environ.get("MUTANT", "-1"))
NOTES = os.environ.get("MUTANT_NOTES", "")
seen = set()
def on(number):
    if NOTES:
        passed = (number, os.environ.get("PYTEST_CURRENT_TEST", ""))
        if passed not in seen:
            seen.add(passed)
            with open(NOTES, "a") as file:
                file.write(f"{number} {passed[1]}\\n")
    return number == ACTIVE
'''


class Mutant(NamedTuple):
    """One change of an expression, by its number among those of its file."""

    file: str  # below the package
    place: int
    line: int
    was: str
    becomes: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {self.was}  ->  {self.becomes}"


class Changed(ast.NodeTransformer):
    """Finds each expression that can be changed, and puts switches where they are asked for.

    Annotations, texts and the patterns of `match` stay as they are.
    """

    def __init__(self, file: str, switches: Mapping[int, int]) -> None:
        self.file, self.switches = file, switches  # the number of the switch at a place
        self.found: list[Mutant] = []

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.value = self.visit(node.value) if node.value else None
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(one) for one in node.defaults]
        node.kw_defaults = [one and self.visit(one) for one in node.kw_defaults]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        returns, node.returns = node.returns, None
        self.generic_visit(node)
        node.returns = returns
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        node.guard = node.guard and self.visit(node.guard)
        node.body = [self.visit(one) for one in node.body]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) not in (int, float):
            return node
        return self._switched(node, ast.Constant(node.value + 1))

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if type(node.op) not in SIGNS or any(_is_text(one) for one in (node.left, node.right)):
            return self.generic_visit(node)
        return self._switched(node, ast.BinOp(node.left, SIGNS[type(node.op)](), node.right))

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        first = type(node.ops[0])
        if first not in COMPARED:
            return self.generic_visit(node)
        others = [COMPARED[first](), *node.ops[1:]]
        return self._switched(node, ast.Compare(node.left, others, node.comparators))

    def _switched(self, node: ast.expr, other: ast.expr) -> ast.AST:
        place = len(self.found)
        was, becomes = (ast.unparse(one).replace("\n", " ")[:60] for one in (node, other))
        self.found.append(Mutant(self.file, place, node.lineno, was, becomes))
        inner = self.generic_visit(node)
        number = self.switches.get(place)
        if number is None:
            return inner
        test = ast.Call(ast.Name("_mutant", ast.Load()), [ast.Constant(number)], [])
        return ast.IfExp(test, copy.deepcopy(other), inner)


def _is_text(node: ast.expr) -> bool:
    """Tell whether a side of a sum is a text: a change of its sign is no more than an error."""
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def mutants(path: Path) -> list[Mutant]:
    """Every change of a file."""
    changed = Changed(str(path.relative_to(PACKAGE.parent)), {})
    changed.visit(ast.parse(path.read_bytes()))
    return changed.found


def with_switches(path: Path, switches: Mapping[int, int]) -> str:
    """The text of a module that has switches at some places."""
    tree = ast.parse(path.read_bytes())
    tree = Changed(str(path.relative_to(PACKAGE.parent)), switches).visit(tree)
    first = next((i for i, one in enumerate(tree.body) if not _stays_first(one)), 0)
    tree.body[first:first] = ast.parse("from weighbridge._switches import on as _mutant").body
    return ast.unparse(ast.fix_missing_locations(tree))


def _stays_first(node: ast.stmt) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or (isinstance(node, ast.ImportFrom) and node.module == "__future__")


def drawn(rooms: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """A sample of the rooms' mutants."""
    every: list[Mutant] = []
    for room in rooms:
        place = placed(room)
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        every += [one for path in files for one in mutants(path)]
    return random.Random(seed).sample(every, min(count, len(every)))


def placed(room: str) -> Path:
    """Return the folder of a room, or its path without the ending; in whichever wing it stands."""
    first, _, below = room.partition("/")
    if first == "lab":
        return PACKAGE.with_name(LAB) / below
    places = [PACKAGE / wing / room for wing in ("", *WINGS, "training")]
    return next((p for p in places if p.is_dir() or p.with_suffix(".py").is_file()), places[0])


def near(mutant: Mutant) -> list[str]:
    """The folders of tests that hold a mutant: of the innermost room around it that has one."""
    package, *words = Path(mutant.file).with_suffix("").parts
    if package == LAB:
        words = ["lab", *words]
    elif words[0] in WINGS or words[:2] == ["training", "forward"]:
        words = words[1:]
    path = Path(*words)
    rooms = [one for one in path.parents if one.name] or [path]
    room = str(next((one for one in rooms if (ROOT / "tests" / one).is_dir()), rooms[-1]))
    return [f"tests/{one}" for one in TESTS.get(room, (room,))]


def copied(chosen: Sequence[Mutant], folder: Path) -> None:
    """Writes the package with all switches."""
    package = folder / "weighbridge"
    for source in (PACKAGE, PACKAGE.with_name(LAB)):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / source.name, ignore=ignore)
    (package / "_switches.py").write_text(SWITCHES)
    for file in {one.file for one in chosen}:
        switches = {one.place: n for n, one in enumerate(chosen) if one.file == file}
        (folder / file).write_text(with_switches(PACKAGE.parent / file, switches))


def judged(chosen: Sequence[Mutant], tests: Sequence[str], seconds: float, fast: bool) -> int:
    """How many survive; each is told when it is known."""
    with tempfile.TemporaryDirectory() as folder:
        copied(chosen, Path(folder))
        (Path(folder) / "chosen.json").write_text(json.dumps([[*map(str, one)] for one in chosen]))
        line = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((folder, str(ROOT))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MUTANTS": folder,
            "MUTANT_NOTES": f"{folder}/notes.txt",
            "MUTANT_SECONDS": str(seconds),
        }
        default = fast or tests == ["tests"]  # as pyproject.toml marks them: none that is slow
        marks = [] if default else ["-m", "not house and not nightly"]
        judge = [*line, *marks, "-p", "tools.mutant_judge", *tests]
        subprocess.run(judge, cwd=ROOT, env=env, check=True)
        return int((Path(folder) / "survivors").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("room", nargs="*", help="folders of src/weighbridge, or modules")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", dest="listed", type=Path, help="a list that --write wrote")
    parser.add_argument("--write", type=Path, help="list the mutants there, and ask no test")
    parser.add_argument("--tests", nargs="*", help="files and folders of tests/; else the rooms'")
    parser.add_argument("--suite", action="store_true", help="ask the whole fast suite")
    parser.add_argument("--fast", action="store_true", help="ask no slow test of the rooms")
    parser.add_argument("--seconds", type=float, default=600, help="of tests a mutant at most")
    parser.add_argument("--allowed", type=int, help="survivors without exit code 1; else a tenth")
    asked = parser.parse_args()
    chosen = drawn(asked.room, asked.count, asked.seed) if asked.room else []
    if asked.listed:
        chosen = [Mutant(*json.loads(line)) for line in asked.listed.read_text().splitlines()]
    if asked.write:
        asked.write.write_text("".join(f"{json.dumps(one)}\n" for one in chosen))
        return
    tests = asked.tests or list(dict.fromkeys(t for one in chosen for t in near(one)))
    left = judged(chosen, ["tests"] if asked.suite else tests, asked.seconds, asked.fast)
    print(f"{len(chosen) - left} of {len(chosen)} noticed")
    sys.exit(left > (len(chosen) // 10 if asked.allowed is None else asked.allowed))


if __name__ == "__main__":
    main()

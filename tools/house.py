"""Count the house: its rooms, floors, modules, lines and names, of this tree or of another one.

    python -m tools.house                         what is here
    python -m tools.house ../old --beside .       two trees, side by side, by the same script
    python -m tools.house --start                 CPU of `load`, `infer` and `train`, too
    python -m tools.house --write | --check       the pictures in docs/architecture.md

A room is a package or a module right below `weighbridge` or below one of its wings; the laboratory,
beside the package, is one. An arrow leads from a room to each one
that it imports, wherever in a module; imports of types alone are none. Arrows up are the lightest
ones without which no circle is left; a room stands one floor above the highest that it imports.
"""

import argparse
import ast
import io
import os
import re
import resource
import statistics
import subprocess
import sys
import tokenize
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from types import FrameType

from tools.syntax import imports, nodes, parse

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
WINGS = ("base", "machines", "models", "memory", "answers", "files", "faces")  # folders of rooms
DOORS = ("__init__", "__main__", "_version")
SHORT = 60  # characters of a docstring that is hardly a thought
LONG = 400  # lines of a module
LONG_FUNCTION = 60  # lines of a function's body
SHOWN = 5  # of a long list
BRANCHED = 12  # branches of a function, as ruff counts its ways (pyproject.toml, max-complexity)
BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.BoolOp,
    ast.comprehension,
)
TABLE = 5  # lines from which a value at the top of a module is a table
ANOTHER = "qwen3-8b"
QUESTIONS = {
    "load": ("load", "llama-3.1-8b"),
    "infer": ("infer", "llama-3.1-8b", "--engine", "vllm", "--gpu", "4090"),
    "train": ("train", "llama-3.1-8b", "--method", "lora", "--gpu", "4090"),
}


@dataclass(frozen=True)
class Module:
    """One file of the package: its dotted name without the package's, its text and its tree."""

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return parse(self.text)

    @property
    def room(self) -> str:
        return room_of(self.name)

    @property
    def wing(self) -> str:
        return self.name.partition(".")[0]

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """Modules and names of the package that it imports when it runs, dotted."""
        return tuple(_imported(self.text))


def room_of(name: str) -> str:
    """Name the room of a module: its first word, or the second one below a wing."""
    first, *below = name.split(".")
    inner = first in WINGS or (first == "training" and below[:1] == ["forward"])
    return below[0] if below and inner else first


def _imported(text: str) -> Iterator[str]:
    for module, name in imports(text, types=False):
        if module.startswith("weighbridge"):
            yield _within(f"{module}.{name}" if name else module)


def _within(name: str) -> str:
    """Return a dotted name without its package's; the laboratory's is told by a room's."""
    package, _, rest = name.partition(".")
    return f"lab.{rest}" if package == "weighbridge_lab" else rest


class House:
    """The package below `root`, read once."""

    def __init__(self, root: Path) -> None:
        self.source = root / "src" / "weighbridge"
        self.commands = root / "docs" / "commands.md"
        self.modules = {m.name: m for m in self._read()}

    def _read(self) -> Iterator[Module]:
        for package, first in (
            (self.source, ()),
            (self.source.with_name("weighbridge_lab"), ("lab",)),
        ):
            for path in sorted(package.rglob("*.py")):
                parts = (*first, *path.relative_to(package).with_suffix("").parts)
                if parts[1:] == ("__init__",) and parts[0] in WINGS:
                    parts = parts[::-1]  # a wing's door
                name = ".".join(parts)
                yield Module(name.removesuffix(".__init__") or "__init__", path.read_text())

    def home(self, imported: str) -> str | None:
        """Name the module that an imported name belongs to, or None of another package's."""
        while imported and imported not in self.modules:
            imported = imported.rpartition(".")[0]
        return imported or None

    @cached_property
    def readers(self) -> Mapping[str, set[str]]:
        """Modules that import each module."""
        readers: dict[str, set[str]] = {name: set() for name in self.modules}
        for module in self.modules.values():
            for name in {self.home(i) for i in module.imports} - {None, module.name}:
                readers[str(name)].add(module.name)
        return readers

    @cached_property
    def arrows(self) -> Mapping[tuple[str, str], int]:
        """(room, room that it imports): how many imports there are. The doors are no rooms."""
        arrows: Counter[tuple[str, str]] = Counter()
        for name, readers in self.readers.items():
            there = room_of(name)
            for reader in readers:
                here = room_of(reader)
                if here != there and not {here, there} & set(DOORS):
                    arrows[here, there] += 1
        return arrows

    @cached_property
    def rooms(self) -> set[str]:
        return {m.room for m in self.modules.values()} - set(DOORS)

    @cached_property
    def up(self) -> set[tuple[str, str]]:
        """Arrows that close a circle: of each the one to the laboratory, else the lightest."""
        left, up = dict(self.arrows), set()
        while circle := _circle(left):
            lightest = min(circle, key=lambda way: (way[1] != "lab", left[way], way))
            del left[lightest]
            up.add(lightest)
        return up

    @cached_property
    def floors(self) -> list[list[str]]:
        """Rooms by floor, the ground first: each imports only what lies below."""
        below = defaultdict(set)
        for here, there in self.arrows.keys() - self.up:
            below[here].add(there)
        floors: list[list[str]] = []
        left, placed = set(self.rooms), set()
        while left:
            floors.append(sorted(room for room in left if below[room] <= placed))
            placed |= set(floors[-1])
            left -= placed
        return floors


@cache
def read_house() -> House:
    """Return the package of this checkout, read once per process."""
    return House(ROOT)


def _circle(arrows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the arrows of one circle, or none."""
    leads = defaultdict(list)
    for here, there in sorted(arrows):
        leads[here].append(there)
    done: set[str] = set()
    for start in sorted(leads):
        path: list[str] = []
        if circle := _walk(start, leads, path, done):
            return list(pairwise(circle))
    return []


def _walk(
    room: str, leads: Mapping[str, list[str]], path: list[str], done: set[str]
) -> list[str] | None:
    if room in path:
        return [*path[path.index(room) :], room]
    if room in done:
        return None
    path.append(room)
    for there in leads.get(room, ()):
        if circle := _walk(there, leads, path, done):
            return circle
    done.add(path.pop())
    return None


# Lines, names and docstrings


def lines_by_kind(module: Module) -> Counter[str]:
    """Count the lines of a module: each is blank, a comment, or what the node on it is."""
    lines = module.text.splitlines()
    kinds = ["statements"] * len(lines)
    for kind, node in _spans(module):
        _mark(kinds, node, kind)
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            kinds[token.start[0] - 1] = "comments"
    return Counter(
        kind if line.strip() or kind == "docstrings" else "blank"
        for kind, line in zip(kinds, lines, strict=True)
    )


def _spans(module: Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the statements whose lines are of a kind of their own."""
    for node in nodes(module.text, ast.Import, ast.ImportFrom):
        yield "imports", node
    for node in module.tree.body:
        long = (node.end_lineno or 0) - node.lineno + 1 >= TABLE
        if long and isinstance(node, ast.Assign | ast.AnnAssign):
            yield "tables", node
    yield from (("docstrings", node) for _, node in _docstrings(module))


def _mark(kinds: list[str], node: ast.stmt, kind: str) -> None:
    for line in range(node.lineno - 1, node.end_lineno or node.lineno):
        kinds[line] = kind


def _docstrings(module: Module) -> Iterator[tuple[str, ast.Expr]]:
    for node in nodes(module.text, ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text and isinstance(node.body[0], ast.Expr):
            yield text, node.body[0]


def names(module: Module) -> Iterator[str]:
    """Every variable and parameter, as often as it is named."""
    yield from (node.id for node in nodes(module.text, ast.Name))
    yield from (node.arg for node in nodes(module.text, ast.arg))


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions and methods of a module."""
    yield from nodes(module.text, ast.FunctionDef, ast.AsyncFunctionDef)


def branches(function: ast.AST) -> int:
    """Return the number of places where a function goes one way or another."""
    return sum(isinstance(node, BRANCHES) for node in ast.walk(function))


def branched(module: Module) -> list[str]:
    """Return the functions of a module with more than BRANCHED branches. Only those are walked on
    whose lines so many begin; a comprehension has no line, and its target has."""
    lines = sorted(getattr(n, "target", n).lineno for n in nodes(module.text, *BRANCHES))

    def has_many(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        last = bisect_right(lines, function.end_lineno or 0)
        return last - bisect_left(lines, function.lineno) > BRANCHED

    return [
        f"{module.name}.{f.name}"
        for f in functions(module)
        if has_many(f) and branches(f) > BRANCHED
    ]


def long_functions(module: Module) -> list[str]:
    """Return the functions of a module whose bodies have more than LONG_FUNCTION lines."""
    return [
        f"{module.name}.{f.name}"
        for f in functions(module)
        if (f.end_lineno or 0) - f.body[0].lineno > LONG_FUNCTION
    ]


# Facts that stand in several files


def files_of_settings(house: House) -> dict[str, int]:
    """Files of the package that name each setting, of those whose names are no common words."""
    flags = set(re.findall(r"--([a-z]+(?:-[a-z]+)+)", house.commands.read_text()))
    settings = {flag.replace("-", "_"): flag for flag in flags}
    words = [set(re.findall(r"[a-z0-9_]+(?:-[a-z0-9]+)*", text)) for text in _texts(house)]
    return {
        name: count
        for name, flag in settings.items()
        if (count := sum(name in held or flag in held for held in words))
    }


def files_of_types(house: House) -> dict[str, int]:
    """Files of the package that spell each model type of the catalogue in a string."""
    catalogue = next(house.source.rglob("catalogue/models.jsonl")).read_text()
    types = set(re.findall(r'"model_type": ?"(\w+)"', catalogue))
    spelled = [
        {
            word
            for node in nodes(module.text, ast.Constant)
            if isinstance(node.value, str)
            for word in re.findall(r"\w+", node.value)
        }
        | {key.arg or "" for key in nodes(module.text, ast.keyword)}
        for module in house.modules.values()
    ]
    counts = {name: sum(name in held for held in spelled) for name in types if "_" in name}
    return {name: count for name, count in counts.items() if count}


def _texts(house: House) -> Iterator[str]:
    return (module.text for module in house.modules.values())


# What is shown


def figures(house: House) -> Iterator[tuple[str, str]]:
    """Rows of the count: what is counted, and the figure."""
    modules = house.modules.values()
    kinds = sum((lines_by_kind(m) for m in modules), Counter[str]())
    sizes = sorted(m.text.count("\n") for m in modules)
    lab = [
        m for m in modules if m.room in ("lab", "trace", "exact", "golden", "measure", "evidence")
    ]
    yield "rooms", f"{len(house.rooms)}"
    yield "entries at the top", f"{len({m.wing for m in modules} - {'lab'})}"
    yield "floors", f"{len(house.floors)}"
    yield "arrows up", f"{len(house.up)}"
    yield "modules", f"{len(sizes)}"
    yield "modules with one importer", f"{sum(len(r) == 1 for r in house.readers.values())}"
    yield "modules under 40 lines", f"{sum(size < 40 for size in sizes)}"
    yield f"modules over {LONG} lines", f"{sum(size > LONG for size in sizes)}"
    yield "median lines of a module", f"{statistics.median(sizes):g}"
    yield "lines of Python", f"{sum(sizes):,}"
    yield "- without the laboratory", f"{sum(sizes) - sum(m.text.count(chr(10)) for m in lab):,}"
    for kind in ("statements", "tables", "docstrings", "imports", "comments", "blank"):
        yield f"- {kind}", f"{kinds[kind]:,}"
    yield from _functions(house)
    yield from _facts(house)
    yield from _words(house)


def _functions(house: House) -> Iterator[tuple[str, str]]:
    for title, chosen in (
        (f"functions with more than {BRANCHED} branches", branched),
        (f"functions over {LONG_FUNCTION} lines", long_functions),
    ):
        names = [name for module in house.modules.values() for name in chosen(module)]
        yield title, ", ".join((f"{len(names)}", *names[:SHOWN]))


def _facts(house: House) -> Iterator[tuple[str, str]]:
    sources = sum(m.text.count("\nSource: ") > 1 for m in house.modules.values())
    yield "modules with several sources", f"{sources}"
    for title, counts in (
        ("files that name a setting", files_of_settings(house)),
        ("files that spell a model type", files_of_types(house)),
    ):
        values = sorted(counts.values())
        ninth = values[len(values) * 9 // 10]
        yield title, f"median {statistics.median(values):g}, p90 {ninth}, most {values[-1]}"


def _words(house: House) -> Iterator[tuple[str, str]]:
    named = Counter(name for m in house.modules.values() for name in names(m))
    most = (f"{name} {count:,}" for name, count in named.most_common(2 * SHOWN))
    yield "names used most", ", ".join(most)
    classes = Counter(c.name for m in house.modules.values() for c in nodes(m.text, ast.ClassDef))
    yield "names of several classes", f"{sum(count > 1 for count in classes.values())}"
    texts = [text for m in house.modules.values() for text, _ in _docstrings(m)]
    yield "docstrings", f"{len(texts):,}"
    yield f"- under {SHORT} characters", f"{sum(len(text) < SHORT for text in texts):,}"


def starts(root: Path, times: int = 7) -> Iterator[tuple[str, str]]:
    """CPU of three questions, in milliseconds: the least of some new processes each."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for task, words in QUESTIONS.items():
        least = min(
            _cpu([sys.executable, "-m", "weighbridge", *words], environment) for _ in range(times)
        )
        yield f"CPU of a new `{task}`", f"{least * 1000:.0f} ms"


def _cpu(command: list[str], environment: Mapping[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# The picture


def picture(house: House) -> str:
    """Draw the floors, the highest first."""
    floors = reversed(list(enumerate(house.floors)))
    return "\n".join(f"{number:3}  {'  '.join(rooms)}" for number, rooms in floors)


def way() -> str:
    """Ask one question and tell where it goes: rooms in the order in which they are entered first,
    each with the function that it is entered by. What runs on import is left out: another model is
    asked about before."""
    from weighbridge.faces.cli.menu import run

    entered: dict[str, str] = {}
    package = str(ROOT / "src" / "weighbridge") + os.sep

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(package) and code.co_name[0] != "<":
            path = Path(code.co_filename[len(package) :])
            room = room_of(".".join(path.with_suffix("").parts))
            if room not in entered and not room.startswith("_"):
                entered[room] = f"{path.as_posix()}: {code.co_name}"

    task, model, *flags = QUESTIONS["infer"]
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        run([task, ANOTHER, *flags])
        sys.setprofile(note)
        run([task, model, *flags])
    finally:
        sys.setprofile(None)
        sys.stdout = stdout
    width = max(map(len, entered))
    lines = (f"{room:{width}}  {function}" for room, function in entered.items())
    return "\n".join((f"weighbridge {' '.join(QUESTIONS['infer'])}", "", *lines))


BLOCKS = {"floors": lambda: picture(read_house()), "way": way}


def page(text: str, *names: str) -> str:
    """Return the page with these generated blocks made anew; without names, all."""
    for name in names or BLOCKS:
        block = f"<!-- {name} -->\n\n```text\n{BLOCKS[name]()}\n```\n\n<!-- end of {name} -->"
        text, number = re.subn(
            rf"<!-- {name} -->.*?<!-- end of {name} -->", lambda _, b=block: b, text, flags=re.S
        )
        if number != 1:
            raise SystemExit(
                f"{PAGE} has no place for {name!r}: <!-- {name} --> ... <!-- end of {name} -->"
            )
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tree", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--beside", type=Path, help="another tree: a second column")
    parser.add_argument("--start", action="store_true", help="CPU of three questions, too")
    parser.add_argument("--write", action="store_true", help="write docs/architecture.md")
    parser.add_argument(
        "--check",
        nargs="*",
        choices=BLOCKS,
        metavar="BLOCK",
        help="1 if docs/architecture.md is old, or one of these blocks of it: floors, way",
    )
    asked = parser.parse_args()
    if asked.write or asked.check is not None:
        old = PAGE.read_text()
        new = page(old, *(asked.check or ()))
        if asked.write:
            PAGE.write_text(new)
        return int(asked.check is not None and new != old)
    trees = [asked.tree, *([asked.beside] if asked.beside else [])]
    columns = [
        dict((*figures(House(tree)), *(starts(tree) if asked.start else ()))) for tree in trees
    ]
    for name in columns[0]:
        print(f"| {name} | {' | '.join(column.get(name, '') for column in columns)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

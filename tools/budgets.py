"""Budgets of the house: figures that may only fall. tools/house.toml has them, and CI fails above.

    python -m tools.budgets                  each figure beside its budget; exit 1 above one
    python -m tools.budgets --lower          lower each budget to what is counted
    python -m tools.budgets --since COMMIT   lines of Python that came and went, by room
    python -m tools.budgets --wings TREE     lines, modules, branches and names, by wing

Nothing raises a budget. The ceiling is what src/weighbridge may weigh, in lines and in nodes of its
syntax trees; where ../shared/ceiling.toml is there, the lower one of each holds.
"""

import argparse
import ast
import builtins
import re
import subprocess
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.house import (
    RIDDLES,
    ROOT,
    VAGUE,
    House,
    Module,
    _docstrings,
    files_of_settings,
    room_of,
)

TABLE = ROOT / "tools" / "house.toml"
SHARED = ROOT.parent / "shared" / "ceiling.toml"
LONG = 400  # lines of a module
BRANCHED = 12  # branches of a function, as ruff counts its ways (pyproject.toml, max-complexity)
WORDS = 3  # of a sentence, at least
CODE = (  # modules that write programs and commands: what they yield is no sentence
    "engines.llama_cpp.launching",
    "engines.mlx.launching",
    "engines.ollama.launching",
    "engines.transformers.derived",
    "pictures.comfy",
    "pictures.script",
    "pictures.sdcpp",
    "training.scripts",
)
LETTER = re.compile(r"[^\W\d_]")
NOTES = ("notes.append", "warnings.append", "lines.append", "assumed.append")
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
MEND = "take as much away"
PREPOSITIONS = ("In", "On", "At", "For", "From", "To", "With", "Without", "Between", "Beside")


def branches(function: ast.AST) -> int:
    """Count the places where a function goes one way or another, once each."""
    return sum(isinstance(node, BRANCHES) for node in ast.walk(function))


def bound(module: Module) -> Iterator[str]:
    """Names that the module binds: variables, fields, parameters and functions."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def unkeyed(module: Module) -> int:
    """Count errors and warnings that are English in the code: no key, and so no Chinese."""
    code = module.name in CODE
    nodes = (x for x in ast.walk(module.tree) if isinstance(x, ast.Raise) or not code)
    return sum(_is_sentence(said) for node in nodes for said in _said(node))


def _said(node: ast.AST) -> Iterator[ast.expr]:
    """What a statement says to people: of an error that it raises, a warning or a note."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        name = _name(node.exc.func)
        if name.endswith("Error") and not hasattr(builtins, name):  # Python's own stay with us
            yield from node.exc.args[:1]
    elif isinstance(node, ast.Yield) and node.value is not None:
        yield node.value
    elif isinstance(node, ast.Call) and (
        _name(node.func) == "warn"
        or (_name(node.func) == "append" and ast.unparse(node.func).endswith(NOTES))
    ):
        yield from node.args[:1]


def _name(function: ast.expr) -> str:
    return str(getattr(function, "attr", getattr(function, "id", "")))


def _is_sentence(said: ast.expr) -> bool:
    """Whether a text has some words of its own: a name has fewer, and signs are none. A line that
    stands below an empty one is the heading of a table, and markup is a program's."""
    parts = said.values if isinstance(said, ast.JoinedStr) else (said,)
    text = " ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
    return (
        not text.startswith(("\n", "<"))
        and sum(map(bool, map(LETTER.search, text.split()))) >= WORDS
    )


def counted(house: House) -> dict[str, float]:
    """Every figure that has a budget. The ceiling is counted without the laboratory; of rooms there
    are `vague.ROOM` (names that say nothing) and `unkeyed.ROOM` (sentences without a key)."""
    modules = house.modules.values()
    vague = Counter[str]()
    english = Counter[str]()
    for module in modules:
        english[module.room] += unkeyed(module)
        vague[module.room] += sum(name.strip("_") in VAGUE for name in bound(module))
    settings = sorted(files_of_settings(house).values())
    weighed = [module for module in modules if module.room != "lab"]
    return {
        "ceiling.lines": sum(module.text.count("\n") for module in weighed),
        "ceiling.nodes": sum(1 for module in weighed for _ in ast.walk(module.tree)),
        "floors": len(house.floors),
        "arrows_up": len(house.up),
        "long_modules": sum(module.text.count("\n") > LONG for module in modules),
        "branched_functions": sum(_branched(module) for module in modules),
        "riddles": sum(_riddles(module) for module in modules),
        "two_sources": sum(module.text.count("\nSource: ") > 1 for module in modules),
        "files_of_a_setting_p90": settings[len(settings) * 9 // 10] if settings else 0,
        "files_of_a_setting_most": settings[-1] if settings else 0,
        **{f"vague.{room}": count for room, count in sorted(vague.items()) if count},
        **{f"unkeyed.{room}": count for room, count in sorted(english.items()) if count},
    }


def _branched(module: Module) -> int:
    return sum(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and branches(node) > BRANCHED
        for node in ast.walk(module.tree)
    )


def _riddles(module: Module) -> int:
    return sum(text.split()[0] in RIDDLES + PREPOSITIONS for text, _ in _docstrings(module))


# The table


def budgets(text: str, shared: str = "") -> dict[str, float]:
    """Each figure's budget; `shared` is a second file, whose ceiling holds where it is lower."""
    table = tomllib.loads(text)
    plain = {
        f"{group}.{name}": figure
        for group in ("ceiling", "vague", "unkeyed")
        for name, figure in table.get(group, {}).items()
    }
    for name, most in tomllib.loads(shared).get("ceiling", {}).items():
        plain[f"ceiling.{name}"] = min(most, plain.get(f"ceiling.{name}", most))
    return plain | table["house"]


def ours() -> dict[str, float]:
    """The budgets of this checkout."""
    return budgets(TABLE.read_text(), SHARED.read_text() if SHARED.is_file() else "")


def broken(figures: Mapping[str, float], allowed: Mapping[str, float]) -> list[str]:
    """One sentence for each figure above its budget; a room without one has none."""
    return [
        f"{name}: {figure:,g} is above the budget of {allowed.get(name, 0):,g}; {MEND}"
        for name, figure in figures.items()
        if figure > allowed.get(name, 0)
    ]


def lowered(text: str, figures: Mapping[str, float]) -> str:
    """The table with each budget brought down to its figure."""
    group = ""
    lines = []
    for line in text.splitlines():
        if head := re.fullmatch(r"\[(\w+)\].*", line):
            group = head[1]
        if row := re.fullmatch(r"(\w+) = (\d+)", line):
            figure = figures.get(row[1] if group == "house" else f"{group}.{row[1]}", 0)
            if not figure:
                continue  # a room that is gone, or one that has none left
            line = f"{row[1]} = {min(int(row[2]), int(figure))}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def since(commit: str, root: Path = ROOT) -> Iterator[tuple[str, int, int]]:
    """Rooms with the lines that came and went since a commit, and `in all` last. A file that moved
    came and went with what changed in it alone."""
    command = ["git", "diff", "--numstat", "-M", "-z", commit, "--", "src"]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    came, went = Counter[str](), Counter[str]()
    fields = iter(told.split("\0")[:-1])
    for row in fields:
        added, removed, path = row.split("\t")
        if not path:  # it moved: where from, and where to
            path = (next(fields), next(fields))[1]
        if path.endswith(".py"):
            _, package, *parts = Path(path).with_suffix("").parts
            room = "lab" if package == "weighbridge_lab" else room_of(".".join(parts))
            for each in (room, "in all"):
                came[each] += int(added)
                went[each] += int(removed)
    for room in sorted(came, key=lambda room: (room == "in all", room)):
        yield room, came[room], went[room]


def wings(root: Path) -> Iterator[tuple[str, ...]]:
    """Rows of a table: of each wing its lines, modules, functions with many branches, and vague
    names in 1,000 lines. A tree from before the wings has its rooms where they stand now."""
    wing_of = {module.room: module.wing for module in House(ROOT).modules.values()}
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for module in House(root).modules.values():
        room = module.room
        for wing in (wing_of.get(room, "gone"), "in all"):
            sums[wing]["lines"] += module.text.count("\n")
            sums[wing]["modules"] += 1
            sums[wing]["branched"] += _branched(module)
            sums[wing]["vague"] += sum(name.strip("_") in VAGUE for name in bound(module))
    for wing in sorted(sums, key=lambda wing: (wing == "in all", wing)):
        row = sums[wing]
        vague = 1000 * row["vague"] / (row["lines"] or 1)
        yield wing, f"{row['lines']:,}", f"{row['modules']}", f"{row['branched']}", f"{vague:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lower", action="store_true", help="lower budgets to what is counted")
    parser.add_argument("--since", metavar="COMMIT", help="lines that came and went, by room")
    parser.add_argument("--wings", metavar="TREE", type=Path, help="a table of wings")
    asked = parser.parse_args()
    if asked.wings:
        rows = ("wing", "lines", "modules", "> 8 branches", "vague in 1,000"), *wings(asked.wings)
        print(*(f"| {' | '.join(row)} |" for row in rows), sep="\n")
        return 0
    if asked.since:
        for room, came, went in since(asked.since):
            print(f"{room:16} +{came:,} : -{went:,}")
        return 0
    figures = counted(House(ROOT))
    if asked.lower:
        TABLE.write_text(lowered(TABLE.read_text(), figures))
    allowed = ours()
    for name, figure in figures.items():
        print(f"{name:28} {figure:>9,g} of {allowed.get(name, 0):>9,g}")
    print(*broken(figures, allowed), sep="\n")
    return int(bool(broken(figures, allowed)))


if __name__ == "__main__":
    raise SystemExit(main())

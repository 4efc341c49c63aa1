"""Budgets of the house: the ceiling, floors, and sentences without a key. The gate fails above one.

    python -m tools.budgets                  each figure beside its budget; exit 1 above one
    python -m tools.budgets --lower          lower floors and sentences to what is counted
    python -m tools.budgets --since COMMIT   lines of Python that came and went, by room
    python -m tools.budgets --wings TREE     lines, modules and branches, by wing

tools/house.toml has the budgets, and nothing raises one. The ceiling is what src/weighbridge may
weigh: nodes of its syntax trees, which count what runs, and as a loose second bound lines. It falls
by hand; where ../shared/ceiling.toml is there, the lower one of each holds. What is a matter of
taste, such as long modules, is printed by tools.house and has no budget.
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

from tools.house import ROOT, House, Module, branched, room_of
from tools.syntax import count_nodes, nodes

TABLE = ROOT / "tools" / "house.toml"
SHARED = ROOT.parent / "shared" / "ceiling.toml"
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
MEND = "take as much away"


def unkeyed(module: Module) -> int:
    """Count errors and warnings that are English in the code: no key, and so no Chinese."""
    kinds = (ast.Raise,) if module.name in CODE else (ast.Raise, ast.Yield, ast.Call)
    return sum(_is_sentence(said) for node in nodes(module.text, *kinds) for said in _said(node))


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


def counted(house: House) -> dict[str, int]:
    """Return every figure that has a budget. The ceiling is counted without the laboratory;
    `unkeyed.ROOM` is the number of sentences of a room that have no key."""
    modules = house.modules.values()
    english = Counter[str]()
    for module in modules:
        english[module.room] += unkeyed(module)
    weighed = [module for module in modules if module.room != "lab"]
    return {
        "ceiling.lines": sum(module.text.count("\n") for module in weighed),
        "ceiling.nodes": sum(count_nodes(module.text) for module in weighed),
        "floors": len(house.floors),
        "arrows_up": len(house.up),
        **{f"unkeyed.{room}": count for room, count in sorted(english.items()) if count},
    }


# The table


def budgets(text: str, shared: str = "") -> dict[str, int]:
    """Each figure's budget; `shared` is a second file, whose ceiling holds where it is lower."""
    table = tomllib.loads(text)
    plain = {
        f"{group}.{name}": figure
        for group in ("ceiling", "unkeyed")
        for name, figure in table.get(group, {}).items()
    }
    for name, most in tomllib.loads(shared).get("ceiling", {}).items():
        plain[f"ceiling.{name}"] = min(most, plain.get(f"ceiling.{name}", most))
    return plain | table["house"]


def ours() -> dict[str, int]:
    """The budgets of this checkout."""
    return budgets(TABLE.read_text(), SHARED.read_text() if SHARED.is_file() else "")


def broken(figures: Mapping[str, int], allowed: Mapping[str, int]) -> list[str]:
    """One sentence for each figure above its budget; a room without one has none."""
    return [
        f"{name}: {figure:,} is above the budget of {allowed.get(name, 0):,}; {MEND}"
        for name, figure in figures.items()
        if figure > allowed.get(name, 0)
    ]


def lowered(text: str, figures: Mapping[str, int]) -> str:
    """Return the table with each budget but the ceiling brought down to its figure."""
    group = ""
    lines = []
    for line in text.splitlines():
        if head := re.fullmatch(r"\[(\w+)\].*", line):
            group = head[1]
        if group != "ceiling" and (row := re.fullmatch(r"(\w+) = (\d+)", line)):
            figure = figures.get(row[1] if group == "house" else f"{group}.{row[1]}", 0)
            if not figure:
                continue  # a room that is gone, or one that has none left
            line = f"{row[1]} = {min(int(row[2]), figure)}"
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
    """Yield the rows of a table: of each wing its lines, modules and functions with many branches.
    A tree from before the wings has its rooms where they stand now."""
    wing_of = {module.room: module.wing for module in House(ROOT).modules.values()}
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for module in House(root).modules.values():
        room = module.room
        for wing in (wing_of.get(room, "gone"), "in all"):
            sums[wing]["lines"] += module.text.count("\n")
            sums[wing]["modules"] += 1
            sums[wing]["branched"] += len(branched(module))
    for wing in sorted(sums, key=lambda wing: (wing == "in all", wing)):
        row = sums[wing]
        yield wing, f"{row['lines']:,}", f"{row['modules']}", f"{row['branched']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lower", action="store_true", help="lower budgets to what is counted")
    parser.add_argument("--since", metavar="COMMIT", help="lines that came and went, by room")
    parser.add_argument("--wings", metavar="TREE", type=Path, help="a table of wings")
    asked = parser.parse_args()
    if asked.wings:
        rows = ("wing", "lines", "modules", "branched"), *wings(asked.wings)
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
        print(f"{name:28} {figure:>9,} of {allowed.get(name, 0):>9,}")
    above = broken(figures, allowed)
    print(*above, sep="\n")
    return int(bool(above))


if __name__ == "__main__":
    raise SystemExit(main())

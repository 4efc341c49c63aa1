"""A class of ours is either abstract, and never made, or final, and never a base.

Where a class is both, a reader of its methods does not know which of them run. Exceptions are left
out: they are caught by their base.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tools.syntax import nodes

pytestmark = pytest.mark.house

ROOT = Path(__file__).parent.parent / "src"
ALLOWED: Mapping[str, str] = {
    "weighbridge.base.errors.UsageError": "an exception",
    "weighbridge.base.errors.HubError": "an exception",
    "weighbridge.base.errors.UnsupportedError": "an exception",
    "weighbridge.models.sources.http._TransientError": "an exception",
    "weighbridge.pictures.card.PipelineCard": "diffusers' own; other programs differ in parts of it",
    "weighbridge.settings.ranks.Ranks": "the record of how many of what: what a run adds to it extends it",
}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def names(source: str, here: str) -> dict[str, str]:
    """The full name of what each name of a module stands for."""
    found: dict[str, str] = {}
    for node in nodes(source, ast.ImportFrom, ast.Import, ast.ClassDef):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ClassDef):
            found[node.name] = f"{here}.{node.name}"
    return found


def spelled(node: ast.expr, known: Mapping[str, str]) -> str:
    """The full name that an expression spells, "" for none."""
    match node:
        case ast.Name():
            return known.get(node.id, "")
        case ast.Attribute():
            return f"{spelled(node.value, known)}.{node.attr}"
        case ast.Subscript():
            return spelled(node.value, known)
    return ""


def bases(source: str, known: Mapping[str, str]) -> Iterator[str]:
    for node in nodes(source, ast.ClassDef):
        yield from (spelled(base, known) for base in node.bases)


def made(source: str, known: Mapping[str, str]) -> Iterator[str]:
    """What is called, or handed on to be called."""
    for node in nodes(source, ast.Call):
        yield spelled(node.func, known)
        yield from (spelled(k.value, known) for k in node.keywords if k.arg == "default_factory")


def both(sources: Mapping[str, str]) -> set[str]:
    """Classes that are made, and are bases of others; sources by module."""
    called: set[str] = set()
    under: set[str] = set()
    moved: dict[str, str] = {}  # from where a package shows a name to where it is written
    for here, source in sources.items():
        known = names(source, here)
        moved |= {f"{here}.{name}": full for name, full in known.items()}
        called |= {*made(source, known)}
        under |= {*bases(source, known)}
    return {written(x, moved) for x in called} & {written(x, moved) for x in under} - {""}


def written(name: str, moved: Mapping[str, str]) -> str:
    while moved.get(name, name) != name:
        name = moved[name]
    return name


def ours() -> dict[str, str]:
    return {module(path): path.read_text() for path in ROOT.rglob("*.py")}


def test_a_class_is_abstract_or_final():
    found = {name for name in both(ours()) if name.startswith("weighbridge.")}
    assert found == {*ALLOWED}


@pytest.mark.parametrize(
    ("use", "found"),
    [("p.A()", {"p.base.A"}), ("f(default_factory=p.A)", {"p.base.A"}), ("", set())],
)
def test_the_test_above_can_fail(use, found):
    sources = {
        "p": "from p.base import A",
        "p.base": "class A: ...",
        "p.other": f"from p import A as B\nimport p\nclass C(B): ...\n{use}",
    }
    assert both(sources) == found

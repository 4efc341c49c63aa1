"""The order of the rooms inside training/: a module imports from its own room and from those before
it. What is imported for its type alone does not count."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import weighbridge.training
from tests.code import nodes

pytestmark = pytest.mark.house

ROOT = Path(weighbridge.training.__file__).parent
PACKAGE = "weighbridge.training."
ROOMS = (
    *("frameworks", "kbit", "modules", "optimizers", "sizes", "tensors"),
    *("adapters", "optimization", "sharding.numbers", "sharding.packed", "plan"),
    *("sharding", "paged", "step", "attend", "losses", "alike"),
    "nets",  # which program a model type has
    "nets.parts",  # what programs are put together from
    "nets.families",  # each other module of nets
    *("build", "unpacked", "run", "host", "phases", "launching", "remarks", "answer"),
)


def room(name: str) -> str:
    """The room of a module, or of what is imported from it."""
    first, _, rest = name.partition(".")
    if first == "nets" and rest:
        known = (ROOT / "nets" / f"{rest.split('.')[0]}.py").exists()
        return "nets.parts" if rest.startswith("parts") else "nets.families" if known else "nets"
    before = ("sharding.numbers", "sharding.packed")  # what a plan asks of sharding
    return next((found for found in before if name.startswith(found)), first)


def imports(source: str) -> Iterator[str]:
    """What a module imports of training, but for types alone."""
    types = {
        inner
        for node in nodes(source, ast.If)
        if ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in nodes(source, ast.ImportFrom):
        if node not in types:
            whole = (f"{node.module}.{each.name}" for each in node.names)
            yield from (name.removeprefix(PACKAGE) for name in whole if name.startswith(PACKAGE))


def upward(here: str, source: str) -> list[str]:
    """The rooms behind its own that a module imports from."""
    order = ROOMS.index(room(here))
    return [there for there in imports(source) if ROOMS.index(room(there)) > order]


def test_imports_point_downwards():
    found = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            found[name] = upward(name, path.read_text())
    assert {name: there for name, there in found.items() if there} == {}


def test_the_test_above_can_fail():
    low = "from weighbridge.training.nets import gemma\nfrom weighbridge.training.plan import Plan"
    assert upward("nets.parts.layer", low) == ["nets.gemma"]


def test_types_alone_do_not_count():
    source = "if TYPE_CHECKING:\n    from weighbridge.training.run import Run"
    assert upward("plan", source) == []

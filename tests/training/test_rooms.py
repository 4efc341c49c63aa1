"""The order of the rooms inside forward/ and training/: a module imports from its own room and from
those before it. What is imported for its type alone does not count."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.syntax import nodes

import weighbridge

pytestmark = pytest.mark.house

ROOT = Path(weighbridge.__file__).parent
ROOMS = {
    "training.forward": (
        *("tensors", "machine", "tape", "backward", "loops", "ops", "checkpoint", "splice"),
        *(
            "modules",
            "adapters",
            "deltas",
            "butterflies",
            "prompts",
            "tuners",
            "limits",
            "step",
            "losses",
            "scoring",
            "heads",
            "alike",
        ),
        "nets",  # which program a model type has
        "parts",  # what programs are put together from
        "nets.families",  # each other module of nets
    ),
    "training": (
        *(
            "forward",
            "parameters",
            "segments",
            "objective",
            "frameworks",
            "kbit",
            "optimizers",
            "adapters",
            "optimization",
            "objective",
        ),
        *(
            "sharding.numbers",
            "sharding.packed",
            "sharding.sequence",
            "sharding.schedule",
            "sharding.stages",
            "tuners",
            "prompts",
            "packages",
            "float8",
            "unsloth",
            "plan",
            "sharding",
            "paged",
            "litgpt",
            "gguf",
            "megatron",
        ),
        *(
            "adapting",
            "build",
            "stage_buffers",
            "run",
            "kept",
            "host",
            "phases",
            "launching",
            "learning.words",
            "learning.lines",
            "scripts",
            "remarks",
            "roles",
            "answer",
            "learning.record",
            "learning.megatron",
            "learning",
        ),
    ),
}
WITHIN = {"training.forward.machine": ("ops",)}  # lower() casts, and casts ask the machine


def room(package: str, name: str) -> str:
    """The room of a module, or of what is imported from it."""
    first, _, rest = name.partition(".")
    if first == "nets" and rest:
        known = (ROOT / "training" / "forward" / "nets" / f"{rest.split('.')[0]}.py").exists()
        return "nets.families" if known else "nets"
    return next((known for known in ROOMS[package] if f"{name}.".startswith(f"{known}.")), first)


def imports(package: str, source: str) -> Iterator[str]:
    """What a module imports of its package, but for types alone."""
    lead = f"weighbridge.{package}."
    types = {
        inner
        for node in nodes(source, ast.If)
        if ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in nodes(source, ast.ImportFrom):
        if node not in types:
            whole = (f"{node.module}.{each.name}" for each in node.names)
            yield from (name.removeprefix(lead) for name in whole if name.startswith(lead))


def upward(package: str, here: str, source: str) -> list[str]:
    """The rooms behind its own that a module imports from."""
    order = ROOMS[package]
    mine = order.index(room(package, here))
    there = {name: room(package, name) for name in imports(package, source)}
    may = WITHIN.get(f"{package}.{here}", ())
    return [name for name, at in there.items() if order.index(at) > mine and at not in may]


@pytest.mark.parametrize("package", ROOMS)
def test_imports_point_downwards(package):
    found = {}
    place = ROOT.joinpath(*package.split("."))
    for path in place.rglob("*.py"):
        name = ".".join(path.relative_to(place).with_suffix("").parts)
        name = name.removesuffix(".__init__")
        if name != "__init__" and name.partition(".")[0] != "forward":
            found[name] = upward(package, name, path.read_text())
    assert {name: there for name, there in found.items() if there} == {}


def test_the_test_above_can_fail():
    low = "from weighbridge.training.forward.nets import decoders"
    assert upward("training.forward", "parts.layer", low) == ["nets.decoders"]


def test_types_alone_do_not_count():
    source = "if TYPE_CHECKING:\n    from weighbridge.training.run import TrainingRun"
    assert upward("training", "plan", source) == []

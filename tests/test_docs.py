"""The documentation names what there is; its generated pages are current (tools/docs.py --check)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import all_of
from weighbridge.base.memory import LEVEL_OF
from weighbridge.faces.cli.menu import COMMANDS
from weighbridge.workload import INFER

ROOT = Path(__file__).parent.parent
DOCS = "\n".join(p.read_text() for p in (ROOT / "docs").rglob("*.md"))
TREE = (ROOT / "docs" / "architecture.md").read_text()  # of the source


@all_of("name", LEVEL_OF)
def test_every_component_is_explained(name):
    assert f"| `{name}` |" in DOCS


@all_of("command", COMMANDS)
def test_every_command_is_in_the_docs(command):
    assert f"## weighbridge {command}" in DOCS


def test_every_setting_of_a_request_is_a_flag():
    for setting in INFER.values():
        assert setting.flag in DOCS


def test_the_tree_names_every_module():
    source = ROOT / "src" / "weighbridge"
    missing = [
        path.name
        for path in sorted(source.iterdir())
        if (
            (path.suffix == ".py" and not path.name.startswith("_"))
            or (path / "__init__.py").exists()
        )
        and path.name not in TREE
    ]
    assert missing == ["measure.py"]


def named(text):
    """Modules and folders that a list of them names, a line or a column each."""
    return re.findall(r"(?:^|\s{2,})([a-z_]\w*(?:\.py|/))(?=\s)", text, re.M)


def test_the_tree_names_rooms_that_are_there():
    source = ROOT / "src" / "weighbridge"
    tree = TREE[TREE.index("src/weighbridge/  ") :].partition("```")[0]
    wings = re.split(r"^  (?=[a-z]+/)", tree.partition("src/weighbridge_lab")[0], flags=re.M)[1:]
    rooms = [re.findall(r"([a-z_]+(?:\.py|/))(?: |,|$)", wing, re.M) for wing in wings]
    assert rooms and all(rooms)
    gone = [r for first, *rest in rooms for r in rest if not (source / first / r).exists()]
    assert gone == []


def test_the_docstring_of_a_package_names_modules_that_are_there():
    gone = []
    for path in (ROOT / "src" / "weighbridge").rglob("__init__.py"):
        listed = named(ast.get_docstring(ast.parse(path.read_text())) or "")
        gone += [f"{path.parent.name}: {one}" for one in listed if not (path.parent / one).exists()]
    assert gone == []


def test_a_list_of_modules_is_read_in_columns():
    assert named("What.\n\na.py   what it is   b/   more\nsee c.py") == ["a.py", "b/"]


@pytest.mark.house
def test_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [["--without", "fit", "train"], pytest.param([], marks=pytest.mark.slow)],
    ids=("quick", "all"),
)
def test_screens_in_the_docs_are_what_is_printed(more):
    command = [sys.executable, "-m", "tools.screens", "--check", *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_public_functions_are_documented():
    tree = ast.parse((ROOT / "src/weighbridge/faces/api.py").read_text())
    public = [n for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    assert public
    assert all(ast.get_docstring(n) for n in public)

"""Public names: each is where the package says, and a type checker is told the same."""

import ast
import tomllib
from pathlib import Path

import weighbridge
from tests.cases import all_of

ROOT = Path(__file__).parent.parent


def told_to_a_type_checker():
    """{name: module} of what `__init__` imports under TYPE_CHECKING."""
    tree = ast.parse((ROOT / "src/weighbridge/__init__.py").read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If) and isinstance(n.test, ast.Name))
    found = [n for n in block.body if isinstance(n, ast.ImportFrom)]
    return {alias.name: n.module.removeprefix("weighbridge.") for n in found for alias in n.names}


def test_both_lists_of_homes_are_one():
    assert told_to_a_type_checker() == weighbridge._HOMES


def test_all_is_every_name_that_needs_no_torch():
    needs = {"FakeGPU", "trace"}
    needs |= {"load_ipython_extension"}
    assert {*weighbridge.__all__} == {*weighbridge._HOMES, "__version__"} - needs


@all_of("name", weighbridge.__all__)
def test_each_name_is_there(name):
    assert getattr(weighbridge, name)
    assert name in dir(weighbridge)


def test_mypy_reads_the_file_of_uses():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "tests/public_face.py" in told["tool"]["mypy"]["files"]

"""The types of the source are the same whatever else is installed."""

import sys
import tomllib
from pathlib import Path

import pytest
from tools.syntax import imports

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ALWAYS = {"click", "rich", "_typeshed"}  # dependencies with types, and mypy's own


def third_party(text):
    """Yield the packages that a module imports which are neither Python's nor ours."""
    for module, _ in imports(text):
        root = module.partition(".")[0]
        if root not in sys.stdlib_module_names and not root.startswith("weighbridge"):
            yield root


@pytest.mark.house
def test_mypy_reads_no_package_that_may_be_missing():
    """mypy takes a package that it does not follow for Any, installed or not. Add a new one to the
    overrides in pyproject.toml."""
    (override,) = PROJECT["tool"]["mypy"]["overrides"]
    assert override["ignore_missing_imports"] and override["follow_imports"] == "skip"
    left = {name.removesuffix(".*") for name in override["module"]}
    paths = [*(ROOT / "src").rglob("*.py"), ROOT / "tests" / "public_face.py"]
    found = {root for path in paths for root in third_party(path.read_text())}
    assert "torch" in found
    assert found - ALWAYS - left == set()


def test_the_test_of_imports_can_fail():
    text = (
        "import os, json\nimport torch.nn as nn\nfrom PIL import Image\nfrom weighbridge import x"
    )
    assert {*third_party(text)} == {"torch", "PIL"}

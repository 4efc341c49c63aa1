"""What a person reads in the code stands by itself (docs/words.md)."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
REFUSED = {"Of", "By", "As", "Those", "Its"}
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def sources():
    return sorted(p for room in ("src", "tools") for p in (ROOT / room).rglob("*.py"))


def test_a_docstring_is_understood_without_the_name():
    """A docstring begins with a verb or a noun: it does not go on where the name ends."""
    refused = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if text and text.split()[0].strip(":,") in REFUSED:
                refused.append(f"{path.relative_to(ROOT)}:{node.body[0].lineno} {text[:60]}")
    assert not refused

"""What a person reads in the code stands by itself (docs/words.md)."""

import ast
import pkgutil
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.cases import all_of
from tests.code import nodes

ROOT = Path(__file__).parent.parent
REFUSED = {"Of", "By", "As", "Those", "Its"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sources():
    return sorted(p for room in ("src", "tools", "tests") for p in (ROOT / room).rglob("*.py"))


@pytest.mark.house
def test_a_docstring_is_understood_without_the_name():
    """A docstring begins with a verb or a noun: it does not go on where the name ends."""
    refused = []
    for path in sources():
        for node in nodes(path.read_text(), *DOCUMENTED):
            text = ast.get_docstring(node, clean=False)
            if text and text.split()[0].strip(":,") in REFUSED:
                refused.append(f"{path.relative_to(ROOT)}:{node.body[0].lineno} {text[:60]}")
    assert not refused


# names that two modules may define, and why; fifteen at most
TWICE: dict[str, str] = {}


@pytest.mark.house
def test_a_type_has_a_name_of_its_own():
    homes = defaultdict(list)
    for path in (ROOT / "src").rglob("*.py"):
        for node in nodes(path.read_text(), ast.ClassDef):
            homes[node.name].append(str(path.relative_to(ROOT)))
    twice = {name: found for name, found in homes.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in TWICE} == {}
    assert set(TWICE) <= set(twice)
    assert len(TWICE) <= 15


# ---- docs/words.md

ROW = re.compile(r"^\| (.+?) \| (.+) \| `(weighbridge[\w.]*)` \|$", re.M)
WORDS = ROW.findall((ROOT / "docs" / "words.md").read_text())


def test_words_have_one_meaning_each():
    assert len(WORDS) == len({word for word, _, _ in WORDS}) == 57


@all_of("name", sorted({name for _, _, name in WORDS}))
def test_the_code_of_a_word_is_there(name):
    assert pkgutil.resolve_name(name)


# ---- letters

LETTERS = {
    letter: set(re.findall(r"`(\w+)`", types))
    for letters, types in re.findall(
        r"^\| (`\w`(?:, `\w`)*) \| .+ \| (.+) \|$", (ROOT / "docs" / "words.md").read_text(), re.M
    )
    for letter in re.findall(r"`(\w)`", letters)
}
ALIKE = {"LeafTensor", "ParameterTensor", "Any", "None", "_Machine", "Asked", "torch", "FakeTensor"}
ALIKE |= {"LiveTensor", "list"}
DRAWN = "charts"  # letters of SVG


def letters(text):
    """Parameters of one letter, with the words of their types."""
    for node in nodes(text, ast.arg):
        if len(node.arg) == 1 and node.arg != "_" and node.annotation is not None:
            yield node.arg, set(re.findall(r"\w+", ast.unparse(node.annotation)))


def strange(text):
    """Yield letters that stand for something else than docs/words.md says."""
    for letter, types in letters(text):
        known = LETTERS.get(letter)
        if known is None or (known and not types <= known | ALIKE):
            yield letter, " ".join(sorted(types))


@pytest.mark.house
def test_a_letter_means_one_thing():
    source = ROOT / "src"
    paths = [p for p in source.rglob("*.py") if DRAWN not in p.parts]
    found = {str(p.relative_to(source)): list(strange(p.read_text())) for p in paths}
    assert {path: letters for path, letters in found.items() if letters} == {}


def test_the_letter_test_can_fail():
    assert list(strange("def f(c: Config, w: Infer): ...")) == []
    assert list(strange("def f(c: Component, j: int): ...")) == [("c", "Component"), ("j", "int")]

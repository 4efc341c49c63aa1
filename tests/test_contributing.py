"""The pages for people who add something: what they name is there."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.cases import all_of

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs/contributing").glob("*.md"))
KINDS = {
    "setting",
    "family",
    "format",
    "gpu",
    "pipeline",
    "engine",
    "release",
    "optimizer",
    "runfile",
    "command",
    "output",
    "warning",
}
TOPS = ("src/", "tests/", "docs/", "tools/", "changes/", ".ci/", ".github/")
TOP_FILES = re.compile(r"[A-Za-z.]+\.(?:md|toml|yml|yaml)|Makefile")


def named(text):
    """Paths from the root of the repository that a page has between backticks."""
    for found in re.findall(r"`([^`\n]+)`", text):
        path = found.partition(" ")[0]  # `.ci/run style` runs one
        if path.startswith(TOPS) or TOP_FILES.fullmatch(path):
            yield path


def commands(text):
    """What a page's shell blocks run: (program, argument that is a path)."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            yield line.partition("#")[0].split()


def test_each_kind_has_a_page():
    assert {page.stem for page in PAGES} == KINDS
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert {*re.findall(r"docs/contributing/(\w+)\.md", contributing)} == KINDS


@all_of("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_every_file_that_is_named_exists(page):
    found = [*named(page.read_text())]
    assert found
    assert [path for path in found if not (ROOT / path).exists()] == []


@all_of("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_runs_is_there(page):
    ran = [*commands(page.read_text())]
    assert any(words[0] in ("pytest", "python") for words in ran if words)
    for words in ran:
        for word in words[1:]:
            if word.startswith(("tests/", "tools/")):
                assert (ROOT / word).exists(), word
            if words[:2] == ["python", "-m"]:
                assert (ROOT / f"{words[2].replace('.', '/')}.py").exists()


@all_of("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_who_needs_it_and_shows_a_command(page):
    text = page.read_text()
    first, second = text.split("\n\n")[1:3]
    assert first.startswith("You need this page if")
    assert second.startswith("```sh\n")
    assert "## Run" in text
    assert "## Worked example" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_bare_file_name_is_one_of_ours(page):
    ours = {path.name for top in ("src", "tests") for path in (ROOT / top).rglob("*.*")}
    for name in re.findall(r"`(\w+\.(?:py|jsonl|json))`", page.read_text()):
        assert name in ours, name


def test_the_test_of_files_can_fail():
    assert [*named("`src/none.py`, `make test`, `README.md`")] == ["src/none.py", "README.md"]
    assert not (ROOT / "src/none.py").exists()


def test_links_of_the_first_pages_lead_somewhere():
    for name in ("CONTRIBUTING.md", "SECURITY.md", "README.md", "README.zh.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
            assert link.startswith("https://") or (ROOT / link).exists(), f"{name}: {link}"


def test_dev_has_what_make_check_runs():
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    have = {re.match(r"[a-z-]+", line)[0] for line in dev["dev"]}
    assert any(re.match(r"weighbridge\[.*\btest\b", line) for line in dev["dev"])  # pytest
    check = re.search(r"^check:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    assert {*re.findall(r"\$\(BIN\)/(\w+)", check)} - {"python", "pytest"} <= have

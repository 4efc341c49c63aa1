"""The files of the page: the vendored module, colours, words. No browser is needed."""

import base64
import hashlib
import re
from pathlib import Path

from weighbridge.base.words import entries
from weighbridge.faces.charts.palette import FILLS
from weighbridge.faces.web.form import form

PAGE = Path(__file__).parents[2] / "src" / "weighbridge" / "faces" / "web" / "page"


def test_the_vendored_modules_are_what_their_readme_says():
    said = re.findall(r"`sha384-([^`]+)`", (PAGE / "vendor" / "README.md").read_text())
    module = (PAGE / "vendor" / "htm-preact.js").read_bytes()
    reader = b"".join(p.read_bytes() for p in sorted((PAGE / "vendor" / "hyparquet").glob("*.js")))
    found = [base64.b64encode(hashlib.sha384(data).digest()).decode() for data in (module, reader)]
    assert found == said


def test_colours_are_those_of_the_charts():
    style = (PAGE / "style.css").read_text()
    found = re.findall(r"--s(\d): light-dark\((#\w+), (#\w+)\)", style)
    assert [(light, dark) for _, light, dark in found] == list(FILLS)


def test_nothing_is_inline_and_nothing_comes_from_elsewhere():
    index = (PAGE / "index.html").read_text()
    assert not re.search(
        r"<style|style=|<script(?! type=\"module\" src=\"app.js\">)|\bon\w+=", index
    )
    for path in PAGE.rglob("*"):
        if path.suffix in (".css", ".html", ".js") and "vendor" not in path.parts:
            assert not re.search(
                r"""(?:src|href|url\(|from|import\()\s*=?\s*["']?https?:""", path.read_text()
            ), path
    scripts = "".join(p.read_text() for p in PAGE.glob("*.js"))
    assert not re.search(
        r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", scripts
    )


def test_the_page_has_every_word_that_its_scripts_show_and_no_other():
    scripts = "".join(p.read_text() for p in PAGE.glob("*.js"))
    used = set(re.findall(r'words\["([a-z._]+)"\]', scripts))
    used |= {"share.served", "share.done", "margin.spare", "margin.short"}
    used |= {"gpu.wanted"}  # of errors
    assert used <= form("en")["words"].keys() == form("zh")["words"].keys()
    prefixes = tuple(set(re.findall(r"words\[`([a-z]+\.)\$", scripts)))
    own = (key for key in entries("page") if not key.startswith(("tab.", "section.")))
    assert {key for key in own if key not in used and not key.startswith(prefixes)} == set()

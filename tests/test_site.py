"""The docs site: every page is in the navigation, the editions agree, commands run, pictures are current."""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from tools import evidence, gallery, site
from tools.screens import FIRST

from tests.cases import all_of
from weighbridge.faces.cli.menu import run
from weighbridge.machines.accelerators.names import find
from weighbridge.models import catalogue
from weighbridge.workload import INFER, TRAIN

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CONFIGURATIONS = {"mkdocs.yml": DOCS, "mkdocs.zh.yml": DOCS / "zh"}
KEYS = {"task", "model", "lang", "view", "gpu", *INFER, *TRAIN}
TASKS = {"index": "fit", "load": "load", "infer": "infer", "train": "train", "fit": "fit"}


def navigation(name):
    """The pages that a configuration names, in order."""
    text = (ROOT / name).read_text()
    return re.findall(r"^ *- (?:.*: )?(\S+\.md)$", text[text.index("\nnav:") :], re.M)


def texts(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.md")}


def blocks(text):
    return re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.M | re.S)


def commands(text):
    """Lines of weighbridge in a page, without what stands behind them."""
    lines = (line for block in blocks(text) for line in block.splitlines())
    told = (re.match(r"(?:\$ )?(weighbridge .+)", line) for line in lines)
    return [re.sub(r"\s+(#.*|&& .*)$", "", m[1]) for m in told if m]


# ---- the navigation


@pytest.mark.parametrize(("name", "folder"), CONFIGURATIONS.items())
def test_the_navigation_names_every_page_once(name, folder):
    told = navigation(name)
    there = {page for page in texts(folder) if not page.startswith("zh/")}
    assert Counter(told) == dict.fromkeys(there, 1)


@pytest.mark.parametrize("folder", [DOCS, ROOT])
def test_every_column_of_a_table_has_a_head(folder):
    """A screen reader says the head before each cell: a column without one is said as nothing."""
    pages = folder.glob("**/*.md" if folder == DOCS else "*.md")
    heads = [
        (page.name, cells)
        for page in pages
        for cells in re.findall(r"^\|(.*)\|\n\|[-| :]+\|$", page.read_text(), re.M)
    ]
    assert heads
    assert not [head for head in heads if any(not cell.strip() for cell in head[1].split("|"))]


def test_newcomers_come_first():
    order = [page.removesuffix(".md") for page in navigation("mkdocs.yml")]
    wanted = ("index", "first-steps", "load", "infer", "train", "fit", "remedies", "oom", "doctor")
    assert [page for page in order if page in wanted] == list(wanted)


def test_the_page_of_decisions_names_its_generator_as_it_is_pinned():
    pinned = re.search(r"mkdocs-material==([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert f"MkDocs Material {pinned[1]}" in (DOCS / "adr" / "0003-docs-site.md").read_text()


# ---- the editions


@all_of("name", FIRST)
def test_the_editions_have_the_same_headings_and_commands(name):
    english, chinese = ((folder / f"{name}.md").read_text() for folder in CONFIGURATIONS.values())
    levels = [re.findall(r"^(#+) ", _outside(text), re.M) for text in (english, chinese)]
    assert levels[0] == levels[1]
    asked = commands(chinese)
    assert commands(english) == [line.replace(" --lang zh", "") for line in asked]
    assert all("--lang zh" in line for line in asked)


def test_the_chinese_edition_has_the_first_pages():
    assert site.translated() == sorted(f"{name}.md" for name in (*FIRST, "limits", "reference"))


@all_of("name", FIRST)
def test_chinese_pages_are_in_chinese(name):
    text = re.sub(r"`[^`]*`", "", _outside((DOCS / "zh" / f"{name}.md").read_text()))
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        assert re.search(r"[\u4e00-\u9fff]", heading), heading


COMMANDS = {c for name in FIRST for c in commands((DOCS / "zh" / f"{name}.md").read_text())}


def _outside(text):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    sorted(
        c for c in COMMANDS if c.split()[1] != "trace"
    ),  # a script of the reader's own, and torch
)
def test_commands_of_the_first_pages_run(line, tmp_path, monkeypatch, capsys):
    """Commands are read from the Chinese edition, and are those of both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = shlex.split(line)[1:]
    code, told = run(words), capsys.readouterr()
    if words[0] == "fit" and "gpu" not in line and code == 2:  # this machine's card: there is none
        assert "--gpu" in told.err
    else:
        assert code in (0, 1, 4), told.err
        assert told.out or list(tmp_path.iterdir())  # -o FILE


# ---- what a newcomer reads first


@all_of("name", sorted(set(texts(DOCS)) - {"index.md"}))
def test_a_page_says_who_needs_it_and_shows_a_command(name):
    if name.startswith(("adr/", "zh/")):
        return
    start = "\n".join((DOCS / name).read_text().splitlines()[:30])
    assert re.match(r"# .+\n\n(<!-- .+ -->\n\n)?You need this page if ", start), name
    assert re.search(
        r"^\$? ?weighbridge |`weighbridge [a-z]+|import weighbridge|-m venv", start, re.M
    ), name


# ---- the calculator in the pages


@pytest.mark.parametrize("folder", CONFIGURATIONS.values(), ids=("en", "zh"))
@pytest.mark.parametrize(("name", "task"), TASKS.items())
def test_the_calculator_of_a_page_asks_what_the_page_is_about(name, task, folder):
    (mark,) = site.MARK.finditer((folder / f"{name}.md").read_text())
    state = dict(parse_qsl(mark["state"], strict_parsing=True))
    assert state["task"] == task
    assert set(state) <= KEYS
    assert catalogue.has(state["model"])
    assert state.get("lang", "en") == folder.name.replace("docs", "en")
    assert find(state["gpu"])


def test_a_mark_becomes_a_frame_and_a_link():
    page = "before\n\n<!-- calculator: task=fit&model=x | What a model needs -->\n\nafter\n"
    made = site.embedded(page, "en")
    assert '<iframe src="calculator/index.html#task=fit&amp;model=x"' in made
    assert 'title="What a model needs" loading="lazy"' in made
    assert '<a href="calculator/index.html#task=fit&amp;model=x">' in made
    assert "../calculator/index.html#" in site.embedded(page, "zh")


# ---- the Chinese edition on its way to the site


def test_links_to_pages_in_english_lead_there():
    page = "[a](../trace.md), [b](../training.md#host-memory), [c](load.md#x)"
    assert (
        site.to_english(page)
        == "[a](../trace.html), [b](../training.html#host-memory), [c](load.md#x)"
    )


def test_links_that_are_names_of_files_get_the_words_of_the_navigation():
    page = "[gpus.md](gpus.md) says, [load.md](load.md#host-memory), [x](load.md), [no.md](no.md)"
    wanted = (
        "[Accelerators](gpus.md) says, [Load](load.md#host-memory), [x](load.md), [no.md](no.md)"
    )
    assert site.labelled(page) == wanted


def test_files_outside_the_docs_are_named_and_not_linked():
    page = "[a](../Makefile), [`Makefile`](../Makefile#x), [c](load.md)"
    assert site.in_words(page, DOCS) == "a (`Makefile`), `Makefile`, [c](load.md)"
    inside = "[b](../load.md)"
    assert site.in_words(inside, DOCS / "adr") == inside


def test_line_ends_between_chinese_signs_go_and_screens_stay():
    page = "这一页,\n讲显存。\n\n```\n第一行\n第二行\n```\n\n- 项\n- 目\n"
    assert site.joined(page) == "这一页,讲显存。\n\n```\n第一行\n第二行\n```\n\n- 项\n- 目\n"


# ---- what was built


def test_what_is_wrong_with_a_built_site_is_found(tmp_path):
    (tmp_path / "index.html").write_text(
        '<title>x</title><a href="b.html">1</a><a href="a.html#no">2</a><a href="a.html#yes">3</a>'
        '<a href="https://example.org">4</a><script src="https://cdn.example.org/x.js"></script>'
        '<img src="gone.svg"><link rel="stylesheet" href="//fonts.example.org/x.css">'
    )
    (tmp_path / "a.html").write_text('<p id="yes">')
    assert site.faults(tmp_path) == [
        "index.html: b.html is not there",
        "index.html: a.html#no has no such place",
        "index.html: gone.svg is not there",
        "index.html: https://cdn.example.org/x.js is loaded from elsewhere",
        "index.html: //fonts.example.org/x.css is loaded from elsewhere",
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site without the calculator."""
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    pytest.importorskip("material", reason="needs the extra [docs]")
    to = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "tools.site", "--no-page", "--to", to]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return to / "site"


def test_the_generator_refuses_what_leads_nowhere(tmp_path):
    pytest.importorskip("material", reason="needs the extra [docs]")
    configuration = site.staged("en", tmp_path, page=False)
    with (tmp_path / "pages" / "en" / "index.md").open("a") as page:
        page.write("\n[one](nowhere.md), [two](load.md#no-such-place)\n")
    with pytest.raises(site.SiteError, match=r"(?s)nowhere\.md.*no-such-place"):
        site.generated(configuration)


def test_every_page_is_built_with_a_title_of_its_own(built):
    found = site.pages(built)
    wanted = set(texts(DOCS))
    assert {p.relative_to(built).with_suffix(".md").as_posix() for p in found} == wanted
    titles = Counter(p.title for path, p in found.items())
    assert all(titles)
    assert max(titles.values()) == 1, titles.most_common(3)


def test_each_edition_says_its_language_and_links_to_the_other(built):
    for path, page in site.pages(built).items():
        chinese = path.is_relative_to(built / "zh")
        head = path.read_text().partition("<head>")[0]
        assert f'<html lang="{"zh" if chinese else "en"}"' in head
        assert 'rel="alternate"' not in path.read_text(), (
            "the theme leads its links to a first page"
        )
        other = built / path.relative_to(built / "zh") if chinese else built / "zh" / path.name
        wanted = other if other.exists() else built / "zh" / "index.html"
        assert wanted in {(path.parent / link.partition("#")[0]).resolve() for link in page.links}


def test_no_style_asks_another_server(built):
    for path in built.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", path.read_text()), path.name


# ---- pictures and tables from the evidence, and the gallery


def test_every_picture_of_the_gallery_stands_below_its_command():
    page = (DOCS / "gallery.md").read_text()
    told = re.findall(r"\]\((gallery/[\w-]+\.svg)\)", page)
    assert told
    assert list(gallery.commands()) == told
    assert sorted(p.name for p in (DOCS / "gallery").iterdir()) == sorted(
        Path(t).name for t in told
    )
    assert all((DOCS / t).stat().st_size < 30_000 for t in told)


@pytest.mark.slow
@pytest.mark.parametrize("file", gallery.commands())
def test_a_picture_of_the_gallery_is_what_its_command_draws(file):
    """Stale: run python -m tools.gallery."""
    assert (DOCS / file).read_text() == gallery.drawn(gallery.commands()[file], file)


def test_the_table_of_sources_has_the_figures_that_are_pinned():
    """tests/accuracy.json has the same predictions; test_accuracy.py holds them to the evidence."""
    pins = json.loads((ROOT / "tests" / "accuracy.json").read_text())
    wanted = {}
    for name, row in pins.items():
        source = name.partition(" | ")[0]
        n, inside = wanted.get(source, (0, 0))
        wanted[source] = (n + row["n"], inside + round(row["inside"] * row["n"]))
    page = (DOCS / "accuracy.md").read_text()
    section = page[page.index(evidence.START) : page.index(evidence.END)]
    rows = re.findall(r"^\| (\w+) \| (\d+) \| ([\d.]+)% ", section, re.M)
    tasks = ("serving", "training")  # rows of how intervals hold
    assert {name: (int(n), share) for name, n, share in rows if name not in tasks} == {
        name: (n, f"{inside / n * 100:.1f}") for name, (n, inside) in wanted.items()
    }


@pytest.mark.slow
@pytest.mark.nightly
def test_the_accuracy_page_is_drawn_from_the_evidence():
    """Stale: run python -m tools.evidence."""
    for path, text in evidence.files(evidence.evidence()).items():
        assert path.read_text() == text, path.name

"""Build the docs site into build/site: `make site`.

    python -m tools.site              English, Chinese and the calculator
    python -m tools.site --no-page    without the calculator
    python -m tools.site --to DIR     into DIR/site

Pages are copied to DIR/pages first. There each line `<!-- calculator: FRAGMENT | TITLE -->`
becomes the calculator with that fragment preset, or nothing where the calculator is not built, and
links of the Chinese edition to pages that are in English alone lead there. Neither needs a plug-in
of the generator (docs/adr/0003-docs-site.md). Then mkdocs builds both editions with --strict.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
DOCS, BUILD = ROOT / "docs", ROOT / "build"
CALCULATOR = "calculator"
MARK = re.compile(r"^<!-- calculator: (?P<state>\S+) \| (?P<title>[^\n]+?) -->$", re.M)
TO_ENGLISH = re.compile(r"\]\(\.\./(?P<page>[\w/-]+)\.md(?P<anchor>#[\w-]+)?\)")
LINK = re.compile(r"\[(?P<text>[^\]\n]+)\]\((?P<path>\.\./[^)#\s]+)[^)\s]*\)")
LABEL = re.compile(r"^ +- (?P<label>.+): (?P<page>\S+\.md)$", re.M)
NAMED = re.compile(r"\[(?P<page>[\w-]+\.md)\]\((?P=page)")
BROKEN = re.compile(r"(?<=[\u3000-\u9fff,.:;)])\n(?=[\u4e00-\u9fff(`])")
WORDS = {
    "en": "The calculator runs in your browser; what you ask is sent to no server. "
    '<a href="{link}">Open it on a page of its own</a>',
    "zh": '计算器在您的浏览器里运行,问题不发送给任何服务器。<a href="{link}">单独打开</a>',
}


class SiteError(Exception):
    """What the generator says is wrong, a line each."""


def translated() -> list[str]:
    """Names of the pages that are there in Chinese."""
    return sorted(path.name for path in (DOCS / "zh").glob("*.md"))


def embedded(page: str, lang: str) -> str:
    """The page with the calculator at each mark."""
    up = "../" if lang == "zh" else ""

    def frame(found: re.Match[str]) -> str:
        state = escape(found["state"])
        link = f"{up}{CALCULATOR}/index.html#{state}"
        return (
            f'<div class="wb-calculator">\n<p>{WORDS[lang].format(link=link)}</p>\n'
            f'<iframe src="{link}" title="{escape(found["title"])}" loading="lazy"></iframe>'
            "\n</div>"
        )

    return MARK.sub(frame, page)


def to_english(page: str) -> str:
    """Links to pages that have no Chinese edition, as the site has them."""
    return TO_ENGLISH.sub(lambda m: f"](../{m['page']}.html{m['anchor'] or ''})", page)


@cache
def labels() -> dict[str, str]:
    """What the navigation calls each page."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return {m["page"]: m["label"] for m in LABEL.finditer(text)}


def labelled(page: str) -> str:
    """Links whose words are a file's name, by what the navigation calls that page."""

    def link(found: re.Match[str]) -> str:
        label = labels().get(found["page"])
        return f"[{label}]({found['page']}" if label else found[0]

    return NAMED.sub(link, page)


def in_words(page: str, folder: Path) -> str:
    """The page with links to files outside docs/, which are no part of the site, as paths."""

    def link(found: re.Match[str]) -> str:
        target = (folder / found["path"]).resolve()
        if target.is_relative_to(DOCS) or not target.is_relative_to(ROOT):
            return found[0]
        path = f"`{target.relative_to(ROOT)}`"
        return path if found["text"] == path else f"{found['text']} ({path})"

    return LINK.sub(link, page)


def joined(page: str) -> str:
    """Chinese lines without the spaces that a browser would make of line ends; screens stay."""
    parts = re.split(r"(^```.*?^```$)", page, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else BROKEN.sub("", part) for part in parts)


def staged(lang: str, to: Path, *, page: bool) -> Path:
    """Copy the sources of one edition, and give the generator's configuration for them."""
    source, target = DOCS / "zh" if lang == "zh" else DOCS, to / "pages" / lang
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("zh"))
    for path in target.rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        text = in_words(labelled(text), (source / path.relative_to(target)).parent)
        text = embedded(text, lang) if page else MARK.sub("", text)
        path.write_text(joined(to_english(text)) if lang == "zh" else text, encoding="utf-8")
    if lang == "zh":
        shutil.copytree(DOCS / "assets", target / "assets")
    base = {"en": "mkdocs.yml", "zh": "mkdocs.zh.yml"}[lang]
    site = to / "site" / "zh" if lang == "zh" else to / "site"
    (to / "pages" / f"{lang}.yml").write_text(
        f"INHERIT: {ROOT / base}\ndocs_dir: {target}\nsite_dir: {site}\n"
        f"theme: {{custom_dir: {ROOT / 'tools/theme'}}}\n"
        f"extra: {{translated: [{', '.join(translated())}]}}\n"
    )
    return to / "pages" / f"{lang}.yml"


def generated(configuration: Path) -> None:
    """Run the generator. Raises SiteError, with what it says, where it warns."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(configuration)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        raise SiteError("\n".join(line for line in lines if not line.startswith("INFO")))


def calculator(to: Path) -> str:
    """Build the static page into a folder; the reason where that is not to be had, else ""."""
    if shutil.which("npm") is None:
        return "npm is not on this machine"
    command = [sys.executable, "-m", "weighbridge", "web", "build", str(to)]
    done = subprocess.run(command, capture_output=True, text=True)
    told = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return told[-1] if done.returncode else ""


# ---- what was built


LOADS = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
QUIET = ("alternate", "canonical", "prev", "next")  # links of a head that load nothing


class Page(HTMLParser):
    """One built page: the places in it, where its links go, and what it loads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.title = ""
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.ids.update(told[name] for name in ("id", "name") if name in told)
        self._in_title = tag == "title" and not self.title
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        loaded = told.get(LOADS.get(tag, ""), "")
        if loaded and told.get("rel") not in QUIET:
            self.loads.append(loaded)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False


def pages(site: Path) -> dict[Path, Page]:
    """Every page of the site, without the calculator's and the one for missing pages."""
    found = (p for p in site.rglob("*.html") if CALCULATOR not in p.relative_to(site).parts)
    return {p: Page(p.read_text(encoding="utf-8")) for p in found if p.name != "404.html"}


def faults(site: Path) -> list[str]:
    """Links and places that are not there, and what is loaded from elsewhere, a line each."""
    known = pages(site)
    return [
        f"{path.relative_to(site)}: {fault}"
        for path, page in sorted(known.items())
        for fault in (*_dead(path, page, known), *_foreign(page))
    ]


def _dead(path: Path, page: Page, known: dict[Path, Page]) -> Iterator[str]:
    for link in dict.fromkeys((*page.links, *page.loads)):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        anchor = unquote(parts.fragment)
        if not target.exists():
            yield f"{link} is not there"
        elif anchor and target in known and anchor not in known[target].ids:
            yield f"{link} has no such place"


def _foreign(page: Page) -> Iterator[str]:
    """Addresses of other servers that a browser would ask without a click."""
    for address in page.loads:
        parts = urlsplit(address)
        if parts.netloc or parts.scheme not in ("", "data"):
            yield f"{address} is loaded from elsewhere"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-page", action="store_true", help="without the calculator")
    parser.add_argument("--to", type=Path, default=BUILD, metavar="DIR", help="default: build")
    asked = parser.parse_args(arguments)
    to, site = asked.to.resolve(), asked.to.resolve() / "site"
    for folder in ("pages", "site", CALCULATOR):
        shutil.rmtree(to / folder, ignore_errors=True)
    without = "--no-page" if asked.no_page else calculator(to / CALCULATOR)
    try:
        for lang in WORDS:
            generated(staged(lang, to, page=not without))
    except SiteError as error:
        print(error)
        return 1
    if not without:
        shutil.copytree(to / CALCULATOR, site / CALCULATOR)
    wrong = faults(site)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    end = f"without the calculator: {without}" if without else "with the calculator"
    print(f"site: {len(pages(site))} pages in {site}, {end}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

"""The built docs in a browser: they ask nobody else, are accessible, are found by search, fit a phone."""

import functools
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tools.site import pages

pytest.importorskip("material", reason="needs the extra [docs]")

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 120_000  # milliseconds: a condition that is waited for, on a busy machine


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *told):
        pass


@pytest.fixture(scope="module")
def built(browser, tmp_path_factory):
    """The site, with the calculator where npm is there; what the builder said of it."""
    to = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "tools.site", "--to", to]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return to / "site", done.stdout


@pytest.fixture(scope="module")
def base(built):
    handler = functools.partial(Quiet, directory=built[0])
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def opened(browser, base):
    """open(path, ...): a fresh page; afterwards: it asked only its own server, and said no error."""
    contexts, wrong = [], []

    def open_(path, **options):
        made = browser.new_context(**{"viewport": {"width": 1366, "height": 900}, **options})
        contexts.append(made)
        made.set_default_timeout(PATIENCE)
        page = made.new_page()
        page.on(
            "request", lambda r: r.url.startswith((base, "data:", "blob:")) or wrong.append(r.url)
        )
        page.on("console", lambda m: m.type == "error" and wrong.append(m.text))
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.goto(base + path)
        return page

    yield open_
    for made in contexts:
        made.close()
    assert not wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["index.html", "accuracy.html", "commands.html", "zh/train.html"])
def test_axe_finds_nothing(opened, path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened(path, color_scheme=scheme)
    page.locator("iframe").evaluate_all("frames => frames.forEach((one) => one.remove())")
    found = axe.Axe().run(page).response["violations"]
    assert not [(v["id"], [n["html"][:120] for n in v["nodes"][:4]]) for v in found]


@pytest.mark.parametrize(
    ("path", "words", "wanted"),
    [
        ("load.html", "perplexity", "quality.html"),
        ("zh/index.html", "显存", "zh/"),
        ("zh/index.html", "优化器", "zh/train.html"),
    ],
)
def test_search_finds_a_page(opened, path, words, wanted):
    page = opened(path)
    box = page.locator("input.md-search__input")
    box.click()
    box.fill(words)
    box.press("End")  # the theme listens to keys
    first = page.locator(".md-search-result__link").first
    first.wait_for()
    links = page.locator(".md-search-result__link").evaluate_all("all => all.map((a) => a.href)")
    assert any(wanted in link for link in links), links


def test_the_switch_of_language_stays_on_the_page(opened):
    page = opened("first-steps.html")
    page.get_by_role("link", name="中文").click()
    page.wait_for_url("**/zh/first-steps.html")
    assert page.locator("html").get_attribute("lang") == "zh"
    page.get_by_role("link", name="English").click()
    page.wait_for_url(re.compile(r"(?<!zh)/first-steps\.html"))


def test_a_page_in_one_language_leads_to_the_other_edition(opened):
    page = opened("trace.html")
    page.get_by_role("link", name="中文").click()
    page.wait_for_url("**/zh/index.html")


def test_no_page_is_wider_than_a_phone(opened, built, base):
    page = opened("index.html", viewport={"width": 360, "height": 800})
    wide = {}
    for path in pages(built[0]):
        name = path.relative_to(built[0]).as_posix()
        page.goto(base + name)
        wide[name] = page.evaluate("document.documentElement.scrollWidth")
    assert max(wide.values()) <= 360, {name: found for name, found in wide.items() if found > 360}


def test_the_calculator_answers_within_a_page(opened, built):
    """It has a name for screen readers, waits until it is seen, and shows what the page is about."""
    if "without the calculator" in built[1]:
        pytest.skip(built[1].strip())
    page = opened("infer.html")
    frame = page.locator("iframe")
    assert frame.get_attribute("title") == "Calculator: what serving a model takes"
    assert frame.get_attribute("loading") == "lazy"
    frame.scroll_into_view_if_needed()
    inside = page.frame_locator("iframe")
    inside.get_by_text("vllm serve meta-llama/Llama-3.1-8B --max-model-len 32768").first.wait_for()


def test_a_phone_gets_a_link_and_loads_no_calculator(opened, built):
    if "without the calculator" in built[1]:
        pytest.skip(built[1].strip())
    page = opened("infer.html", viewport={"width": 360, "height": 800})
    page.wait_for_load_state("networkidle")
    assert not page.locator("iframe").is_visible()
    assert all(frame.url in ("", "about:blank") for frame in page.frames[1:])
    page.get_by_role("link", name="Open it on a page of its own").click()
    page.wait_for_url("**/calculator/index.html#task=infer*")

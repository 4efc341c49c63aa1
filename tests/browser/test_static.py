"""The static site: Python in the browser, the Hub asked by the page, and no server of ours.

The site is built once and served from a folder below the root by a server that knows nothing but
files and their `_headers`. A broken policy, or a request to anyone but the site and the Hub, fails
a test; so does an answer that is not CPython's to the byte.
"""

import functools
import json
import re
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import pytest

from tests.browser.asked import requests
from tests.browser.conftest import TOKEN, WATCH, settled, verdict
from tests.browser.test_stopping import MOVE
from tests.browser.test_stopping import SLOW as SEARCHED
from tests.cases import each
from tests.hub import Fault
from tests.sparse import write_safetensors
from weighbridge.faces.web import archive, build, npm, pyodide
from weighbridge.faces.web.protocol import AskDesk
from weighbridge.faces.web.server import PAGE

PATIENCE = 120_000
HOSTILE = '<img src=x onerror="document.title=`owned`">'


class Files(SimpleHTTPRequestHandler):
    """A plain web server, with the headers that the site asks for."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def end_headers(self):
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        super().end_headers()


class Site:
    """A served folder; it can be away, and come back with another version."""

    def __init__(self, root, folder):
        self.root, self.folder, self.port = root, folder, 0
        lines = (folder / "_headers").read_text().split("/engine/*")[0].splitlines()[1:]
        self.headers = dict(line.strip().split(": ", 1) for line in lines)

    def start(self):
        handler = functools.partial(Files, directory=str(self.root))
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.server.daemon_threads, self.server.headers = True, self.headers
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}/some/where/"


@pytest.fixture(scope="session")
def engine():
    for name in ("npm", "node"):
        if shutil.which(name) is None and not (npm.cache_folder() / pyodide.FILE).is_file():
            pytest.skip(f"needs {name} on the PATH")
    return build.engine()


@pytest.fixture(scope="session")
def site(engine, hub, tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    folder = root / "some" / "where"
    folder.parent.mkdir()
    written(engine, hub, folder)
    running = Site(root, folder).start()
    yield running
    running.stop()


def written(engine, hub, folder):
    hosts = build._hosts(hub.endpoint, [f"http://127.0.0.1:{hub.port}"])
    return build._written(folder, build.site(engine, hub.endpoint, hosts))


@contextmanager
def visit(browser, site, hub, *, wrong=None):
    """A new visitor, who knows nothing of the site yet; `wrong` is told what else fails the test."""
    fails, wrong = wrong is None, [] if wrong is None else wrong
    known = (site.address, hub.endpoint, f"http://127.0.0.1:{hub.port}/cdn/", "data:", "blob:")
    context = browser.new_context(locale="en-US")
    context.set_default_timeout(PATIENCE)
    context.add_init_script(WATCH)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(f"threw: {error}"))
    page.on("console", lambda m: wrong.append(m.text) if broken(m) else None)
    context.on("request", lambda r: None if r.url.startswith(known) else wrong.append(r.url))
    try:
        yield page
    finally:
        context.close()
    assert not (fails and wrong), wrong


def broken(message):
    """What the console says that is no plain refusal of the Hub's (401, 403, 404, 429)."""
    return message.type in ("error", "warning") and "the server responded" not in message.text


@pytest.fixture
def opened(browser, site, hub):
    hub.faults.clear()
    hub.requests.clear()
    with visit(browser, site, hub) as page:

        def open_(task, **state):
            page.goto(f"{site.address}#{urlencode({'task': task, **state})}")
            settled(page)
            return page

        yield open_


def test_a_cold_start_answers(opened, site):
    page = opened("infer", model="llama-3.1-8b", gpu="4090", engine="vllm", context="8192")
    assert "fits" in verdict(page)
    assert page.locator('meta[name="weighbridge-engine"]').get_attribute("content") == "static"
    policy = page.locator('meta[http-equiv="Content-Security-Policy"]').get_attribute("content")
    assert "'unsafe" not in policy and "default-src 'none'" in policy


def test_a_dataset_is_shown_without_starting_python(browser, site, hub):
    """A server that knows no ranges sends few bytes; another tab starts Python then."""
    with visit(browser, site, hub) as page:
        replies = []
        page.context.on("response", lambda reply: replies.append(reply))
        page.goto(f"{site.address}#task=registry&question=load&gpu=4090&id=qwen3-8b")
        settled(page)
        assert "Qwen/Qwen3-8B" in page.inner_text(".registry tbody")
        assert not [r.url for r in replies if "/engine/" in r.url or "worker.js" in r.url]
        assert {r.status for r in replies if r.url.endswith(".parquet")} == {200}
        sizes = [int(r.headers.get("content-length", 0)) for r in replies]
        assert all(sizes) and sum(sizes) < 3_000_000
        page.click("#place-explore")
        settled(page)
        page.wait_for_selector(".result")
        assert [r.url for r in replies if "/engine/" in r.url]


def test_a_model_of_the_hub(opened, hub):
    page = opened("load", model="org/tiny", gpu="3060")
    assert "fits" in verdict(page)
    assert len(hub.asked("^/cdn/org/tiny")) == 2
    assert all(r.range for r in hub.asked("^/cdn/"))


def test_a_cdn_that_shows_no_headers(opened, hub):
    hub.exposing = False
    try:
        assert "fits" in verdict(opened("load", model="org/tiny", gpu="3060"))
    finally:
        hub.exposing = True


def test_a_gated_model_and_its_token(opened, hub):
    page = opened("load", model="org/gated", gpu="3060")
    assert "is gated: accept its licence" in page.inner_text(".problem")
    page.wait_for_selector("#token")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(".headline")
    settled(page)
    assert "fits" in verdict(page)
    assert {r.token for r in hub.asked("^/cdn/")} == {None}  # Fetch: not after a redirect
    assert TOKEN not in page.url and TOKEN not in page.content()
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert TOKEN not in page.evaluate(stored)
    kept = """async () => (await Promise.all((await caches.keys()).map(async (name) =>
        (await (await caches.open(name)).keys()).map((r) => r.url)))).flat()"""
    assert not [url for url in page.evaluate(kept) if str(hub.port) in url]


def test_a_missing_model(opened):
    page = opened("load", model="org/nothing")
    assert "there is no model 'org/nothing'" in page.inner_text(".problem")


def test_too_many_requests(opened, hub):
    hub.faults.append(Fault(match="^/api/", status=429))
    page = opened("load", model="org/tiny")
    assert "too many requests; wait, or a token" in page.inner_text(".problem")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>" + HOSTILE.encode(), "does not answer as a Hub does"),
        (json.dumps({"id": HOSTILE, "sha": "0" * 40, "siblings": []}).encode(), "no name of a"),
        (json.dumps({"sha": "../..", "siblings": []}).encode(), "which is no commit"),
        (
            json.dumps({"sha": "0" * 40, "siblings": [{"rfilename": "../../x"}]}).encode(),
            "leaves the folder",
        ),
    ],
)
def test_a_hostile_hub(opened, hub, body, told):
    hub.faults.append(Fault(match="^/api/", body=body))
    page = opened("load", model="org/tiny")
    assert told in page.inner_text(".problem")
    assert page.locator(".problem img").count() == 0 and page.title() == "weighbridge"


def test_a_hub_that_leads_elsewhere_is_not_followed(browser, site, hub):
    """The policy holds in the worker, even where the other host would let every page read it."""
    heard, wrong = [], []

    class Thief(SimpleHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)

    with ThreadingHTTPServer(("127.0.0.2", 0), Thief) as thief:
        threading.Thread(target=thief.serve_forever, args=(0.02,), daemon=True).start()
        away = {"Location": f"http://127.0.0.2:{thief.server_address[1]}/stolen"}
        hub.faults[:] = [Fault(match="^/api/", status=302, headers=away)]
        with visit(browser, site, hub, wrong=wrong) as page:
            page.goto(f"{site.address}#task=load&model=org/tiny")
            settled(page)
            assert "cannot be reached" in page.inner_text(".problem")
        hub.faults.clear()
        thief.shutdown()
    assert heard == []
    assert wrong and all("127.0.0.2" in line for line in wrong)


def test_a_dropped_file(opened, tmp_path):
    path = tmp_path / "mine.safetensors"
    write_safetensors(path, {"a.weight": ("BF16", (64, 64))})
    page = opened("load")
    page.set_input_files("#file", str(path))
    page.wait_for_selector(".headline, .result, .problem")
    settled(page)
    assert "mine.safetensors" in page.inner_text("body")
    assert page.locator(".problem").count() == 0


def test_a_dropped_file_that_starts_a_run(opened, tmp_path):
    """YAML is read in the browser, too: its parser is among the files of the page."""
    path = tmp_path / "run.yaml"
    path.write_text(
        "base_model: llama-3.1-8b\nadapter: lora\nlora_r: 16\nmicro_batch_size: 2\nstrange: 1\n"
    )
    page = opened("load")
    page.set_input_files("#file", str(path))
    page.wait_for_selector("#file-notes")
    settled(page)
    assert "strange" in page.inner_text("#file-notes")
    assert page.locator(".problem").count() == 0
    assert "framework=axolotl" in page.evaluate("location.hash")


DEAF = int(re.search(r"const DEAF = (\d+);", (PAGE / "engine.js").read_text())[1])
LISTENING = """(deaf) => {
  const send = Worker.prototype.postMessage;
  const { setTimeout } = window;
  window.setTimeout = (job, time) => setTimeout(job, time === deaf ? 1e6 : time);
  window.asked = window.ended = 0;
  Worker.prototype.postMessage = function (said, ...more) {
    if (said.ask?.task === "train" && said.ask.remedies !== false) {
      window.asked += 1;
      this.addEventListener("message", ({ data }) => {
        if (data.id === said.id && data.answer === null) window.ended = performance.now();
      });
    }
    return send.call(this, said, ...more);
  };
}"""


def searching(page, *, patient=False):
    """
    A search for what helps is under way, and a newer question comes.

    Returns the workers that have ended since. A patient page never ends a worker that is slow to
    hear of it: on a busy machine a second may pass.
    """
    page.evaluate(LISTENING, DEAF if patient else None)
    page.evaluate("(said) => { location.hash = said; }", urlencode(SEARCHED))
    page.wait_for_function("() => asked")
    ended = []
    for worker in page.workers:
        worker.on("close", lambda one: ended.append(one))
    page.evaluate(MOVE, "seq_len")
    page.wait_for_function("() => document.querySelector('h2#answer').innerText.includes('2,560')")
    assert page.locator(".problem").count() == 0
    return ended


def test_a_newer_question_ends_the_search(opened):
    """Python hears of it, and the same worker answers the newer one."""
    page = opened("load", model="gpt2")
    assert page.evaluate("crossOriginIsolated")
    ended = searching(page, patient=True)
    page.wait_for_function("() => ended")
    settled(page)
    assert ended == []
    assert page.evaluate("ended") > 0


def test_without_headers_a_newer_question_ends_the_worker(browser, engine, hub, tmp_path):
    """Another one answers it; the one that searched is gone, as soon as the browser has ended it."""
    written(engine, hub, tmp_path / "some" / "where")
    bare = Site(tmp_path, tmp_path / "some" / "where").start()
    bare.headers = {name: text for name, text in bare.headers.items() if "Cross" not in name}
    bare.server.headers = bare.headers
    try:
        with visit(browser, bare, hub) as page:
            page.goto(f"{bare.address}#task=load&model=gpt2")
            settled(page)
            assert not page.evaluate("crossOriginIsolated")
            ended = searching(page)
            settled(page)
            for _ in range(100):
                if ended:
                    break
                page.wait_for_timeout(100)
            assert len(ended) == 1
    finally:
        bare.stop()


def test_without_a_network_after_the_first_visit(browser, engine, hub, tmp_path):
    written(engine, hub, tmp_path / "some" / "where")
    alone = Site(tmp_path, tmp_path / "some" / "where").start()
    with visit(browser, alone, hub) as page:
        page.goto(f"{alone.address}#task=load&model=llama-3.1-8b&gpu=4090")
        settled(page)
        before = verdict(page)
        page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
        page.wait_for_function("() => navigator.serviceWorker.controller?.state === 'activated'")
        alone.stop()
        page.reload()
        settled(page)
        assert verdict(page) == before
        assert page.locator('meta[name="weighbridge-engine"]').count() == 1


def is_table(url):
    """Return whether the page fetches it when it first reads it."""
    return "/engine/weighbridge/" in url


def test_a_table_of_networks_is_fetched_when_it_is_first_read(browser, engine, hub, tmp_path):
    """A table that cannot be fetched is named, and asking again fetches it. Once fetched it is there
    without a network, also if the first visit fetched it before the service worker kept anything."""
    folder = tmp_path / "some" / "where"
    written(engine, hub, folder)
    alone = Site(tmp_path, folder).start()
    tables = [*folder.glob("engine/weighbridge/models/arch/families/timm_*.txt")]
    (trees,) = (path for path in tables if path.name.startswith("timm_trees"))
    asked = "#task=load&model=convnext-atto&gpu=4090"
    with visit(browser, alone, hub) as page:
        fetched = set()
        page.context.on("request", lambda r: fetched.add(r.url) if is_table(r.url) else None)
        page.goto(f"{alone.address}#task=load&model=llama-3.1-8b&gpu=4090")
        settled(page)
        assert fetched == set()
        data = trees.read_bytes()
        trees.unlink()
        page.evaluate("(hash) => { location.hash = hash; }", asked)
        page.wait_for_selector(".problem")
        settled(page)
        assert "a file of this page cannot be fetched" in page.inner_text(".problem")
        trees.write_bytes(data)
        page.evaluate("(hash) => { location.hash = hash; }", f"{asked}&dtype=float16")
        page.wait_for_selector(".headline")
        settled(page)
        assert page.locator(".problem").count() == 0
        before = verdict(page)
        assert {url.rpartition("/")[2] for url in fetched} == {path.name for path in tables}
        kept = """async (name) => (await Promise.all((await caches.keys()).map(async (one) =>
            (await (await caches.open(one)).keys()).map((r) => r.url)))).flat()
            .some((url) => url.endsWith(name))"""
        page.wait_for_function(kept, arg=trees.name)
        alone.stop()
        page.reload()
        settled(page)
        assert verdict(page) == before


def test_a_new_version_is_taken_up(browser, engine, hub, tmp_path):
    folder = tmp_path / "some" / "where"
    first = written(engine, hub, folder)
    site = Site(tmp_path, folder).start()
    names = "async () => (await caches.keys()).map((name) => name.split(' ').pop())"
    try:
        with visit(browser, site, hub) as page:
            page.goto(f"{site.address}#task=load&model=llama-3.1-8b&gpu=4090")
            settled(page)
            page.wait_for_function("() => navigator.serviceWorker.controller")
            assert page.evaluate(names) == [first.version]
            part = build.EngineFile("extra", "bin", b"something new")
            second = written(build.PageEngine([*engine.parts, part], engine.info), hub, folder)
            page.reload()
            settled(page)
            page.wait_for_function(
                f"async () => String((await caches.keys()).map((n) => n.split(' ').pop())) === {second.version!r}"
            )
            assert second.version != first.version and (folder / part.path).is_file()
    finally:
        site.stop()


def test_a_browser_that_cannot_take_up_the_snapshot(browser, engine, hub, tmp_path):
    parts = [
        build.EngineFile("snapshot", "bin", archive.gzipped(bytes(24 << 20)))
        if p.name == "snapshot"
        else p
        for p in engine.parts
    ]
    folder = tmp_path / "some" / "where"
    written(build.PageEngine(parts, engine.info, engine.later), hub, folder)
    site = Site(tmp_path, folder).start()
    wrong = []
    try:
        with visit(browser, site, hub, wrong=wrong) as page:
            page.goto(f"{site.address}#task=load&model=llama-3.1-8b&gpu=4090")
            settled(page)
            assert "fits" in verdict(page)
    finally:
        site.stop()
    assert wrong and all("the snapshot does not start here" in line for line in wrong)


def test_a_file_that_is_missing_is_told(browser, engine, hub, tmp_path):
    folder = tmp_path / "some" / "where"
    written(engine, hub, folder)
    next(folder.glob("engine/package.*")).unlink()
    site = Site(tmp_path, folder).start()
    try:
        with visit(browser, site, hub) as page:
            page.goto(f"{site.address}#task=load&model=llama-3.1-8b&gpu=4090")
            page.wait_for_selector('[role="alert"]')
            assert "engine/package" in page.inner_text('[role="alert"]')
            assert "404" in page.inner_text('[role="alert"]')
    finally:
        site.stop()


ASKING = """
async (lines) => {
  const worker = new Worker("worker.js", { type: "module" });
  const heard = [];
  let more = () => {};
  worker.onmessage = ({ data }) => { heard.push(data); more(); };
  const next = async (fits) => {
    while (!heard.some(fits)) await new Promise((done) => (more = done));
    return heard.splice(heard.findIndex(fits), 1)[0];
  };
  await next((data) => data.ready || data.error);
  const answers = [];
  for (const [id, ask] of lines.entries()) {
    worker.postMessage({ id, ask });
    answers.push((await next((data) => data.id === id)).answer);
  }
  worker.terminate();
  return answers;
}
"""


def difference(line, here, there):
    at = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), 0)
    return f"{line[:200]}: {here[at - 60 : at + 60]!r} here, {there[at - 60 : at + 60]!r} there"


@pytest.mark.parametrize("count", each(2, (30, 200)))
def test_answers_are_those_of_cpython(browser, site, hub, count):
    tables = [{"task": task} for task in ("accuracy", "gpus", "models", "form")]
    asked = [*requests(count), *tables]
    lines = [json.dumps(request, ensure_ascii=False) for request in asked]
    desk = AskDesk(ours=False)
    here = [json.dumps(desk.answer(line), ensure_ascii=False) for line in lines]
    with visit(browser, site, hub) as page:
        page.set_default_timeout(900_000)
        page.goto(f"{site.address}licences.txt")
        there = page.evaluate(ASKING, lines)
    other = [(line, a, b) for line, a, b in zip(lines, here, there, strict=True) if a != b]
    assert not other, f"{len(other)} differ; the first: {difference(*other[0])}"
    answered = sum("report" in json.loads(answer) for answer in here)
    assert count * 9 // 20 <= answered < len(lines)  # right ones and wrong ones

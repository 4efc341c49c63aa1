"""The page: how long until a first visit is answered, and a change; and how much it downloads.

Chromium opens the static site anew for each turn, with nothing kept. The same questions go to the
Gradio edition where gradio is installed. A first answer is a figure on the page.
"""

import functools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measure import verdict

STATE = "#task=infer&model=llama-3.1-8b&gpu=4090&engine=vllm&context={context}"
SETTLED = '.answers[data-settled="true"] .headline'
PATIENCE = 120_000
ASKED = ({"context": 8192}, {"context": 16384}, {"context": 4096})


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def run(bench: Bench) -> Iterator[str]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if find_spec("playwright") is None or chromium is None:
        yield "not installed: playwright, chromium"
        return
    from playwright.sync_api import sync_playwright

    from weighbridge.faces.web.build import build

    made = build(bench.folder / "site")
    with sync_playwright() as engine, _served(made.folder) as address:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        turns = [_visit(browser, address) for _ in range(bench.rounds)]
        browser.close()
    first, change, nbytes = (median(turn[i] for turn in turns) for i in range(3))
    yield "| what | static site |"
    yield "| --- | ---: |"
    yield f"| first answer of a first visit, s | {first:.2f} |"
    yield f"| a changed setting, s | {change:.2f} |"
    yield f"| downloaded until then, MB | {nbytes / 1e6:.1f} |"
    yield f"| all files of the site, MB | {made.nbytes / 1e6:.1f} |"
    yield ""
    yield verdict("first answer, s", first, 4)
    yield verdict("change, s", change, 0.3)
    yield from _gradio()


class _served:  # noqa: N801
    """The folder on a port of its own."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(Quiet, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}/"

    def __exit__(self, *failure: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def _visit(browser: Any, address: str) -> tuple[float, float, int]:
    """(seconds to the first answer, seconds to that after a change, bytes) of a new visitor."""
    context = browser.new_context(service_workers="block")
    context.set_default_timeout(PATIENCE)
    page, sizes = context.new_page(), []
    context.on("response", lambda r: sizes.append(int(r.headers.get("content-length", 0))))
    begin = time.perf_counter()
    page.goto(address + STATE.format(context=8192))
    page.wait_for_selector(SETTLED)
    first, nbytes = time.perf_counter() - begin, sum(sizes)
    change = _changed(page)
    context.close()
    return first, change, nbytes


def _changed(page: Any) -> float:
    """Seconds from a new context length to its figures."""
    took = []
    for given in (16384, 4096, 12288):
        before = page.inner_text(".headline .figures")
        begin = time.perf_counter()
        page.evaluate("(state) => { location.hash = state; }", STATE.format(context=given))
        page.wait_for_function(
            "(old) => document.querySelector('.headline .figures')?.innerText !== old", arg=before
        )
        took.append(time.perf_counter() - begin)
    return median(took)


def _gradio() -> Iterator[str]:
    """The same questions to the Gradio edition, over its own API."""
    if find_spec("gradio") is None or find_spec("gradio_client") is None:
        yield "not installed: gradio"
        return
    done = subprocess.run(
        [sys.executable, "-c", GRADIO, json.dumps(ASKED)], capture_output=True, text=True
    )
    if done.returncode:
        yield f"the Gradio edition did not answer: {done.stderr.strip().splitlines()[-1]}"
        return
    start, first, change = json.loads(done.stdout.splitlines()[-1])
    yield f"Gradio edition: serves after {start:.1f} s; answers {first:.2f} s, then {change:.2f} s"


GRADIO = """
import json, socket, subprocess, sys, time
from statistics import median
from urllib.request import urlopen
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
begin = time.perf_counter()
argv = [sys.executable, "-m", "weighbridge", "web", "--gradio", "--no-open", "--port", str(port)]
server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
address = f"http://127.0.0.1:{port}/"
try:
    while True:
        try:
            urlopen(address, timeout=5).close()
            break
        except OSError:
            assert server.poll() is None and time.perf_counter() - begin < 120
            time.sleep(0.05)
    start = time.perf_counter() - begin
    from gradio_client import Client
    client = Client(address, verbose=False)
    took = []
    for given in json.loads(sys.argv[1]):
        asked = {"model": "llama-3.1-8b", "workload": {"engine": "vllm", "gpu": "4090", **given}}
        begin = time.perf_counter()
        assert "schema" in str(client.predict(asked, api_name="/infer"))
        took.append(time.perf_counter() - begin)
finally:
    server.terminate()
    server.wait(20)
print(json.dumps([start, took[0], median(took[1:])]))
"""

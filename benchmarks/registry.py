"""The page's Registry tab over a scan of Hub size: what its first view fetches, and each next step.

The dataset is that of `scan`: two million models, of forty thousand kinds. It is published, served
by `weighbridge web --registry` and opened in Chromium with nothing kept. Needs the extra [scan] and
Playwright.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measure import verdict
from benchmarks.scan import KEYS, MODELS, made

SETTLED = '.answers[data-settled="true"] tbody tr'
PATIENCE = 120_000
OF_DATASET = re.compile(r"/registry/")
LIMIT = 3.0  # MB


def run(bench: Bench) -> Iterator[str]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if find_spec("playwright") is None or chromium is None:
        yield "not installed: playwright, chromium"
        return
    from weighbridge.faces.scan.dataset import plan_of
    from weighbridge.faces.scan.publishing import publish

    out, folder = bench.folder / "hub", bench.folder / "registry"
    made(out)
    begin = time.perf_counter()
    done = publish(out, plan_of(out), folder)
    took = time.perf_counter() - begin
    yield f"{MODELS:,} models, {KEYS:,} keys: {done.nbytes / 1e6:.0f} MB published in {took:.0f} s"
    yield ""
    yield from _viewed(folder, chromium)


def _viewed(folder: Path, chromium: str) -> Iterator[str]:
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "weighbridge", "web", "--port", "0", "--no-open"]
    with (
        subprocess.Popen(
            [*command, "--registry", str(folder)], stdout=subprocess.PIPE, text=True
        ) as server,
        sync_playwright() as engine,
    ):
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        steps = list(_steps(browser.new_page(), address))
        browser.close()
        server.terminate()
    yield "| step | s | MB | of them of the dataset |\n| --- | ---: | ---: | ---: |"
    for title, seconds, nbytes, of_dataset in steps:
        yield f"| {title} | {seconds:.2f} | {nbytes / 1e6:.2f} | {of_dataset / 1e6:.2f} |"
    yield ""
    yield verdict("the first view, MB", steps[0][2] / 1e6, LIMIT)


def _steps(page: Any, address: str) -> Iterator[tuple[str, float, int, int]]:
    """Yield (what was done, seconds, bytes, those of the dataset) of each step of a visit."""
    page.set_default_timeout(PATIENCE)
    sizes: list[tuple[str, int]] = []
    page.on("response", lambda r: sizes.append((r.url, int(r.headers.get("content-length", 0)))))
    steps = {
        "the first view": lambda: page.goto(f"{address}#task=registry"),
        "another card": lambda: page.select_option("#registry-card", index=1),
        "what fits mine": lambda: page.click("#registry-mine"),
        "a search among all that were not read": lambda: page.fill(
            "#registry-pattern", "model-1777777"
        ),
        "no search": lambda: page.fill("#registry-pattern", ""),
        "look further": lambda: page.click("#registry-further"),
        "look at all": lambda: page.click("#registry-all"),
        "a search among all": lambda: page.fill("#registry-pattern", "model-77777"),
    }
    for title, step in steps.items():
        sizes.clear()
        begin = time.perf_counter()
        step()
        page.wait_for_timeout(100)
        page.wait_for_selector(SETTLED)
        seconds = time.perf_counter() - begin
        own = sum(size for url, size in sizes if OF_DATASET.search(url))
        yield title, seconds, sum(size for _, size in sizes), own

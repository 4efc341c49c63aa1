"""One Chromium and one `weighbridge web` for all of these tests, with the stand-in Hub behind it.

A page that breaks its content security policy, throws, or asks anyone but its server fails its test.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.hub import Hub
from tests.sparse import write_repo
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60_000  # milliseconds: a condition that is waited for, on a busy machine
TOKEN = "hf_good0123456789abcdef"
TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}
WATCH = """
document.addEventListener("securitypolicyviolation", (e) =>
  console.error("policy: " + e.violatedDirective + " " + e.blockedURI));
"""


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs weighbridge[test-web]")
    if not CHROMIUM:
        pytest.skip("needs chromium on the PATH, or its path in CHROMIUM")
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    write_repo(root / "org" / "tiny", TINY, blueprint(Config(TINY)), shards=2)
    write_repo(root / "org" / "gated", TINY, blueprint(Config(TINY)))
    with Hub(root, gated={"org/gated": [TOKEN]}) as running:
        yield running


@pytest.fixture(scope="session")
def address(hub, tmp_path_factory):
    """The page as `weighbridge web` serves it."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = {**kept, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home)}
    command = [sys.executable, "-m", "weighbridge", "web", "--port", "0", "--no-open"]
    with (
        open(home / "talk", "w") as talk,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=talk, text=True, env=env
        ) as server,
    ):
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture
def opened(browser, address):
    """open(task, model, ...): a fresh page at that state, once its answer stands."""
    contexts, wrong = [], []

    def open_(task="fit", *, wait=True, where=None, url=None, more=True, **state):
        options = {"locale": "en-US", "viewport": {"width": 1240, "height": 900}, **(where or {})}
        made = browser.new_context(**options)
        contexts.append(made)
        made.set_default_timeout(PATIENCE)
        made.add_init_script(WATCH)
        page = made.new_page()
        page.on("pageerror", lambda error: wrong.append(f"threw: {error}"))
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: wrong.append(r.url) if foreign(r.url, address) else None)
        page.goto(url or f"{address}#{urlencode({'task': task, **state})}")
        if wait:
            settled(page)
        if wait and more:
            open_settings(page)
        return page

    yield open_
    for made in contexts:
        made.close()
    assert wrong == []


def open_settings(page):
    """Opens the settings that stand folded below the first row."""
    page.evaluate("for (const one of document.querySelectorAll('.more')) one.open = true")


def foreign(url, address):
    return not url.startswith((address, "data:", "blob:"))


def settled(page):
    """Waits until the newest question is answered, and drawn."""
    from playwright.sync_api import TimeoutError as Late

    try:
        page.wait_for_selector('.answers[data-settled="true"]')
    except Late:
        shown = page.inner_text("body")[-600:]
        raise AssertionError(f"no answer at {page.url}; the page shows: {shown}") from None


def unfolded(page):
    """Opens every disclosure, and the form where it is folded."""
    fold = page.locator('.fold[aria-expanded="false"]')
    if fold.is_visible():
        fold.click()
    folded = page.locator("details:not([open]) > summary")
    while folded.count():
        folded.first.click()
    for button in page.locator("button.how").all():
        button.click()


def verdict(page):
    return page.inner_text(".headline .verdict strong")


def state_of(page):
    """The settings in the address."""
    from urllib.parse import parse_qs, urlsplit

    return {name: values[-1] for name, values in parse_qs(urlsplit(page.url).fragment).items()}


def folder_of(hub, name):
    return Path(hub.root) / name

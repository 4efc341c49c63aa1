"""The page of the Space in a real browser: a question, a gated model, strangers' names, posting."""

import json
from urllib.parse import urlencode, urlsplit

import pytest

from tests.space.conftest import HOSTILE, READER, TINY, WRITER

pytest.importorskip("gradio")
pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")

PATIENCE = 60_000  # milliseconds: two cores, and many who use them


class Visit:
    """One page, and what it did."""

    def __init__(self, context, server):
        self.page, self.server = context.new_page(), server
        self.page.set_default_timeout(PATIENCE)
        self.errors, self.hosts, self.dialogs, self.asked = [], set(), [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("request", self._requested)
        self.page.on("dialog", lambda dialog: (self.dialogs.append(1), dialog.dismiss()))

    def _said(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    def _requested(self, request):
        self.hosts.add(urlsplit(request.url).netloc)
        self.asked.append(request.url)

    def open(self, **query):
        self.page.goto(f"{self.server.url}#{urlencode(query)}" if query else self.server.url)
        self.page.wait_for_selector(".answers")
        return self.settled()

    def settled(self):
        self.page.wait_for_selector('.answers[data-settled="true"]')
        return self

    @property
    def verdict(self):
        return self.page.inner_text(".headline .verdict strong")


@pytest.fixture
def visit(browser, server):
    made, visits = [], []

    def opened(*, locale="en-US", width=1280, scheme="light"):
        size = {"width": width, "height": 900}
        context = browser.new_context(locale=locale, viewport=size, color_scheme=scheme)
        made.append(context)
        visits.append(Visit(context, server))
        return visits[-1]

    yield opened
    for context in made:
        context.close()
    assert [error for one in visits for error in one.errors] == []
    assert {host for one in visits for host in one.hosts} <= {urlsplit(server.url).netloc}


def test_a_question_is_asked_by_hand(visit):
    visited = visit().open()
    page = visited.page
    assert "answered by this Space" in page.inner_text(".bottom")
    page.fill("#model", "llama-3.1-8b")
    page.fill("#set-gpu", "4090")
    page.keyboard.press("Enter")
    page.wait_for_selector(".headline.yes")
    assert visited.settled().verdict.startswith("Yes, as published")
    assert page.evaluate("location.hash").startswith("#task=fit&model=llama-3.1-8b&gpu=")
    page.click("#tab-infer")
    page.wait_for_selector(".result.of-infer .headline")
    page.select_option("#lang", "zh")
    page.wait_for_selector(".headline:has-text('放得下')")


def test_a_link_reopens_the_same_answer(visit):
    given = {"task": "infer", "model": "qwen3-8b", "gpu": "4090", "engine": "vllm"}
    page = visit().open(**given, context="32K").page
    assert page.input_value("#set-context") == "32K"
    assert "--context 32K" in page.inner_text(".answers > div > .paste")
    assert page.locator("#post").count() == 0  # of no revision of the Hub


def test_a_slider_moves_the_answer(visit):
    visited = visit().open(task="infer", model="qwen3-8b", gpu="4090")
    page, before = visited.page, visited.page.inner_text(".headline .figures")
    page.locator("[data-setting=context] input[type=range]").focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "(old) => document.querySelector('.headline .figures')?.innerText !== old", arg=before
    )
    visited.settled()


def test_a_page_without_a_card_asks_for_one(visit):
    page = visit().open(task="fit", model="llama-3.1-8b").page
    assert "name a card" in page.inner_text(".wanted")


def test_names_of_strangers_are_text(visit, hub):
    """A name in the address, and a file of the Hub that is all markup."""
    place = hub.root / "org" / "hostile"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps({**TINY, "architectures": [HOSTILE]}))
    for model in (HOSTILE, "org/hostile", f"org/{HOSTILE}"):
        visited = visit().open(task="load", model=model, gpu=HOSTILE, context=HOSTILE)
        assert visited.page.locator(".problem").count() == 1
        assert visited.page.locator(".answers img").count() == 0
        assert visited.dialogs == []
    visited = visit().open(task="load", model="org/hostile")
    assert visited.page.locator(".answers img").count() == 0
    assert visited.dialogs == []


# Tokens and posting


def give(page, secret):
    if not page.locator("#token").is_visible():
        page.click("details.token summary")
    page.fill("#token", secret)
    page.keyboard.press("Enter")


def unseen(visited, secret):
    """The token in no address, no storage, no text of the page and no line of the server."""
    page = visited.page
    stored = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    databases = page.evaluate("indexedDB.databases().then(JSON.stringify)")
    assert secret not in page.content() + stored + databases
    assert not [url for url in (*visited.asked, page.url) if secret in url]
    assert secret not in visited.server.log


def test_a_gated_model_with_a_token(visit):
    visited = visit().open(task="load", model="org/gated")
    assert "gated" in visited.page.inner_text(".problem")
    assert visited.page.locator("#token-keep").count() == 0  # a Space keeps none
    give(visited.page, WRITER)
    visited.page.wait_for_selector(".result")
    unseen(visited, WRITER)
    again = visit().open(task="load", model="org/gated")  # another visitor has no use of it
    assert "gated" in again.page.inner_text(".problem")


def test_a_discussion_is_previewed_posted_and_not_posted_again(visit, hub):
    from axe_playwright_python.sync_playwright import Axe

    hub.discussions.pop("org/tiny", None)
    visited = visit().open(task="fit", model="org/tiny", gpu="4090")
    page = visited.page
    page.click("#post summary")
    page.click("#preview")
    text = page.inner_text("#draft")
    assert text.startswith("org/tiny\n") and "<!-- weighbridge: memory of " in text
    found = Axe().run(page).response["violations"]
    assert [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]] == []
    assert "org/tiny" not in hub.discussions  # a preview posts nothing
    page.click("#send")
    assert "your own token" in page.inner_text("#post [role=alert]")
    give(page, WRITER)
    visited.settled()
    page.click("#send")
    page.wait_for_selector("#post [role=status]")
    assert f"{hub.endpoint}/org/tiny/discussions/1" in page.inner_text("#post")
    (posted,) = hub.discussions["org/tiny"]
    assert posted["author"] == "writer" and posted["description"].strip() in text
    assert page.locator("#send").count() == 0
    page.click("#preview")
    page.wait_for_selector("#draft")
    page.click("#send")
    page.wait_for_selector("#post [role=status]:has-text('already')")
    assert len(hub.discussions["org/tiny"]) == 1
    unseen(visited, WRITER)


@pytest.mark.parametrize(
    ("model", "secret", "told"),
    [
        ("org/tiny", READER, "may not post"),
        ("org/silent", WRITER, "switched discussions off"),
    ],
)
def test_a_discussion_that_is_refused(visit, hub, model, secret, told):
    hub.discussions.pop(model, None)
    visited = visit().open(task="load", model=model)
    page = visited.page
    give(page, secret)
    visited.settled()
    page.click("#post summary")
    page.click("#preview")
    page.wait_for_selector("#draft")
    page.click("#send")
    page.wait_for_selector("#post [role=alert]")
    assert told in page.inner_text("#post")
    assert model not in hub.discussions
    unseen(visited, secret)

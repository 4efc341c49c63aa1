"""The page in a real browser: forms, sliders, addresses, Chinese, strangers' names, posting."""

import json
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.space.conftest import HOSTILE, READER, TINY, WRITER

pytest.importorskip("gradio")
pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")

PATIENCE = 60_000  # milliseconds: two cores, and many who use them
ANSWER = "#{}-answer .weighbridge"


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
        return self

    def answer(self, tab, text=""):
        """The answer of a tab, once it holds `text`."""
        self.page.wait_for_function(
            "([where, text]) => document.querySelector(where)?.textContent.includes(text)",
            arg=[f"#{tab}-answer", text],
        )
        return self.page.inner_text(f"#{tab}-answer")

    def query(self, **wanted):
        """The address, once it says what is wanted."""
        self.page.wait_for_function(
            "(wanted) => { const q = new URLSearchParams(location.hash.slice(1));"
            " return Object.entries(wanted).every(([k, v]) => q.get(k) === v) }",
            arg=wanted,
        )
        return {k: v[0] for k, v in parse_qs(urlsplit(self.page.url).fragment).items()}


@pytest.fixture
def visit(browser, server):
    made = []

    def opened(*, locale="en-US", width=1280, scheme="light"):
        size = {"width": width, "height": 900}
        context = browser.new_context(locale=locale, viewport=size, color_scheme=scheme)
        made.append(context)
        return Visit(context, server)

    yield opened
    for context in made:
        context.close()


def test_the_first_visit_has_an_answer(visit, server):
    page = visit().open()
    told = page.answer("fit", "RTX 4090")
    assert "llama-3.1-8b" in told
    assert page.page.title() == "weighbridge"
    assert page.hosts == {urlsplit(server.url).netloc}
    assert page.errors == []


def test_a_link_reopens_the_same_answer(visit):
    first = {
        "task": "infer",
        "model": "qwen3-8b",
        "gpu": "4090",
        "engine": "vllm",
        "context": "32K",
        "batch_size": "4",
        "enforce_eager": "true",
        "lang": "en",
    }
    page = visit().open(**first)
    told = page.answer("infer", "32,768 tokens")
    assert "qwen3-8b on vLLM" in told
    assert page.page.input_value("#infer-context input, #infer-context textarea") == "32K"
    assert float(page.page.input_value("#infer-context-slider input")) == 15.0
    page.page.click("#infer-ask")
    assert page.query(**first) == first
    line = page.page.input_value("#infer-command textarea, #infer-command input")
    assert "--engine vllm" in line and "--context 32K" in line and "--enforce-eager" in line


def test_an_older_link_opens_the_same_answer(visit, server):
    page = visit()
    page.page.goto(f"{server.url}?tab=infer&model=qwen3-8b&gpu=4090&engine=vllm")
    assert "qwen3-8b on vLLM" in page.answer("infer", "RTX 4090")


def test_fit_is_drawn_to_scale(visit):
    page = visit().open(task="fit", model="qwen3-0.6b", gpu="4090")
    page.answer("fit", "RTX 4090")
    assert page.page.locator("#fit-answer .picture svg rect").count() > 5


def test_a_setting_changes_answer_and_address(visit):
    page = visit().open(task="load", model="qwen3-8b", gpu="3060")
    page.answer("load", "RTX 3060")
    page.page.get_by_role("tab", name="Serve").click()
    page.answer("infer", "4,096 tokens")
    box = page.page.locator("#infer-context input, #infer-context textarea")
    box.fill("8K")
    box.press("Enter")
    page.answer("infer", "8,192 tokens")
    assert float(page.page.input_value("#infer-context-slider input")) == 13.0
    assert page.query(task="infer", context="8K")["model"] == "qwen3-8b"


def test_a_slider_moves_the_answer(visit):
    page = visit().open(task="infer", model="qwen3-8b", gpu="4090")
    page.answer("infer", "4,096 tokens")
    page.page.locator("#infer-context-slider input").fill("14")
    page.answer("infer", "16,384 tokens")
    assert page.query(context="16384")


def test_what_is_not_relevant_is_not_shown(visit):
    page = visit().open(task="infer", model="qwen3-8b")
    page.answer("infer", "transformers")
    section, other = page.page.locator("#infer-vLLM"), page.page.locator("#infer-transformers")
    assert (section.is_visible(), other.is_visible()) == (False, True)
    page.page.locator("#infer-engine input").click()
    page.page.get_by_role("option", name="vllm", exact=True).click()
    section.wait_for()
    other.wait_for(state="hidden")
    page.answer("infer", "vLLM")


def test_tables(visit):
    page = visit().open(task="gpus", pattern="4090")
    assert "4090" in page.answer("gpus", "4090")
    page.page.get_by_role("tab", name="Models").click()
    page.answer("models", "llama")


def test_errors_are_one_line(visit):
    page = visit().open(task="load", model="lama-3.1-8b")
    assert "llama-3.1-8b" in page.answer("load", "did you mean")
    assert page.page.locator("#load-answer [role=alert]").count() == 1


def test_a_config_in_the_box(visit):
    page = visit().open(task="load", model=json.dumps(TINY), gpu="4090")
    assert "fits on RTX 4090" in page.answer("load", "fits")


def test_chinese(visit):
    page = visit(locale="zh-CN").open(task="infer", model="qwen3-8b", gpu="4090")
    assert "放得下" in page.answer("infer", "RTX 4090")
    page.page.get_by_role("tab", name="推理").wait_for()
    assert page.page.locator("#infer-ask").inner_text() == "计算"
    page.page.get_by_label("English").check()
    page.answer("infer", "fits on RTX 4090")


def test_names_of_strangers_are_text(visit, hub):
    """A name in the address, and a file of the Hub that is all markup."""
    place = hub.root / "org" / "hostile"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps({**TINY, "architectures": [HOSTILE]}))
    for model in (HOSTILE, "org/hostile", f"org/{HOSTILE}"):
        page = visit().open(task="load", model=model, gpu=HOSTILE, context=HOSTILE)
        page.answer("load", "img" if model == HOSTILE else "")
        page.page.wait_for_selector("#load-answer [role=alert]")
        assert page.page.locator("#load-answer img").count() == 0
        assert page.dialogs == []
    page = visit().open(task="load", model="org/hostile")
    page.answer("load", "org/hostile")
    assert page.page.locator("#load-answer img").count() == 0
    assert page.dialogs == []


@pytest.mark.parametrize(
    ("tab", "look"),
    [
        ("fit", {}),
        ("infer", {"scheme": "dark"}),
        ("train", {"width": 360}),
        ("load", {"locale": "zh-CN"}),
        ("gpus", {"width": 360, "scheme": "dark"}),
    ],
)
def test_axe_finds_nothing(visit, tab, look):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(**look).open(task=tab, model="llama-3.1-8b", gpu="3060", pattern="rtx")
    page.page.wait_for_selector(ANSWER.format(tab))
    found = Axe().run(page.page).response["violations"]
    told = [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]
    assert told == []
    wide = page.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


# Tokens and posting


def token(page, given):
    page.page.locator("#token input").fill(given)


def unseen(page, secret):
    """The token in no address, no storage, no text of the page and no line of the server."""
    stored = page.page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    databases = page.page.evaluate("indexedDB.databases().then(JSON.stringify)")
    assert secret not in page.page.content() + stored + databases
    assert not [url for url in (*page.asked, page.page.url) if secret in url]
    assert secret not in page.server.log


def test_a_gated_model_with_a_token(visit):
    page = visit().open(task="load", model="org/gated")
    page.answer("load", "org/gated")
    page.page.wait_for_selector("#load-answer [role=alert]")
    token(page, WRITER)
    page.page.click("#load-ask")
    page.page.wait_for_selector(ANSWER.format("load"))
    unseen(page, WRITER)
    again = visit().open(task="load", model="org/gated")  # another visitor has no use of it
    again.page.wait_for_selector("#load-answer [role=alert]")


def posting(page):
    page.page.get_by_role("button", name="Post this answer on the model's page").click()
    page.page.click("#preview")


def test_a_discussion_is_previewed_posted_and_not_posted_again(visit, hub):
    hub.discussions.pop("org/tiny", None)
    page = visit().open(task="fit", model="org/tiny", gpu="4090")
    page.page.wait_for_selector(ANSWER.format("fit"))
    posting(page)
    shown = page.page.locator("#previewed textarea")
    shown.wait_for()
    text = shown.input_value()
    assert text.startswith("org/tiny\n") and "<!-- weighbridge: memory of " in text
    assert "org/tiny" not in hub.discussions  # a preview posts nothing
    page.page.click("#send")
    page.page.wait_for_selector("#posted [role=alert]")  # without a token
    token(page, WRITER)
    page.page.click("#send")
    page.page.wait_for_selector("#posted [role=status]")
    assert f"{hub.endpoint}/org/tiny/discussions/1" in page.page.inner_text("#posted")
    (posted,) = hub.discussions["org/tiny"]
    assert posted["author"] == "writer" and posted["description"].strip() in text
    page.page.click("#preview")
    page.page.wait_for_function("!document.querySelector('#posted [role=status]')")
    page.page.click("#send")
    page.page.wait_for_selector("#posted [role=status]")
    assert "already" in page.page.inner_text("#posted")
    assert len(hub.discussions["org/tiny"]) == 1
    unseen(page, WRITER)
    assert page.errors == []


@pytest.mark.parametrize(
    ("model", "secret", "told"),
    [
        ("org/tiny", READER, "may not post"),
        ("org/silent", WRITER, "switched discussions off"),
    ],
)
def test_a_discussion_that_is_refused(visit, hub, model, secret, told):
    hub.discussions.pop(model, None)
    page = visit().open(task="load", model=model)
    page.page.wait_for_selector(ANSWER.format("load"))
    posting(page)
    token(page, secret)
    page.page.click("#send")
    page.page.wait_for_selector("#posted [role=alert]")
    assert told in page.page.inner_text("#posted")
    assert model not in hub.discussions
    unseen(page, secret)


def test_an_answer_of_the_catalogue_is_of_no_revision(visit):
    page = visit().open(task="load", model="llama-3.1-8b")
    page.page.wait_for_selector(ANSWER.format("load"))
    posting(page)
    page.page.wait_for_selector("#posted [role=alert]")
    assert "ORG/NAME" in page.page.inner_text("#posted")
    assert page.page.locator("#send").count() == 0

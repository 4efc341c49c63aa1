"""The page before Gradio: its files, what it asks, and who may ask; a bare application behind it."""

import gzip
import json

import pytest

from tests.cases import all_of
from tests.space.test_guard import app, ask
from weighbridge.faces.web.server import PAGE
from weighbridge.faces.web.space.guard import MOST_BODY, Guard

pytest.importorskip("starlette")
page_app = pytest.importorskip("weighbridge.faces.web.space.page_app")

OWN = [(b"host", b"space.example"), (b"origin", b"https://space.example")]
KIND = [(b"content-type", b"application/json; charset=utf-8")]


@pytest.fixture
def asked():
    return []


@pytest.fixture
def page(asked):
    return page_app.PageApp(app, lambda body: asked.append(body) or {"answer": len(body)}, 2)


@pytest.mark.parametrize("path", ["/app.js", "/style.css", "/vendor/htm-preact.js"])
def test_the_files_of_the_page(page, path):
    assert ask(page, path, "GET") == (200, (PAGE / path[1:]).read_bytes())


@pytest.mark.parametrize("path", ["/", "/index.html"])
def test_the_index_says_who_answers(page, path):
    status, body = ask(page, path, "GET")
    assert status == 200
    assert b'<meta name="weighbridge-engine" content="space">' in body
    own = body.replace(b'content="space"', b'content="served"')
    assert own == (PAGE / "index.html").read_bytes()


def test_the_registry_has_its_dataset(page):
    status, body = ask(page, "/registry/registry.json", "GET")
    assert status == 200 and json.loads(body)["schema"] == "weighbridge.registry/1"
    part = [(b"range", b"bytes=0-3")]
    assert ask(page, "/registry/models.parquet", "GET", headers=part) == (206, b"PAR1")


@pytest.mark.parametrize("path", ["/gradio_api/info", "/gradio_api/mcp/", "/config"])
def test_what_programs_need_goes_on_to_gradio(page, path):
    assert ask(page, path, "GET") == (200, b"0")


@pytest.mark.parametrize(
    "path",
    [
        *("/assets/x.js", "/theme.css", "/ask", "/x", "/../server.py", "//etc/passwd"),
        *("/static/x", "/svelte/x", "/manifest.json", "/gradio_api", "/configure", "/login"),
    ],
)
def test_nothing_else_is_there(page, path):
    assert ask(page, path, "GET")[0] == 404


def test_an_ask_goes_to_the_office_as_it_was_sent(page, asked):
    line = b'{"task": "load", "model": "7B"}'
    status, body = ask(page, "/ask", headers=OWN + KIND, body=line)
    assert (status, json.loads(body)) == (200, {"answer": len(line)})
    assert asked == [line]


def test_an_answer_is_packed_for_a_browser_that_takes_it(page):
    headers = [*OWN, *KIND, (b"accept-encoding", b"gzip, deflate, br")]
    status, body = ask(page, "/ask", headers=headers, body=b"{}")
    assert (status, json.loads(gzip.decompress(body))) == (200, {"answer": 2})


@all_of(
    ("headers", "status"),
    [
        (OWN + KIND, 200),
        ([*KIND, (b"sec-fetch-site", b"same-origin")], 200),  # whatever a proxy made of its Host
        ([*OWN, *KIND, (b"sec-fetch-site", b"cross-site")], 403),
        ([*OWN, *KIND, (b"sec-fetch-site", b"same-site")], 403),
        ([*OWN, *KIND, (b"sec-fetch-site", b"none")], 403),
        ([*KIND, OWN[0], (b"origin", b"https://evil.example")], 403),
        ([*KIND, OWN[0], (b"origin", b"null")], 403),
        ([*KIND, OWN[0]], 403),
        ([*KIND], 403),
        ([*OWN, (b"content-type", b"text/plain")], 415),
        (OWN, 415),
    ],
)
def test_only_the_page_itself_asks(headers, status):
    asked = []
    page = page_app.PageApp(app, lambda body: asked.append(body) or {}, 2)
    found, body = ask(page, "/ask", headers=headers, body=b"{}")
    assert found == status
    assert bool(asked) is (status == 200)
    assert status == 200 or json.loads(body)["error"]["code"] == 2


def test_an_ask_that_is_too_long_is_not_asked(page, asked):
    guarded, much = Guard(page), b"x" * (MOST_BODY + 1)
    told = [*OWN, *KIND, (b"content-length", b"%d" % len(much))]
    for headers in (told, OWN + KIND):
        status, body = ask(guarded, "/ask", headers=headers, body=much)
        assert status == 413 and json.loads(body)["error"]["code"] == 2
    assert asked == []
    assert ask(guarded, "/ask", headers=OWN + KIND, body=much[:-1])[0] == 200

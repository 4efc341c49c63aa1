"""What stands before the server: rates, sizes, closed doors; a bare application behind it."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.cases import all_of
from weighbridge.faces.web import server
from weighbridge.faces.web.space import guard
from weighbridge.faces.web.space.guard import MOST_BODY, Guard, Rates


async def app(scope, receive, send):
    read = b""
    while True:
        message = await receive()
        read += message.get("body", b"")
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % len(read)})


def ask(guarded, path, method="POST", *, headers=(), body=b"", peer="192.0.2.1", query=b""):
    """(status, body) of one request."""
    told = []
    parts = [body[i : i + 65536] for i in range(0, len(body), 65536)] or [b""]
    waiting = [
        {"type": "http.request", "body": part, "more_body": n + 1 < len(parts)}
        for n, part in enumerate(parts)
    ]

    async def receive():
        if not waiting:
            await asyncio.Event().wait()  # the client stays
        return waiting.pop(0)

    async def send(message):
        told.append(message)

    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "query_string": query,
        "headers": [*headers],
        "client": (peer, 1),
    }
    with ThreadPoolExecutor(1) as aside:  # Playwright's loop may run in this thread
        aside.submit(lambda: asyncio.run(guarded(scope, receive, send))).result()
    if not told:
        return None, b""
    return told[0]["status"], b"".join(m.get("body", b"") for m in told)


@all_of(
    ("path", "method"),
    product(
        [
            "/gradio_api/upload",
            "/gradio_api/proxy=http://169.254.169.254/",
            "/gradio_api/file=/etc/passwd",
            "/gradio_api/file=http://localhost/",
            "/gradio_api/file/etc/passwd",
            "/gradio_api/stream/x",
            "/gradio_api/deep_link",
            "/gradio_api/run-history/records",
            "/gradio_api/runs",
            "/gradio_api/vibe-code",
            "/monitoring/summary",
            "/gradio_api/token",
        ],
        ["GET", "POST"],
    ),
)
def test_doors_that_are_shut(path, method):
    assert ask(Guard(app), path, method)[0] == 404


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/app.js"])
def test_doors_that_are_open(path):
    assert ask(Guard(app), path, "GET")[0] == 200


@pytest.mark.parametrize("path", ["/", "/login", "/gradio_api/component_server", "/x", "/asks"])
def test_nothing_else_is_taken(path):
    assert ask(Guard(app), path, "POST")[0] == 405


def test_a_rate_for_each_client():
    guarded = Guard(app, Rates(burst=3, per_minute=1))
    path = "/ask"
    assert [ask(guarded, path)[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert ask(guarded, path, peer="192.0.2.2")[0] == 200
    assert ask(guarded, "/", "GET")[0] == 200  # the page itself costs nothing
    status, body = ask(guarded, path)
    assert status == 429 and "wait a little" in json.loads(body)["error"]["message"]


def test_a_bucket_fills_again(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
    guarded = Guard(app, Rates(burst=1, per_minute=60))
    path = "/gradio_api/mcp/"
    assert [ask(guarded, path)[0] for _ in range(2)] == [200, 429]
    now[0] += 1.0
    assert ask(guarded, path)[0] == 200


def test_clients_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(guard, "MOST_CLIENTS", 10)
    guarded = Guard(app)
    for n in range(50):
        ask(guarded, "/gradio_api/run/predict", peer=f"192.0.2.{n}")
    assert len(guarded._buckets) == 10


def forwarded(*addresses):
    return [(b"x-forwarded-for", ", ".join(addresses).encode())]


def test_a_header_does_not_make_another_client(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    guarded = Guard(app, Rates(burst=1, per_minute=1))
    told = [
        ask(guarded, "/gradio_api/call/fit", headers=forwarded(f"8.8.8.{n}"))[0] for n in range(2)
    ]
    assert told == [200, 429]


def test_behind_a_spaces_proxy_the_last_public_address_counts(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "org/space")
    guarded = Guard(app, Rates(burst=1, per_minute=1))
    path = "/gradio_api/call/fit"
    assert ask(guarded, path, headers=forwarded("8.8.8.8", "10.0.0.1"))[0] == 200
    assert ask(guarded, path, headers=forwarded("9.9.9.9", "10.0.0.1"))[0] == 200
    assert ask(guarded, path, headers=forwarded("1.1.1.1", "8.8.8.8", "10.0.0.2"))[0] == 429
    assert ask(guarded, path, headers=forwarded("nonsense"), peer="10.0.0.9")[0] == 200


def test_a_body_is_bounded_by_its_head_and_by_its_bytes():
    path, much = "/gradio_api/call/load", b"x" * (MOST_BODY + 1)
    told = [(b"content-length", str(len(much)).encode())]
    assert ask(Guard(app), path, headers=told, body=much)[0] == 413
    assert ask(Guard(app), path, body=much)[0] is None  # cut off in the middle
    assert ask(Guard(app), path, body=much[:-1]) == (200, b"%d" % MOST_BODY)


def test_an_address_is_bounded():
    assert ask(Guard(app), "/", "GET", query=b"x" * (guard.MOST_QUERY + 1))[0] == 414


@pytest.mark.parametrize("path", ["/", "/gradio_api/upload"])
def test_answers_say_what_a_browser_may_do(path):
    """As the page on one's own machine, but that the Hub shows a Space in a frame."""
    told = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        told.append(message)

    scope = {"type": "http", "path": path, "method": "GET", "headers": [], "query_string": b""}
    asyncio.run(Guard(app)(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in told[0]["headers"]}
    policy = headers.pop("content-security-policy")
    assert policy.endswith("frame-ancestors 'self' https://huggingface.co https://*.hf.space")
    assert policy.partition("; frame")[0] == server.POLICY.partition("; frame")[0]
    assert "unsafe" not in policy and "x-frame-options" not in headers
    own = {name.lower(): value for name, value in server.HEADERS.items()}
    assert own.keys() - headers.keys() == {"content-security-policy", "x-frame-options"}
    assert headers.items() >= {(n, own[n]) for n in own.keys() & headers.keys()}

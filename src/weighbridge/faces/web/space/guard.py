"""The guard before the server: limits on how often a client may ask and how much, and closed
addresses.

It is an ASGI application around another one. Gradio's server takes uploads, fetches addresses for a
page and hands out files; weighbridge uses none of that, so only what the page and programs need is
open.
"""

import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from ipaddress import ip_address
from typing import Any

from weighbridge.answers.questions.requests import failed
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import MIB
from weighbridge.faces.web import server

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY = 2 * MIB  # bytes of a request; the largest config.json that we know of is below 1 MB
MOST_QUERY = 16_384  # most characters of an address, which may hold every setting
MOST_CLIENTS = 10_000  # most clients whose rates are remembered
API = r"/gradio_api"
ASKS = re.compile(rf"/ask|{API}/(call|run|api|queue/join|mcp)\b.*")  # requests that cost an answer
POSTED = re.compile(rf"/ask|{API}/((call|run|api)/.+|queue/join/?|cancel|reset/?|mcp\b.*)")
SHUT = re.compile(
    rf"({API})?/(proxy=|file=|file/|stream/|upload|deep_link|monitoring|vibe|undo-vibe|run-history"
    r"|runs|process_recording|custom_component|token|dev/|profiling).*"
)

_FRAMED = {
    **server.HEADERS,
    "Content-Security-Policy": server.POLICY.replace(
        "frame-ancestors 'none'", f"frame-ancestors {server.FRAMES}"
    ),
}
HEADERS = [
    (name.lower().encode(), value.encode())
    for name, value in _FRAMED.items()
    if name != "X-Frame-Options"  # X-Frame-Options cannot list hosts
]


class Rates(NamedTuple):
    """The limits of a token bucket per client: `burst` requests at once, refilled by
    `per_minute`."""

    burst: int = 60
    per_minute: int = 120


class Guard:
    """An ASGI application that refuses requests with 404, 405, 413, 414 or 429 and a line with the
    reason."""

    def __init__(self, app: App, rates: Rates = Rates()) -> None:  # noqa: B008
        self._app, self._rates = app, rates
        self._buckets: OrderedDict[str, tuple[float, float]] = (
            OrderedDict()
        )  # client -> (requests left, time of the last request)
        self._behind_proxy = bool(os.environ.get("SPACE_ID"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await (self._app(scope, receive, send) if scope["type"] == "lifespan" else shut(send))
            return
        send = _with_headers(send)
        refused = next(self._refusals(scope), None)
        if refused is not None:
            await _refuse(send, *refused)
            return
        await self._app(scope, _bounded_receive(receive), send)

    def _refusals(self, scope: Scope) -> Iterator[tuple[int, str]]:
        path, method = str(scope["path"]), str(scope["method"])
        if SHUT.fullmatch(path):
            yield 404, "this server hands out no files and fetches nothing for a page"
        elif method not in ("GET", "HEAD", "OPTIONS") and not POSTED.fullmatch(path):
            yield 405, "nothing is taken here"
        if len(scope.get("query_string", b"")) > MOST_QUERY:
            yield 414, f"the address is longer than {MOST_QUERY:,} characters"
        if _content_length(scope) > MOST_BODY:
            yield 413, f"a request has at most {MOST_BODY // MIB} MiB"
        if method == "POST" and ASKS.fullmatch(path) and not self._may(self._client(scope)):
            rate = self._rates.per_minute
            yield 429, f"more than {rate} requests a minute from one client: wait a little"

    def _client(self, scope: Scope) -> str:
        """Return the client's address. Each proxy in front of a Space appends the address that it
        saw: the last public one is the client's. Addresses before that may be the client's
        invention."""
        forwarded = _header(scope, b"x-forwarded-for") if self._behind_proxy else ""
        peer = scope.get("client") or ("", 0)
        return next(_public_addresses(forwarded), str(peer[0]))

    def _may(self, client: str) -> bool:
        now = time.monotonic()
        left, when = self._buckets.pop(client, (float(self._rates.burst), now))
        left = min(self._rates.burst, left + (now - when) * self._rates.per_minute / 60)
        self._buckets[client] = (max(0.0, left - 1), now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return left >= 1


def _public_addresses(forwarded: str) -> Iterator[str]:
    for text in reversed(forwarded.split(",")):
        try:
            address = ip_address(text.strip())
        except ValueError:
            return
        if address.is_global:
            yield str(address)


def _header(scope: Scope, name: bytes) -> str:
    header: bytes = next((value for key, value in scope["headers"] if key.lower() == name), b"")
    return header.decode("latin-1")


def _content_length(scope: Scope) -> int:
    length = _header(scope, b"content-length")
    return int(length) if length.isdigit() and len(length) < 20 else 0


def _bounded_receive(receive: Receive) -> Receive:
    """Return a `receive` that cuts a body off above MOST_BODY bytes, whatever its headers state."""
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        return {"type": "http.disconnect"} if read > MOST_BODY else message

    return bounded


def _with_headers(send: Send) -> Send:
    """Return a `send` that adds the local page's security headers. Other than on the local page,
    the Hub may show this one in a frame."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return sending


async def shut(send: Send) -> None:
    """Close a websocket, since the server has none."""
    await send({"type": "websocket.close", "code": 1008})


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"detail": why, **failed(why)}).encode()  # Gradio's clients read "detail"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 429:
        headers.append((b"retry-after", b"10"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

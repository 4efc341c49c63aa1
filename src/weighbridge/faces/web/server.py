"""The page on this machine: files of web/page, and one address that takes asks.

The server listens on 127.0.0.1 only, and that is not enough: every page open in a browser can reach
it, and every user of the machine. So the path begins with a secret; the Host must be this server's
(a foreign name that points here differs); the Origin of an ask must be this page's; and only JSON
is accepted, which no form of another page can send.
"""

import json
import re
import select
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_urlsafe
from socketserver import TCPServer
from typing import Any, Protocol

from weighbridge.answers.questions.requests import failed
from weighbridge.base._version import __version__
from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.faces.web import registry
from weighbridge.faces.web.awaited import BEGINNING, PATIENCE, WHOLE, Awaited
from weighbridge.faces.web.protocol import MOST

ADDRESS = "127.0.0.1"
PORT = 7860
PAGE = Path(__file__).with_name("page")
INDEX = "index.html"
ASK = "ask"
LOOK = '<meta name="weighbridge-engine" content="served">'  # in the index: who answers asks
FRAMES = "'self' https://huggingface.co https://*.hf.space"  # who may show a Space in a frame
SECRET = 24  # random bytes of the path
CROWD = 64  # most connections at the same time; a browser opens six
ROOM = 1.0  # seconds that a new connection waits after a stranger's was closed for it
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n"
    b"Connection: close\r\n\r\n"
)
TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
    ".parquet": "application/vnd.apache.parquet",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        *("script-src 'self'", "style-src 'self'", "img-src 'self' data: blob:"),
        *("connect-src 'self'", "worker-src 'self'", "manifest-src 'self'", "font-src 'self'"),
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
OURS = "same-origin"
RANGE = re.compile(
    r"bytes=(\d{1,18})-(\d{1,18})"
)  # the form that the page sends; other ranges get the complete file


class RefusedRequestError(Exception):
    """The error for a request that is not answered, with the HTTP status and the reason."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class PageRequest(NamedTuple):
    """The method, path and headers of a request, without its body."""

    method: str
    path: str
    headers: Mapping[str, str]


class Gate(NamedTuple):
    """The port and the secret of the page, and the check whether a request may come in."""

    port: int
    secret: str

    @property
    def hosts(self) -> tuple[str, ...]:
        return (f"{ADDRESS}:{self.port}", f"localhost:{self.port}")

    def entered(self, request: PageRequest) -> str:
        """Return the path below the secret. Raises RefusedRequestError for a wrong host, secret or
        origin."""
        if request.headers.get("Host", "").lower() not in self.hosts:
            raise RefusedRequestError(
                HTTPStatus.MISDIRECTED_REQUEST, "this is not the host of this page"
            )
        parts = request.path.partition("?")[0].removeprefix("/").split("/", 1)
        known = compare_digest(parts[0].encode(errors="replace"), self.secret.encode())
        if not known or len(parts) == 1:
            raise RefusedRequestError(
                HTTPStatus.NOT_FOUND, "there is nothing here: use the whole address"
            )
        if request.method == "POST":
            self._check_own_page(request.headers)
        return parts[1]

    def _check_own_page(self, headers: Mapping[str, str]) -> None:
        """Check that this page sent an ask; raise RefusedRequestError if not."""
        origin = headers.get("Origin")
        if origin is None or origin.lower() not in {f"http://{host}" for host in self.hosts}:
            raise RefusedRequestError(HTTPStatus.FORBIDDEN, "only the page itself may ask")
        if headers.get("Sec-Fetch-Site", OURS).lower() != OURS:
            raise RefusedRequestError(HTTPStatus.FORBIDDEN, "only the page itself may ask")
        if headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise RefusedRequestError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "an ask is application/json"
            )


class Answering(Protocol):
    """An object that answers asks, from many threads at once (desks.py)."""

    def answer(
        self, line: bytes, gone: Callable[[], bool], tell: Callable[[bytes], None]
    ) -> bytes | None: ...


class Gone:
    """A callable that returns whether the client has closed its connection, as it does if a slider
    moved on."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __call__(self) -> bool:
        try:
            ready, _, _ = select.select([self._connection], [], [], 0)
            return bool(ready) and not self._connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True


class PageServer(ThreadingHTTPServer):
    """The HTTP server of the page. Raises UsageError if the port is taken."""

    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"  # on Windows it would share a port that is taken

    def __init__(
        self,
        port: int,
        desks: Answering,
        page: Path = PAGE,
        dataset: Path = registry.DEMONSTRATION,
    ) -> None:
        try:
            super().__init__((ADDRESS, port), Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(
                sentence("port.taken", port=port, address=ADDRESS, why=_why(error))
            ) from None
        self.gate = Gate(self.server_address[1], token_urlsafe(SECRET))
        self.desks = desks
        self.files = {**files(page), **registry.files_of(dataset)}
        self.crowd = threading.BoundedSemaphore(CROWD)
        self.awaited = Awaited()

    def server_bind(self) -> None:
        """Bind the port without looking up this machine's name, which may take long."""
        TCPServer.server_bind(self)

    @property
    def address(self) -> str:
        return f"http://{ADDRESS}:{self.gate.port}/{self.gate.secret}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one more connection. If there are too many, close a stranger's first; if there is
        none, answer 503."""
        if self.crowd.acquire(blocking=False) or (
            self.awaited.end_oldest_stranger() and self.crowd.acquire(timeout=ROOM)
        ):
            self.awaited.within(request, BEGINNING)
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.setblocking(False)
            request.send(FULL)
            request.recv(MOST)  # unread bytes would make the system drop the response
        self.shutdown_request(request)

    def service_actions(self) -> None:
        """Close connections past their deadline; the server calls this twice per second."""
        self.awaited.end_late()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.awaited.gone(request)
            self.crowd.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing, since a client that leaves in the middle is not an error of the server."""


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return (reason or "no reason was given").lower()


def files(page: Path) -> Mapping[str, Path]:
    """Return the files of the page by path; only files listed here are served."""
    paths = (path for path in sorted(page.rglob("*")) if path.is_file() and path.suffix in TYPES)
    return {path.relative_to(page).as_posix(): path for path in paths}


def spanned(asked: str | None, size: int) -> range | None:
    """Return the bytes of a file that a Range header asks for; None, for the complete file, if the
    header is not one range within it."""
    match = RANGE.fullmatch((asked or "").strip())
    if match is None:
        return None
    span = range(int(match[1]), min(int(match[2]) + 1, size))
    return span if len(span) else None


class Handler(BaseHTTPRequestHandler):
    """The handler of one connection to the page."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer goes out in two pieces
    timeout = PATIENCE
    error_message_format, error_content_type = "%(code)d %(message)s\n", "text/plain"

    def handle_one_request(self) -> None:
        """Answer the next request of a connection, the first one or a later one."""
        self.server.awaited.next_of(self.connection)
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answer_guarded("GET")

    def do_HEAD(self) -> None:
        self._answer_guarded("HEAD")

    def do_POST(self) -> None:
        self._answer_guarded("POST")

    def end_headers(self) -> None:
        """Add the security headers to every answer, also to those of http.server to an invalid
        request."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        return f"weighbridge/{__version__}"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing, since addresses hold the secret, and asks may hold a token."""

    def _answer_guarded(self, method: str) -> None:
        try:
            path = self.server.gate.entered(
                PageRequest(method, self.path, _single_headers(self.headers))
            )
            self.server.awaited.known(self.connection)
            if method == "POST":
                self._asked(path)
            else:
                self._send_file(path)
        except RefusedRequestError as refusal:
            self.close_connection = True  # the request's body may be unread
            body = json.dumps(failed(refusal.why)).encode()
            self._send(refusal.status, "application/json", body)

    def _send_file(self, path: str) -> None:
        place = self.server.files.get(path or INDEX)
        if place is None:
            raise RefusedRequestError(HTTPStatus.NOT_FOUND, "there is no such file")
        size = place.stat().st_size
        span = spanned(self.headers.get("Range"), size)
        if span is None:
            self._send(HTTPStatus.OK, TYPES[place.suffix], place.read_bytes())
            return
        with place.open("rb") as file:
            file.seek(span.start)
            part = file.read(len(span))
        headers = {"Content-Range": f"bytes {span.start}-{span.stop - 1}/{size}"}
        self._send(HTTPStatus.PARTIAL_CONTENT, TYPES[place.suffix], part, headers)

    def _asked(self, path: str) -> None:
        if path != ASK:
            raise RefusedRequestError(HTTPStatus.NOT_FOUND, f"asks go to {ASK}")
        length = self._body_length()
        self.server.awaited.within(self.connection, WHOLE)
        line = self.rfile.read(length)
        self.server.awaited.known(self.connection)
        parts = PartsOf(self)
        answer = self.server.desks.answer(line, Gone(self.connection), parts)
        if answer is None:
            self.close_connection = True
        elif parts.begun:
            self.wfile.write(answer)
        else:
            self._send(HTTPStatus.OK, "application/json", answer)

    def _body_length(self) -> int:
        """Return the bytes of the request's body. Raises RefusedRequestError if they are unknown or
        too many."""
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not length.isdecimal() or not length.isascii():
            raise RefusedRequestError(HTTPStatus.LENGTH_REQUIRED, "an ask tells its Content-Length")
        if len(length) > len(str(MOST)) or int(length) > MOST:
            raise RefusedRequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an ask has at most {MOST:,} bytes"
            )
        return int(length)

    def _send(
        self, status: HTTPStatus, kind: str, body: bytes, more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class PartsOf:
    """A callable that sends each part of an answer as a line; the answer itself follows and ends
    with the connection."""

    def __init__(self, handler: Handler) -> None:
        self._to, self.begun = handler, False

    def __call__(self, part: bytes) -> None:
        if not self.begun:
            self.begun = self._to.close_connection = True
            self._to.send_response(HTTPStatus.OK)
            self._to.send_header("Content-Type", "application/jsonl")
            self._to.send_header("Connection", "close")
            self._to.end_headers()
        self._to.wfile.write(part + b"\n")


def _single_headers(headers: Any) -> Mapping[str, str]:
    """Return name -> value for the headers that the checks read. Raises RefusedRequestError if one
    occurs twice."""
    single: dict[str, str] = {}
    for name in ("Host", "Origin", "Content-Type", "Sec-Fetch-Site"):
        values = headers.get_all(name) or []
        if len(values) > 1:
            raise RefusedRequestError(
                HTTPStatus.BAD_REQUEST, f"the header {name} stands there twice"
            )
        if values:
            single[name] = values[0].strip()
    return single

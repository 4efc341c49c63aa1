"""HTTP/1.1 by the standard library, for machines on which nothing is configured (`suits`).

`http.client` reads headers and bodies. This module adds the rest: connections are kept open and
reused, by all sources of a process; redirects are followed, without the token to other hosts; a
response comes in time or not at all; gzipped bodies are unpacked. huggingface_hub's client would do
that too, with more imports and more CPU per request.
"""

import atexit
import os
import re
import ssl
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.sources.answers import CHUNK, ResponseHeaders, unreadable, within

HASHED = r"[0-9a-fA-F]{8}\.\d"  # a certificate's name in a folder of them
SYSTEMS = ("darwin", "win32")  # whose proxies and certificates are settings of the system


def suits(url: str) -> bool:
    """Return whether nothing is configured that only huggingface_hub's client supports."""
    parts = urlsplit(url)
    return (
        "huggingface_hub.utils._http" not in sys.modules  # where a client may have been set
        and parts.scheme in ("http", "https")
        and "@" not in parts.netloc
        and not _has_proxies()
        and not os.environ.get("HF_DEBUG")  # which has each request printed
        and os.environ.get("HF_HUB_VERBOSITY", "").lower() != "debug"  # and this
        and _certificates_known()
    )


def _has_proxies() -> bool:
    if sys.platform in SYSTEMS:
        from urllib.request import getproxies

        return bool(getproxies().keys() - {"no"})
    names = (name.lower() for name, value in os.environ.items() if value)
    return any(name.endswith("_proxy") and name != "no_proxy" for name in names)


@cache
def _certificates_known() -> bool:
    """Return whether this module knows the certificates that huggingface_hub's client trusts: those
    of version 2 are the system's, those of 1 and 0 are not."""
    import huggingface_hub

    version: str = huggingface_hub.__version__
    return version.startswith("2.") and (sys.platform in SYSTEMS or bool(_certificates()))


def _certificates() -> Mapping[str, str]:
    """Return the file or folder of the certificates that the environment names, else OpenSSL's
    (httpcore2 2.16, _ssl.py); {} for the system's."""
    if file := os.environ.get("SSL_CERT_FILE"):
        return {"cafile": file}
    if folder := os.environ.get("SSL_CERT_DIR"):
        return {"capath": folder}
    if sys.platform in SYSTEMS:
        return {}
    paths, places = ssl.get_default_verify_paths(), {}
    if os.path.isfile(paths.openssl_cafile):
        places["cafile"] = paths.openssl_cafile
    folder = paths.openssl_capath
    if os.path.isdir(folder) and (
        places or any(re.fullmatch(HASHED, f) for f in os.listdir(folder))
    ):
        places["capath"] = folder
    return places


@cache
def context() -> ssl.SSLContext:
    """Return a TLS context with the certificates that huggingface_hub's client trusts."""
    files = _certificates()
    if not files:
        from truststore import SSLContext

        trusted: ssl.SSLContext = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return trusted
    try:
        return ssl.create_default_context(cafile=files.get("cafile"), capath=files.get("capath"))
    except OSError as error:
        raise UsageError(sentence("ssl.none", why=str(error))) from None


MAX_REDIRECTS = 20  # as many as huggingface_hub's client follows
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REST, REST_SECONDS = (
    1 << 12,
    0.2,
)  # most bytes and seconds for the rest of an unwanted body, to keep its connection
PORTS = {"http": 80, "https": 443}
MOST_IDLE = 64  # most idle connections: 32 requests at a time to the Hub and as many to its CDN
IDLE_SECONDS = 20  # an idle connection that a router has forgotten swallows what is sent
SAFE = "!#$%&'()*+,/:;=?@[]~"  # in an address that a server gives: what may stay as it is


class UrlOrigin(NamedTuple):
    scheme: str
    host: str
    port: int


class Idle:
    """A pool of idle connections; the last one returned is used first."""

    def __init__(self) -> None:
        self._held: deque[tuple[float, UrlOrigin, HTTPConnection]] = deque()
        self._lock = threading.Lock()

    def take(self, origin: UrlOrigin) -> HTTPConnection | None:
        oldest = time.monotonic() - IDLE_SECONDS
        with self._lock:
            while self._held and self._held[0][0] < oldest:
                self._held.popleft()[2].close()
            idle = next(
                (kept_one for kept_one in reversed(self._held) if kept_one[1] == origin), None
            )
            if idle is None:
                return None
            self._held.remove(idle)
            return idle[2]

    def give(self, origin: UrlOrigin, connection: HTTPConnection) -> None:
        with self._lock:
            self._held.append((time.monotonic(), origin, connection))
            if len(self._held) > MOST_IDLE:
                self._held.popleft()[2].close()

    def close(self) -> None:
        """Close all connections. A forked child calls it too, since it must not use its
        parent's."""
        self._lock = threading.Lock()
        while self._held:
            self._held.popleft()[2].close()


IDLE = Idle()
atexit.register(IDLE.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=IDLE.close)


def _seconds_left(until: float) -> float:
    """Return the seconds until `until`, a monotonic time. Raises TimeoutError if none are left."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


class _Arriving(RawIOBase):
    """A body that must arrive by `until`, a monotonic time: if a server sends a byte per second,
    the timeout of each read never expires."""

    def __init__(self, sock: Any, raw: Any, until: float) -> None:
        self._sock, self._raw, self.until = sock, raw, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._sock.settimeout(_seconds_left(self.until))
        count: int = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, until: float, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.arriving = _Arriving(sock, self.fp.detach(), until)
        self.fp = BufferedReader(self.arriving, CHUNK)

    def begin(self) -> None:
        """Read the final response's headers, skipping all 1xx responses; http.client skips only
        "100 Continue"."""
        super().begin()
        while self.status < 200:
            self.headers: Any = None  # without it, no further headers are read
            super().begin()


class WireResponse:
    """One response. Its connection is reused if the body was read to its end."""

    punctual = True

    def __init__(
        self, origin: UrlOrigin, connection: HTTPConnection, response: _Response, url: str
    ) -> None:
        self._origin, self._connection, self._response = origin, connection, response
        self._timeout: Any = connection.timeout
        self.url, self.status_code = url, response.status
        headers: Any = response.headers
        self.headers: ResponseHeaders = headers

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the body in pieces of at most `size` bytes as sent, decoded."""
        coding = self.headers.get("Content-Encoding", "").lower()
        if coding in ("", "identity"):
            return self._plain_chunks(size)
        if coding not in ("gzip", "x-gzip"):
            raise unreadable(f"encoding {coding}")
        return self._unzip_chunks(size)

    def _unzip_chunks(self, size: int) -> Iterator[bytes]:
        unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            for data in self._plain_chunks(size):
                while data:
                    yield unzip.decompress(data, CHUNK)
                    data = unzip.unconsumed_tail
        except zlib.error as error:
            raise unreadable(error) from None
        if not unzip.eof:
            raise ConnectionError("its packed body is cut")

    def _plain_chunks(self, size: int) -> Iterator[bytes]:
        coding = self.headers.get("Transfer-Encoding", "")
        if coding and not self._response.chunked:
            raise unreadable(f"encoding {coding}")
        while data := self._next(size, self._timeout):
            yield data
        if left := self._response.length:
            raise ConnectionError(f"it closed the connection {left:,} bytes too early")

    def _next(self, size: int, seconds: float) -> bytes:
        self._response.arriving.until = time.monotonic() + seconds
        with _translated_errors():
            return self._response.read1(size)

    def close(self) -> None:
        """Return the connection to the pool, or close it: the rest of a long body is not
        fetched."""
        response = self._response
        with suppress(OSError, WeighbridgeError):
            if response.length and response.length <= MAX_REST:
                self._next(MAX_REST, REST_SECONDS)  # a redirect's few words are here already
            if response.length == 0:
                response.read()  # tells http.client that this was all
        if response.isclosed() and not response.will_close:
            IDLE.give(self._origin, self._connection)
        else:
            response.close()
            self._connection.close()


def get(url: str, headers: Mapping[str, str], timeout: float, seconds: float) -> WireResponse:
    """Return the response after all redirects: `timeout` seconds are for one step, `seconds` for
    all. Raises OSError if a second try may help."""
    until = time.monotonic() + seconds
    headers = {"Accept": "*/*", "Accept-Encoding": "gzip", **headers}
    before: UrlOrigin | None = None
    for _ in range(MAX_REDIRECTS + 1):
        origin, target = _address(url)
        if before is not None and not _same_host(before, origin):
            headers = {key: value for key, value in headers.items() if key != "Authorization"}
        answer = WireResponse(origin, *_asked(origin, target, headers, timeout, until), url)
        place = answer.headers.get("Location", "")
        if answer.status_code not in REDIRECTS or not place:
            return answer
        answer.close()
        url, before = urljoin(url, quote(place.encode("latin-1"), safe=SAFE)), origin
    raise unreadable(f"{MAX_REDIRECTS} redirects")


def _address(url: str) -> tuple[UrlOrigin, str]:
    """Return (origin, request target) of a URL. Raises an error if it has no host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = host if host.isascii() else host.encode("idna").decode()
        origin = UrlOrigin(parts.scheme, host, parts.port or PORTS[parts.scheme])
    except (ValueError, KeyError):
        host = ""
    if not host:
        raise unreadable("it leads to no address")
    query = f"?{quote(parts.query, safe=SAFE)}" if parts.query else ""
    return origin, quote(parts.path or "/", safe=SAFE) + query


def _same_host(before: UrlOrigin, after: UrlOrigin) -> bool:
    """Return whether the token may follow a redirect: to an equal host and port, or from http to
    https."""
    upgraded = (before.scheme, before.port, *after[::2]) == ("http", 80, "https", 443)
    return after.host == before.host and (after == before or upgraded)


def _asked(
    origin: UrlOrigin, target: str, headers: Mapping[str, str], timeout: float, until: float
) -> tuple[HTTPConnection, _Response]:
    """Return (connection, response) of a request over an idle connection, else over a new one: the
    server may have just closed the idle one."""
    idle = IDLE.take(origin)
    if idle is not None:
        with suppress(ConnectionError, ssl.SSLError):
            return idle, _request_over(idle, target, headers, until)
    fresh = within(_seconds_left(until), lambda: _connected(origin, timeout))
    return fresh, _request_over(fresh, target, headers, until)


def _connected(origin: UrlOrigin, timeout: float) -> HTTPConnection:
    with _translated_errors():
        addresses = (
            HTTPSConnection(*origin[1:], timeout=timeout, context=context())
            if origin.scheme == "https"
            else HTTPConnection(*origin[1:], timeout=timeout)
        )
        addresses.connect()
        return addresses


def _request_over(
    connection: HTTPConnection, target: str, headers: Mapping[str, str], until: float
) -> _Response:
    timeout: Any = connection.timeout
    way: Any = connection  # whose type wants a class, where what makes an answer will do
    way.response_class = partial(_Response, until=min(until, time.monotonic() + timeout))
    try:
        with _translated_errors():
            connection.sock.settimeout(timeout)
            connection.request("GET", target, headers=headers)
            response: _Response = way.getresponse()
            return response
    except BaseException:
        connection.close()
        raise


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Turn http.client's errors in this block into those that `get` documents."""
    try:
        yield
    except (OSError, WeighbridgeError):
        raise
    except HTTPException as error:
        name = type(error).__name__
        raise ConnectionError(f"its answer is no HTTP: {name}, {shown(str(error))}") from None
    except Exception as error:  # over what a server sends: the parser of heads has some of its own
        raise unreadable(error) from None

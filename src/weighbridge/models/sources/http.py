"""Byte ranges over HTTP: requests, retries, and limits of a response.

Requests go through huggingface_hub's client (`session`) if anything is configured for it, and
through the standard library's (`wire`) if nothing is. Neither limits a response, so this module
does: it never reads beyond the bytes wanted, whether or not the server knows ranges; it retries a
few times, and only if that can help.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from weighbridge.base.errors import HubError, UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB
from weighbridge.base.wording import printable, shown
from weighbridge.models.formats import ByteRange
from weighbridge.models.sources import surroundings
from weighbridge.models.sources.answers import (
    CHUNK,
    Response,
    ResponseHeaders,
    Silence,
    UnreachableError,
    one_line,
    within,
)

if TYPE_CHECKING:
    from weighbridge.models.sources.budget import RequestBudget

Get = Callable[[str, Mapping[str, str], float, float], Response]

TRIES = 3
BACKOFF = 0.25  # seconds before the second try, doubled for the third
PATIENCE = 10  # seconds after which no further try begins, waits included
HEAD_SECONDS = 15  # seconds for all headers of a response, redirects included
MAX_SECONDS = 60  # seconds for one response, so that a trickle ends as well
SLOW_AFTER, SLOWEST = 8, 4096  # seconds after which fewer bytes per second are an error
MAX_SKIP = 64 * MIB  # most bytes read and dropped if a server does not know ranges
WINDOWS = 12  # refusals for too many requests that are waited out: an hour of the Hub's windows
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


@frozen_record
class HttpResponse:
    """A response with its data. `size`: bytes of the complete file, if stated; `url`: the address
    after redirects; `link`: the Link header, with the next page of a listing."""

    data: bytes
    size: int | None
    url: str
    link: str = ""


class RefusedAnswerError(HubError):
    """The error for a response that a second try will not change. `reason`: the Hub's
    X-Error-Code."""

    def __init__(self, message: str, *, status: int, headers: ResponseHeaders) -> None:
        super().__init__(message)
        self.status = status
        self.reason = headers.get("X-Error-Code", "")
        self.detail = " ".join(headers.get("X-Error-Message", "").split())[:300]


class _TransientError(Exception):
    def __init__(self, message: str, wait: float | None = None, *, counted: bool = False) -> None:
        super().__init__(message)
        self.wait = wait
        self.counted = counted  # a 429: too many requests

    def wait_after(self, attempt: int) -> float:
        return BACKOFF * 2 ** (attempt - 1) if self.wait is None else self.wait


class _AwayError(_TransientError):
    """The error if there is no response at all."""


class Client:
    """A client for requests with one set of headers, with retries and limits."""

    def __init__(
        self,
        *,
        token: str | bool | None,
        budget: "RequestBudget | None" = None,
        silence: Silence | None = None,
    ) -> None:
        """Set up requests. `token`: a token, None for the stored one (HF_TOKEN, a login), False for
        none. `budget` is shared by all heavy users of a host, which then wait out refusals."""
        self._budget = budget
        self._silence = silence or Silence()
        self._headers = {"User-Agent": surroundings.agent(), **_authorization_header(token)}
        self.authorized = "Authorization" in self._headers
        self._timeout: float = surroundings.constants().HF_HUB_ETAG_TIMEOUT
        self._get: Get | None = None

    def get(self, url: str, *, limit: int, wanted: ByteRange | None = None) -> HttpResponse:
        """Return the response with the bytes `wanted`, or with a complete file of at most `limit`
        bytes."""
        begin, attempt, refusals, host = time.monotonic(), 1, 0, _host(url)
        if failed := self._silence.of(host):
            raise UnreachableError(failed)
        while True:
            try:
                return self._attempt(url, limit, wanted)
            except _TransientError as failure:
                if self._budget is not None and failure.counted and refusals < WINDOWS:
                    refusals += 1  # the budget waits for the next window
                    continue
                wait = failure.wait_after(attempt)
                if attempt == TRIES or time.monotonic() - begin + wait > PATIENCE:
                    line = sentence("of_host", host=host, failure=failure.args[0])
                    if isinstance(failure, _AwayError):
                        self._silence.begin(host, line)
                    raise UnreachableError(line) from None
            time.sleep(wait)
            attempt += 1

    def _attempt(self, url: str, limit: int, wanted: ByteRange | None) -> HttpResponse:
        headers = dict(self._headers)
        if wanted is not None:
            headers |= {"Range": _range_header(wanted), "Accept-Encoding": "identity"}
        with self._asked(url, headers) as response:
            status = response.status_code
            if status == 416 and wanted is not None:
                return _response_of(
                    response,
                    b"",
                    _parse_number(response.headers.get("Content-Range", "").rpartition("/")[2]),
                )
            _check_status(response)
            if wanted is None and status == 206:
                raise _TransientError(sentence("http.part"))
            if wanted is None:
                return _complete_response(response, limit)
            return _part(response, wanted) if status == 206 else _cut_out(response, wanted)

    @contextmanager
    def _asked(self, url: str, headers: Mapping[str, str]) -> Iterator[Response]:
        """Yield an open response, requested within the budget if there is one."""
        if self._get is None:
            self._get = _client_function(url)
        if self._budget is not None:
            self._budget.take()
        with _opened(self._get, url, headers, self._timeout) as response:
            if self._budget is not None:
                self._budget.told(response.headers, refused=response.status_code == 429)
            yield response


def endpoint(address: str) -> str:
    """Return a Hub's address unchanged. Raises UsageError if it is no HTTP address."""
    parts = urlsplit(address)
    try:
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that none is
        known = False
    if not known:
        raise UsageError(sentence("hf_endpoint.no_http", address=shown(address)))
    return address


def _client_function(url: str) -> Get:
    if surroundings.IN_BROWSER:
        from weighbridge.models.sources import browser

        return browser.get
    from weighbridge.models.sources import wire

    if wire.suits(url):
        from weighbridge.models.sources import wire

        return wire.get
    from weighbridge.models.sources import session

    return session.get


def _authorization_header(token: str | bool | None) -> Mapping[str, str]:
    if token is None and not surroundings.constants().HF_HUB_DISABLE_IMPLICIT_TOKEN:
        token = _stored_token()
    if not isinstance(token, str):
        return {}
    if not (token.isascii() and token.isprintable() and token.strip()):
        raise UsageError(sentence("post.bad_token"))
    return {"Authorization": f"Bearer {token.strip()}"}


def _stored_token() -> str | None:
    """Return the token that `huggingface_hub.get_token` would find; None without one. Without a
    login, or with one that is not renewed, that is a variable or a file (utils/_auth.py@2.4), read
    here because importing huggingface_hub's function imports its client."""
    constants = surroundings.constants()
    exchanged = os.environ.get("HF_OIDC_RESOURCE") or "google.colab" in sys.modules
    if not exchanged:
        environment = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or ""
        if token := _clean_token(environment):
            return token
        if "refresh_token" not in _file(constants.HF_STORED_TOKENS_PATH):
            return _clean_token(_file(constants.HF_TOKEN_PATH))
    from huggingface_hub.utils import get_token

    try:
        stored: str | None = get_token()
    except Exception as error:  # an exchange that failed, a file that is not ours
        raise UsageError(sentence("token.none", why=one_line(error))) from None
    return stored


def _clean_token(token: str) -> str | None:
    return token.replace("\r", "").replace("\n", "").strip() or None


def _file(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MIB)
    except (OSError, UnicodeDecodeError):
        return ""


@contextmanager
def _opened(get: Get, url: str, headers: Mapping[str, str], timeout: float) -> Iterator[Response]:
    """Yield a response after redirects, with its body unread; all failures become errors of this
    package."""
    if surroundings.constants().HF_HUB_OFFLINE:
        raise HubError(sentence("offline_mode"), where=_host(url))
    try:
        response = get(url, headers, timeout, HEAD_SECONDS)
    except OSError as error:
        raise _AwayError(_unreached_line(url, error)) from None
    try:
        yield response
    except OSError as error:
        raise _TransientError(_unreached_line(url, error)) from None
    finally:
        response.close()


def _unreached_line(url: str, error: OSError) -> str:
    return sentence("unreached", through=_proxy_phrase(url), why=one_line(error))


def _proxy_phrase(url: str) -> str:
    """Return a phrase on the proxy for requests to `url`, without its login; "" without a proxy."""
    from urllib.request import getproxies, proxy_bypass

    address, host = urlsplit(url), _host(url)
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or surroundings.IN_BROWSER or proxy_bypass(address.hostname or host):
        return ""
    return f" through the proxy {printable(proxy.rpartition('@')[2].rpartition('//')[2])}"


def _limited_chunks(response: Response, count: int) -> Iterator[bytes]:
    begin, read = time.monotonic(), 0
    size = min(CHUNK, count)
    for chunk in response.chunks(size):
        yield chunk
        read += len(chunk)
        seconds = time.monotonic() - begin
        if seconds > MAX_SECONDS or (seconds > SLOW_AFTER and read < SLOWEST * seconds):
            raise UnreachableError(sentence("http.slow", seconds=seconds, size=read))


def _read_body(response: Response, count: int) -> bytes:
    if response.punctual:
        return _first_bytes(response, count)
    return within(MAX_SECONDS, lambda: _first_bytes(response, count))


def _first_bytes(response: Response, count: int) -> bytes:
    """Return the body's first `count` bytes, fewer if it ends; no more is fetched."""
    chunks, size = [], 0
    if count <= 0:
        return b""
    for chunk in _limited_chunks(response, count):
        chunks.append(chunk)
        size += len(chunk)
        if size >= count:
            break
    if size > count:
        chunks[-1] = chunks[-1][: count - size]
    return b"".join(chunks)


def _complete_response(response: Response, limit: int) -> HttpResponse:
    why = sentence("http.large.listed" if limit < MIB else "http.large.ours")
    data = _read_body(response, limit + 1)
    if len(data) > limit:
        raise HubError(sentence("http.large", url=response.url, most=limit, why=why))
    return _response_of(response, data, len(data))


def _part(response: Response, wanted: ByteRange) -> HttpResponse:
    """Return the wanted bytes of a 206 response, whose header states which bytes follow."""
    first, last, total = _content_range(response)
    if wanted.start >= 0 and first != wanted.start:
        raise _TransientError(sentence("http.from", first=first, wanted=wanted.start))
    stop = last + 1 if wanted.start < 0 else min(wanted.stop, total or last + 1)
    data = _read_body(response, stop - first)
    if len(data) < stop - first:
        raise _TransientError(sentence("http.cut", size=len(data), wanted=stop - first))
    return _response_of(response, data, total)


def _cut_out(response: Response, wanted: ByteRange) -> HttpResponse:
    """Return the wanted bytes of a 200 response, whose server ignored the range and sends the
    complete file."""
    length = _parse_number(response.headers.get("Content-Length"))
    total = None if response.headers.get("Content-Encoding") else length
    start = wanted.start if wanted.start >= 0 else None if total is None else total + wanted.start
    if start is None or start > MAX_SKIP:
        raise HubError(sentence("ranges", host=_host(response.url)))
    stop = total if wanted.start < 0 else wanted.stop
    data = _read_body(response, stop or 0)[max(0, start) :]
    return _response_of(response, data, total)


def _response_of(response: Response, data: bytes, size: int | None) -> HttpResponse:
    link = response.headers.get("Link", "")
    return HttpResponse(data=data, size=size, url=response.url, link=link)


def _range_header(wanted: ByteRange) -> str:
    if wanted.start < 0:
        return f"bytes={wanted.start}"
    return f"bytes={wanted.start}-{wanted.stop - 1}"


def _content_range(response: Response) -> tuple[int, int, int | None]:
    """Return (first, last, total) of the header "bytes 0-99/1234"; total is None for "*"."""
    header = response.headers.get("Content-Range", "")
    span, _, total = header.removeprefix("bytes ").partition("/")
    first, _, last = span.partition("-")
    if _parse_number(first) is None or _parse_number(last) is None:
        raise _TransientError(sentence("http.range", range=shown(header)))
    return int(first), int(last), _parse_number(total)


def _parse_number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def _check_status(response: Response) -> None:
    """Check that a response has what was requested; raise an error if not."""
    if response.status_code in TRANSIENT:
        _raise_transient(response)
    if response.status_code not in (200, 206):
        _raise_refused(response)


def _raise_transient(response: Response) -> NoReturn:
    status = response.status_code
    wait = _parse_number(response.headers.get("Retry-After"))
    when = "" if wait is None else f", again in {wait} s"
    more = "a token of yours has" if surroundings.IN_BROWSER else "log in with `hf auth login` for"
    words = {429: f"too many requests; wait, or {more} a higher limit"}
    why = words.get(status, "it is in trouble")
    raise _TransientError(f"answers {status} ({why}{when})", wait, counted=status == 429)


def _raise_refused(response: Response) -> NoReturn:
    status = response.status_code
    raise RefusedAnswerError(
        f"{response.url} answers {status}", status=status, headers=response.headers
    )


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]

"""Byte ranges over HTTP, with the client that huggingface_hub configures.

`huggingface_hub.utils.get_session` brings what users have set up: proxies, certificates, a client
of their own, offline mode, and no Authorization header for another host after a redirect. It is
httpx2 in huggingface_hub 2, httpx in 1, requests in 0. Importing it and making its TLS context
takes about 0.15 s, as it does for hf-mem. `hf_api` and `file_download` would add 0.1 s for one
address each, and `build_hf_headers` a request of its own (utils/_detect_agent.py).

What the client does not do is done here: an answer is never read beyond the bytes wanted, whether
or not the server knows ranges; tries are repeated a few times, and only where that can help.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from weighbridge.errors import HubError, UsageError, WeighbridgeError
from weighbridge.formats import Range
from weighbridge.units import MIB
from weighbridge.wording import clipped, shown

T = TypeVar("T")

TRIES = 3
BACKOFF = 0.25  # seconds before the second try, doubled for the third
PATIENCE = 10  # seconds after which no further try is begun, waits included
MAX_SECONDS = 60  # for one answer, so that a trickle ends as well
HEAD_SECONDS = 15  # for all its headers, redirects included
SLOW_AFTER, SLOWEST = 8, 4096  # seconds after which so many bytes a second are the least
MAX_SKIP = 64 * MIB  # what is read and thrown away where a server does not know ranges
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`size` is that of the whole file, where the server said it; `url` is where redirects led."""

    data: bytes
    size: int | None
    url: str
    headers: Mapping[str, str]


class RefusedError(HubError):
    """An answer that no second try will change. `reason` is the Hub's X-Error-Code."""

    def __init__(self, message: str, *, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.reason = headers.get("X-Error-Code", "")
        self.detail = " ".join(headers.get("X-Error-Message", "").split())[:300]


class UnreachableError(HubError):
    """No answer, or none that could be used, after all tries."""


class _TransientError(Exception):
    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Client:
    """One kind of user of one host: its headers and its way to open an address."""

    def __init__(self, *, token: str | bool | None) -> None:
        """`token` is a token, None for the stored one (HF_TOKEN, a login), or False for none."""
        from huggingface_hub import __version__ as hub_version
        from huggingface_hub import constants

        from weighbridge._version import __version__

        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        agent = f"weighbridge/{__version__}; hf_hub/{hub_version}; python/{python}"
        self._headers = {"User-Agent": agent, **_authorization(token)}
        self.authorized = "Authorization" in self._headers
        self._timeout: float = constants.HF_HUB_ETAG_TIMEOUT

    def get(self, url: str, *, limit: int, wanted: Range | None = None) -> Answer:
        """The bytes `wanted`, or the whole of a file that may not be larger than `limit`."""
        begin, attempt = time.monotonic(), 1
        while True:
            try:
                return self._attempt(url, limit, wanted)
            except _TransientError as failure:
                wait = BACKOFF * 2 ** (attempt - 1) if failure.wait is None else failure.wait
                if attempt == TRIES or time.monotonic() - begin + wait > PATIENCE:
                    raise UnreachableError(f"{_host(url)} {failure}") from None
            time.sleep(wait)
            attempt += 1

    def _attempt(self, url: str, limit: int, wanted: Range | None) -> Answer:
        headers = dict(self._headers)
        if wanted is not None:
            headers |= {"Range": _range_header(wanted), "Accept-Encoding": "identity"}
        with _opened(url, headers, self._timeout) as response:
            status = response.status_code
            if status == 416 and wanted is not None:
                return _answer(response, b"", _total(response))
            if status in TRANSIENT:
                _again(response)
            if status not in (200, 206):
                _refuse(response)
            if wanted is None:
                return _whole(response, limit)
            return _part(response, wanted) if status == 206 else _cut_out(response, wanted)


def _authorization(token: str | bool | None) -> Mapping[str, str]:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_token

    if token is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        token = get_token()
    if not isinstance(token, str):
        return {}
    if not (token.isascii() and token.isprintable() and token.strip()):
        raise UsageError("the token is empty or holds characters that no token has")
    return {"Authorization": f"Bearer {token.strip()}"}


@contextmanager
def _opened(url: str, headers: Mapping[str, str], timeout: float) -> Iterator[Any]:
    """A response whose body has not been read, after redirects; all failures are ours."""
    from huggingface_hub import errors

    http_error: type[Exception] = errors.HTTPError  # the client's; requests' own are OSErrors
    try:
        response = _within(HEAD_SECONDS, lambda: _send(url, headers, timeout))
        try:
            yield response
        finally:
            response.close()
    except errors.OfflineModeIsEnabled:
        raise HubError(f"{_host(url)}: offline mode is on (HF_HUB_OFFLINE)") from None
    except (OSError, http_error) as error:
        raise _TransientError(_plain(error)) from None


def _within(seconds: float, job: Callable[[], T]) -> T:
    """What `job` returns. Where it takes longer, it is left to its own end: a server that sends a
    byte a second never lets the client's own timeout, which is that of one read, expire."""
    done: list[Any] = []
    late = threading.Event()

    def run() -> None:
        try:
            done.extend((True, job()))
        except BaseException as error:
            done.extend((False, error))
        if late.is_set() and done[0] and hasattr(done[1], "close"):
            done[1].close()  # a response that nobody waits for any more

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if len(done) < 2:
        late.set()
        raise UnreachableError(f"the answer took more than {seconds:g} s")
    if done[0]:
        found: T = done[1]
        return found
    raise _ours(done[1])


def _ours(error: BaseException) -> BaseException:
    """What the client raises over a server's bytes: addresses that are none, unknown encodings."""
    from huggingface_hub import errors

    http_error: type[Exception] = errors.HTTPError
    known = (WeighbridgeError, _TransientError, OSError, http_error, errors.OfflineModeIsEnabled)
    if isinstance(error, known) or not isinstance(error, Exception):
        return error
    return UnreachableError(f"the answer is no HTTP that can be read: {_said(error)}")


def _send(url: str, headers: Mapping[str, str], timeout: float) -> Any:
    session = _session()
    if _old_hub():
        return session.get(url, headers=headers, timeout=timeout, stream=True)
    request = session.build_request("GET", url, headers=headers, timeout=timeout)
    return session.send(request, stream=True, follow_redirects=True)


def _session() -> Any:
    from huggingface_hub.utils import get_session

    try:
        return get_session()
    except (ValueError, ImportError) as error:
        message = " ".join(str(error).split())
        raise UsageError(f"the HTTP client does not start: {message} (proxy settings?)") from None


def _old_hub() -> bool:
    """Whether huggingface_hub is of the line that uses requests."""
    import huggingface_hub

    version: str = huggingface_hub.__version__
    return version.startswith("0.")


def _chunks(response: Any, count: int) -> Iterator[bytes]:
    begin, read = time.monotonic(), 0
    size = min(CHUNK, count)  # requests waits until a chunk is full
    for chunk in response.iter_content(size) if _old_hub() else response.iter_bytes():
        yield chunk
        read += len(chunk)
        seconds = time.monotonic() - begin
        if seconds > MAX_SECONDS or (seconds > SLOW_AFTER and read < SLOWEST * seconds):
            raise UnreachableError(f"took more than {seconds:.0f} s for {read:,} bytes: too slow")


def _read(response: Any, count: int) -> bytes:
    return _within(MAX_SECONDS, lambda: _first(response, count))


def _first(response: Any, count: int) -> bytes:
    """The first `count` bytes of the body, fewer where it ends; the rest is not fetched."""
    held, size = [], 0
    if count <= 0:
        return b""
    for chunk in _chunks(response, count):
        held.append(chunk)
        size += len(chunk)
        if size >= count:
            break
    if size > count:
        held[-1] = held[-1][: count - size]
    return b"".join(held)


def _whole(response: Any, limit: int) -> Answer:
    why = "the size that was listed" if limit < MIB else "our limit for such a file"
    data = _read(response, limit + 1)
    if len(data) > limit:
        raise HubError(
            f"{response.url} is larger than {limit:,} bytes, {why}: try again, or download the file"
        )
    return _answer(response, data, len(data))


def _part(response: Any, wanted: Range) -> Answer:
    """206: the server says which bytes follow."""
    first, last, total = _content_range(response)
    if wanted.start >= 0 and first != wanted.start:
        raise _TransientError(
            f"answered with bytes from {first:,} where {wanted.start:,} was asked for"
        )
    stop = last + 1 if wanted.start < 0 else min(wanted.stop, total or last + 1)
    data = _read(response, stop - first)
    if len(data) < stop - first:
        raise _TransientError(f"cut its answer after {len(data):,} of {stop - first:,} bytes")
    return _answer(response, data, total)


def _cut_out(response: Any, wanted: Range) -> Answer:
    """200: the server ignored the range and sends the file from its beginning."""
    length = _number(response.headers.get("Content-Length"))
    total = None if response.headers.get("Content-Encoding") else length
    start = wanted.start if wanted.start >= 0 else None if total is None else total + wanted.start
    if start is None or start > MAX_SKIP:
        raise HubError(f"{_host(str(response.url))} serves no byte ranges, which this file needs")
    stop = total if wanted.start < 0 else wanted.stop
    data = _read(response, stop or 0)[max(0, start) :]
    return _answer(response, data, total)


def _answer(response: Any, data: bytes, size: int | None) -> Answer:
    return Answer(data=data, size=size, url=str(response.url), headers=response.headers)


def _range_header(wanted: Range) -> str:
    if wanted.start < 0:
        return f"bytes={wanted.start}"
    return f"bytes={wanted.start}-{wanted.stop - 1}"


def _content_range(response: Any) -> tuple[int, int, int | None]:
    """(first, last, total) of "bytes 0-99/1234"; the total may be "*"."""
    said = response.headers.get("Content-Range", "")
    span, _, total = said.removeprefix("bytes ").partition("/")
    first, _, last = span.partition("-")
    if _number(first) is None or _number(last) is None:
        raise _TransientError(f"answered with the range {shown(said)}")
    return int(first), int(last), _number(total)


def _total(response: Any) -> int | None:
    return _number(response.headers.get("Content-Range", "").rpartition("/")[2])


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def _again(response: Any) -> NoReturn:
    status = response.status_code
    wait = _number(response.headers.get("Retry-After"))
    when = "" if wait is None else f", again in {wait} s"
    words = {429: "too many requests; wait, or log in with `hf auth login` for a higher limit"}
    raise _TransientError(f"answers {status} ({words.get(status, 'it is in trouble')}{when})", wait)


def _refuse(response: Any) -> NoReturn:
    status = response.status_code
    raise RefusedError(f"{response.url} answers {status}", status=status, headers=response.headers)


def _plain(error: Exception) -> str:
    """One line of an exception of the client."""
    return f"cannot be reached ({_said(error)})"


def _said(error: Exception) -> str:
    return clipped(" ".join(str(error).split()) or type(error).__name__, 120)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]

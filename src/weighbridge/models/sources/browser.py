"""HTTP from a worker of a page: XMLHttpRequest, which blocks there as Python does.

The browser follows redirects, and leaves the token behind where they lead to another origin (Fetch
standard, HTTP-redirect fetch). A response is handed over when it is complete, so time is the only
limit on one that does not end; the client limits the bytes copied into Python's memory.

Of a response's headers a page sees only those that the server exposes. huggingface.co exposes
X-Error-Code, X-Error-Message, ETag, Link, Accept-Ranges, Content-Range, X-Repo-Commit and
X-Linked-Size, and not Retry-After; headers that its CDN may leave out follow from the request
(`_filled`).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from weighbridge.base.errors import HubError
from weighbridge.base.sentences import sentence
from weighbridge.models.sources.answers import ResponseHeaders, unreadable
from weighbridge.models.sources.surroundings import constants

# The Hub and its CDNs: hubDomains, lfsDomains, cdnDomains of huggingface.co/.well-known/meta.json
HOSTS = ("huggingface.co", "hf.co")
SECONDS = 60  # seconds for one response, its body included
FORBIDDEN = frozenset(
    {"user-agent", "accept-encoding"}
)  # headers that only the browser sets (Fetch standard)


class BrowserResponse:
    """The complete response to one of a browser's requests."""

    punctual = True

    def __init__(self, request: Any, url: str, wanted: str) -> None:
        self._body = request.response
        self._length = int(self._body.byteLength)
        self.status_code = int(request.status)
        self.url = str(request.responseURL or url)
        headers = _parse_headers(str(request.getAllResponseHeaders() or ""))
        self.headers: ResponseHeaders = _Headers(
            _filled(headers, self.status_code, wanted, self._length)
        )

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the body in pieces of `size` bytes; bytes not requested stay in the browser."""
        for start in range(0, self._length, size):
            yield self._body.slice(start, min(start + size, self._length)).to_bytes()

    def close(self) -> None:
        """Free the browser's memory of the response."""
        self._body, self._length = None, 0


class _Headers:
    def __init__(self, headers: Mapping[str, str]) -> None:
        self._found = headers

    def get(self, name: str, default: str = "", /) -> str:
        return self._found.get(name.lower(), default)


def get(url: str, headers: Mapping[str, str], timeout: float, seconds: float) -> BrowserResponse:
    """Return the response after all redirects. Raises OSError if a second try may help. `timeout`
    and `seconds` are ignored: a response with its body has `SECONDS`."""
    from js import XMLHttpRequest  # Pyodide's

    if not allowed(url):
        raise HubError(sentence("other_host", host=urlsplit(url).hostname, hub=_hub()))
    request = XMLHttpRequest.new()
    try:
        request.open("GET", url, False)
        request.responseType = "arraybuffer"
        request.timeout = SECONDS * 1000
        for name, value in _sendable_headers(url, headers).items():
            request.setRequestHeader(name, value)
        request.send()
    except Exception as error:  # a DOMException, whatever Pyodide's version makes of it
        _raise_failure(error)
    if not request.status or request.response is None:
        raise ConnectionError("no answer")
    return BrowserResponse(request, url, headers.get("Range", ""))


def allowed(url: str) -> bool:
    """Return whether the page's content security policy allows the address."""
    parts, hub = urlsplit(url), urlsplit(_hub())
    if (parts.scheme, parts.netloc) == (hub.scheme, hub.netloc):
        return True
    host = parts.hostname or ""
    return parts.scheme == "https" and any(host == h or host.endswith(f".{h}") for h in HOSTS)


def _hub() -> str:
    address: str = constants().ENDPOINT
    return address


def _sendable_headers(url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a page may send; the token only if the address is the Hub's."""
    parts, hub = urlsplit(url), urlsplit(_hub())
    ours = (parts.scheme, parts.netloc) == (hub.scheme, hub.netloc)
    allowed = {name: value for name, value in headers.items() if name.lower() not in FORBIDDEN}
    if not ours:
        allowed.pop("Authorization", None)
    return allowed


def _raise_failure(error: Exception) -> NoReturn:
    """Raise the error that `get` documents, from the browser's. A browser does not tell a page why
    there was no response."""
    from js import navigator

    name = str(getattr(error, "name", "")) or str(error).partition(":")[0]
    if name == "TimeoutError":
        raise TimeoutError(f"no whole answer within {SECONDS} s") from None
    if name == "NetworkError":
        away = "there is no network" if navigator.onLine is False else "no answer for this page"
        raise ConnectionError(away) from None
    raise unreadable(error) from None


def _parse_headers(text: str) -> dict[str, str]:
    """Return the headers in a browser's text, by names in lower case."""
    lines = (line.partition(":") for line in re.split(r"\r?\n", text) if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _filled(headers: dict[str, str], status: int, wanted: str, length: int) -> dict[str, str]:
    """Return the headers, with those that the server hides from pages filled in: the body's length
    is the decoded one, and a 206 has the requested range."""
    headers.pop("content-encoding", None)
    if status == 200:
        headers["content-length"] = str(length)
    if status == 206 and "content-range" not in headers:
        first = wanted.removeprefix("bytes=").partition("-")[0] or "0"
        headers["content-range"] = f"bytes {first}-{int(first) + length - 1}/*"
    return headers

"""The HTTP client that huggingface_hub configures, with all settings that users made for it.

`huggingface_hub.utils.get_session` brings proxies, certificates, a client of the user's own,
offline mode, and no Authorization header for another host after a redirect. It is httpx2 in
huggingface_hub 2, httpx in 1, requests in 0. Importing it and making its TLS context takes 0.08 s
of CPU.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.models.sources.answers import ResponseHeaders, one_line, unreadable, within


class SessionResponse:
    punctual = False  # the client's timeout is that of one read, however small

    def __init__(self, response: Any) -> None:
        self._response = response
        self.status_code: int = response.status_code
        self.headers: ResponseHeaders = response.headers
        self.url = str(response.url)

    def chunks(self, size: int) -> Iterator[bytes]:
        response = self._response  # requests waits until a chunk is full
        parts = response.iter_content(size) if _old_hub() else response.iter_bytes()
        while True:
            try:
                chunk = next(parts)
            except StopIteration:
                return
            except Exception as error:
                raise _translated_error(error) from None
            yield chunk

    def close(self) -> None:
        self._response.close()


def get(url: str, headers: Mapping[str, str], timeout: float, seconds: float) -> SessionResponse:
    """Return the response after all redirects: `timeout` seconds are for one step, `seconds` for
    all. Raises OSError if a second try may help."""
    return within(seconds, lambda: _open_response(url, headers, timeout))


def _open_response(url: str, headers: Mapping[str, str], timeout: float) -> SessionResponse:
    try:
        return SessionResponse(_send(url, headers, timeout))
    except Exception as error:
        raise _translated_error(error) from None


def _send(url: str, headers: Mapping[str, str], timeout: float) -> Any:
    session = _session()
    if _old_hub():
        return session.get(url, headers=headers, timeout=timeout, stream=True)
    request = session.build_request("GET", url, headers=headers, timeout=timeout)
    return session.send(request, stream=True, follow_redirects=True)


def _translated_error(error: Exception) -> Exception:
    """Return the error of this package for an error of huggingface_hub's client: its failures, and
    errors over a server's bytes (invalid addresses, unknown encodings)."""
    from huggingface_hub import errors

    http_error: type[Exception] = errors.HTTPError  # the client's; requests' own are OSErrors
    if isinstance(error, http_error) and not isinstance(error, OSError):
        return ConnectionError(one_line(error))
    if isinstance(error, WeighbridgeError | OSError):
        return error
    return unreadable(error)


def _session() -> Any:
    from huggingface_hub.utils import get_session

    try:
        return get_session()
    except (ValueError, ImportError) as error:
        message = " ".join(str(error).split())
        raise UsageError(sentence("http.no_start", why=message)) from None


def _old_hub() -> bool:
    """Return whether huggingface_hub is a 0.x version, which uses requests."""
    import huggingface_hub

    version: str = huggingface_hub.__version__
    return version.startswith("0.")

"""One file at a URL that is not the Hub's, which gets no token.

The first read fetches the size of the file with its first bytes, so a header usually costs one
request.
"""

import threading
from urllib.parse import urlsplit

from weighbridge.base.errors import HubError, NotFoundError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import redacted
from weighbridge.models.formats import ByteRange
from weighbridge.models.sources import select, surroundings
from weighbridge.models.sources.base import SourceFile, SourceOptions, span
from weighbridge.models.sources.http import Client, HttpResponse, RefusedAnswerError
from weighbridge.models.sources.hub import MAX_READ
from weighbridge.models.sources.reference import UrlRef

FIRST = 100_000  # bytes that parsers request first


class UrlSource:
    waits = True

    def __init__(self, ref: UrlRef, options: SourceOptions | None = None) -> None:
        options = options or SourceOptions()
        if options.offline or surroundings.constants().HF_HUB_OFFLINE:
            raise HubError(sentence("url.offline", url=ref.url))
        self._client = Client(token=False, silence=options.silence)
        self._urls = _part_urls(ref)
        self._heads: dict[str, HttpResponse] = {}
        self._lock = threading.Lock()
        self.name = redacted(ref.url)
        self.revision: str | None = None
        self.notes: tuple[str, ...] = ()

    def list(self) -> tuple[SourceFile, ...]:
        return tuple(SourceFile(path, self._head(path).size) for path in self._urls)

    def read(self, path: str, start: int, stop: int) -> bytes:
        head = self._head(path)
        if head.size is None:
            return self._get(path, ByteRange(start, stop)).data
        first, last = span(start, stop, head.size)
        if last <= len(head.data):
            return head.data[first:last]
        return self._get(path, ByteRange(first, last)).data

    def _head(self, path: str) -> HttpResponse:
        if path not in self._urls:
            raise NotFoundError(sentence("url.one_file", name=self.name, path=path))
        with self._lock:
            if path not in self._heads:
                self._heads[path] = self._get(path, ByteRange(0, FIRST))
            return self._heads[path]

    def _get(self, path: str, wanted: ByteRange) -> HttpResponse:
        url = self._urls[path]
        try:
            return self._client.get(url, limit=MAX_READ, wanted=wanted)
        except RefusedAnswerError as refused:
            if refused.status in (404, 410):
                raise NotFoundError(
                    sentence("url.no_file", status=refused.status), where=url
                ) from None
            raise HubError(sentence("answer", page=url, status=refused.status)) from None


def _part_urls(ref: UrlRef) -> dict[str, str]:
    """Return file name -> URL: several for a split GGUF file."""
    split = urlsplit(ref.url)
    folder = split.path.rpartition("/")[0]
    names = select.parts(ref.filename)
    if len(names) == 1:
        return {ref.filename: ref.url}
    return {name: split._replace(path=f"{folder}/{name}").geturl() for name in names}

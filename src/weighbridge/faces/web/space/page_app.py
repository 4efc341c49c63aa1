"""The page in front of Gradio's server: its files and its asks, as an ASGI application around
another one.

Gradio's own page is not shown. Its API is open, and the configuration that its clients read first.
"""

import gzip
import json
import re
from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from weighbridge.answers.questions.requests import failed
from weighbridge.faces.web import registry
from weighbridge.faces.web.server import ASK, INDEX, LOOK, OURS, PAGE, TYPES, files
from weighbridge.faces.web.space.guard import App, Receive, Scope, Send

GRADIO = re.compile(r"/config/?|/gradio_api/.*")
JSON = "application/json"
FAST = 1  # level of gzip: a form of 330 KB becomes 70 KB in some milliseconds


class PageApp:
    """An ASGI application that answers GET for the page's files and POST for its asks, `many` of
    them at once."""

    def __init__(self, app: App, ask: Callable[[bytes], dict[str, Any]], many: int) -> None:
        self._app, self._ask = app, ask
        self._files = {**files(PAGE), **registry.files_of(registry.DEMONSTRATION)}
        index = (PAGE / INDEX).read_text(encoding="utf-8")
        self._index = index.replace(LOOK, LOOK.replace("served", "space"))
        self._threads = ThreadPoolExecutor(many, "ask")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or GRADIO.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        request, name = Request(scope, receive), scope["path"].removeprefix("/")
        asks = name == ASK and request.method == "POST"
        response = await self._asked(request) if asks else self._file_response(name or INDEX)
        await response(scope, receive, send)

    def _file_response(self, name: str) -> Response:
        place = self._files.get(name)
        if place is None:
            return _error_response(404, "there is no such file")
        kind = TYPES[place.suffix]
        if name == INDEX:
            return Response(self._index, media_type=kind)
        return FileResponse(place, media_type=kind)

    async def _asked(self, request: Request) -> Response:
        if not is_own(request.headers):
            return _error_response(403, "only the page itself may ask")
        if request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
            return _error_response(415, "an ask is application/json")
        try:
            body = await request.body()
        except ClientDisconnect:  # the client left, or the guard cut a body that is too long
            return _error_response(413, "the ask did not come whole, or is too long")
        packed = "gzip" in request.headers.get("accept-encoding", "")
        answer = partial(self._answer, body, packed=packed)
        line = await get_running_loop().run_in_executor(self._threads, answer)
        return Response(
            line, headers={"Content-Encoding": "gzip"} if packed else {}, media_type=JSON
        )

    def _answer(self, body: bytes, *, packed: bool) -> bytes:
        """Return the answer to an ask as JSON, gzipped if `packed`."""
        line = json.dumps(self._ask(body)).encode()
        return gzip.compress(line, FAST) if packed else line


def is_own(headers: Any) -> bool:
    """Return whether the page itself sent a request. Browsers state that in Sec-Fetch-Site if the
    connection is secure; else the request's Origin must be its Host. A Space stands behind proxies,
    which may change the Host."""
    site, origin = headers.get("sec-fetch-site"), str(headers.get("origin", ""))
    own = origin.partition("://")[2] == headers.get("host", "-") if site is None else site == OURS
    return bool(own)


def _error_response(status: int, why: str) -> Response:
    return Response(json.dumps(failed(why)), status, media_type=JSON)

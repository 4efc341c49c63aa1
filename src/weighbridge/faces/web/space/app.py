"""The server edition, started: `weighbridge web --gradio`, and app.py of a Space."""

import os
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from signal import SIGTERM, signal
from socket import socket
from threading import Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import UsageError

if TYPE_CHECKING:
    from weighbridge.faces.web.space.office import Office

NEEDED = ("gradio", "mcp")
MISSING = "the page for Spaces needs gradio: pip install 'weighbridge[web]'"


def serve(port: int | None = None, open_: bool = False) -> None:
    """Serves until it is stopped. Raises UsageError where gradio is not installed."""
    if any(find_spec(name) is None for name in NEEDED):
        raise UsageError(MISSING)
    # Nothing is sent to anybody; both are read when gradio is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from weighbridge.faces.web.space.office import Office

    office = Office()
    if current_thread() is main_thread():
        signal(SIGTERM, lambda *_: sys.exit(0))  # as a Space is stopped: processes go, too
    try:
        _launched(office, port, open_=open_)
    finally:
        office.close()


def _launched(office: "Office", port: int | None, *, open_: bool) -> None:
    from starlette.middleware import Middleware

    from weighbridge.base.words import LANGUAGES
    from weighbridge.faces.web.space.guard import Guard
    from weighbridge.faces.web.space.page import CSS, first, theme

    blocks, say = app(office)
    _, url, _ = blocks.launch(
        server_port=_free() if port == 0 else port,
        inbrowser=open_,
        share=False,
        i18n=say,
        css=CSS,
        theme=theme(),
        mcp_server=True,
        ssr_mode=False,
        run_history=False,  # Gradio would keep what was asked, the token too, in the browser
        enable_monitoring=False,
        show_error=False,
        pwa=False,
        footer_links=[],
        max_file_size=0,
        app_kwargs={"middleware": [Middleware(Guard)], "docs_url": None, "redoc_url": None},
        prevent_thread_lock=True,
        quiet=True,
    )
    print(f"weighbridge at {url} (Ctrl+C stops it)", flush=True)  # noqa: T201
    Thread(target=_warmed, args=(office.ask, map(first, LANGUAGES)), daemon=True).start()
    blocks.block_thread()


def _warmed(ask: Callable[[Any], Any], requests: Iterable[Any]) -> None:
    """The first page of everybody, before anybody asks; one process is left for who is faster."""
    for request in requests:
        ask(request)


def _free() -> int:
    """Find a port of this machine that nobody listens on."""
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def app(office: "Office") -> "tuple[Any, Any]":
    """The page with its endpoints, and its words."""
    from weighbridge.faces.web.space import endpoints
    from weighbridge.faces.web.space.page import page

    blocks, say = page(office.ask)
    with blocks:
        endpoints.add(office.ask)
    return blocks, say

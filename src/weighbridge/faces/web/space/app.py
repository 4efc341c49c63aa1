"""The start of the server edition: `weighbridge web --gradio`, and app.py of a Space."""

import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from signal import SIGTERM, signal
from socket import socket
from threading import Thread, current_thread, main_thread
from typing import TYPE_CHECKING

from weighbridge.base.errors import UsageError
from weighbridge.base.words import LANGUAGES

if TYPE_CHECKING:
    from weighbridge.faces.web.space.office import Office

NEEDED = ("gradio", "mcp")
MISSING = "the page for Spaces needs gradio: pip install 'weighbridge[web]'"


def serve(port: int | None = None, open_: bool = False) -> None:
    """Serve the page and the endpoints until stopped. Raises UsageError if gradio or mcp is not
    installed."""
    if any(find_spec(name) is None for name in NEEDED):
        raise UsageError(MISSING)
    # Nothing is sent to anybody; both are read when gradio is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from weighbridge.faces.web.space.office import Office

    office = Office()
    if current_thread() is main_thread():
        signal(
            SIGTERM, lambda *_: sys.exit(0)
        )  # a Space is stopped by SIGTERM; its processes must end, too
    try:
        _launch(office, port, open_=open_)
    finally:
        office.close()


def _launch(office: "Office", port: int | None, *, open_: bool) -> None:
    """Serve the page, and behind it Gradio's endpoints, until stopped."""
    import gradio as gr
    from starlette.middleware import Middleware

    from weighbridge.faces.web.space import endpoints
    from weighbridge.faces.web.space.guard import Guard
    from weighbridge.faces.web.space.page_app import PageApp

    many = (
        office.limits.clerks + office.limits.waiting + 1
    )  # one more request gets the answer that the server is busy
    before = [Middleware(Guard), Middleware(PageApp, ask=office.asked, many=many)]
    with gr.Blocks(title="weighbridge", analytics_enabled=False) as blocks:
        endpoints.add(office.ask)
    _, url, _ = blocks.launch(
        server_port=_free_port() if port == 0 else port,
        inbrowser=open_,
        share=False,
        mcp_server=True,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        pwa=False,
        max_file_size=0,
        app_kwargs={"middleware": before, "docs_url": None, "redoc_url": None},
        prevent_thread_lock=True,
        quiet=True,
    )
    print(f"weighbridge at {url} (Ctrl+C stops it)", flush=True)  # noqa: T201
    Thread(target=_warm, args=(office,), daemon=True).start()
    blocks.block_thread()


def _warm(office: "Office") -> None:
    """Answer the asks that every page starts with, before anybody opens one. This uses one process;
    the others stay free."""
    for body in first_asks():
        office.asked(body)


def first_asks() -> Iterator[bytes]:
    """Yield the asks that a page sends when it is opened, and the one of its first example."""
    for lang in LANGUAGES:
        yield json.dumps({"task": "form", "view": {"lang": lang}}).encode()
    first = {"task": "fit", "model": "llama-3.1-8b", "workload": {"gpu": "4090"}}
    yield json.dumps(first).encode()


def _free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

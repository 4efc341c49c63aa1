"""The tools over stdio, by the official SDK of the Model Context Protocol.

The SDK has two generations with different handlers (1.21 and later; 2), and Gradio 6 takes only the
first: both are served, from the same records. Messages are written here as the protocol defines
them (`inputSchema`, `isError`), which both generations read.

One thread makes the answers, one after the other, so that pings and cancellations are heard
meanwhile. It is a daemon thread: when the client is gone, the program does not wait for an answer.
"""

import asyncio
import logging
import signal
import threading
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from weighbridge.base._version import __version__
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.faces.agents.answering import AgentAnswer, Answers, Arguments
from weighbridge.faces.agents.tools import Tool, tools

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

NAME = "weighbridge"
INSTRUCTIONS = """\
Says how much memory a model takes to load, serve, fine-tune or train, and whether it fits a GPU, \
before anything is downloaded. Start with fit; ask infer or train for one engine or method.
A verdict is fits, does not fit, or too close to call (fits: "unknown"): then give headroom, a \
smaller setting or a larger card, and do not promise that it works.
Changes are written as flags: `--kv-cache-dtype fp8` is the argument kv_cache_dtype of the same \
tool. Where nothing is said, defaults are assumed, and named in the answer (context 4,096 tokens, \
batch 1): give the user's own numbers. Lines to paste are complete: quote them unchanged."""
Ask = Callable[[], AgentAnswer]


class _AnswerThread:
    """A thread that answers questions one after the other."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Future[AgentAnswer], Ask]] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="answers").start()

    def _work(self) -> None:
        while True:
            future, ask = self._asked.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(ask())
                except BaseException as error:  # the thread goes on
                    future.set_exception(error)

    async def answer(self, ask: Ask) -> AgentAnswer:
        future: Future[AgentAnswer] = Future()
        self._asked.put((future, ask))
        return await asyncio.wrap_future(future)


def serve(answers: Answers, names: tuple[str, ...] = ()) -> None:
    """Serve the tools over stdio until the client is gone. `names` are the tools to offer, all if
    empty."""
    server = _server(answers, tuple(t for t in tools() if not names or t.name in names))
    _silence_sdk()
    with suppress(BrokenPipeError):
        asyncio.run(_run(server))


def _silence_sdk() -> None:
    """Let Ctrl-C end the process, for which the SDK's reader would wait for another line, and drop
    the SDK's logs and warnings."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")


async def _run(server: "Server[Any]") -> None:
    from mcp.server.stdio import stdio_server

    try:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())
    except BaseExceptionGroup as group:
        if group.split((BrokenPipeError, ConnectionError))[1] is not None:
            raise


def _server(answers: Answers, offered: tuple[Tool, ...]) -> "Server[Any]":
    try:
        from mcp.server.lowlevel import Server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise UsageError(sentence("agent.needs_sdk")) from None
    lane = _AnswerThread()
    known = {tool.name for tool in offered}

    async def listed(*_: Any) -> Any:
        return _sdk_record("ListToolsResult", {"tools": [_tool_listing(tool) for tool in offered]})

    async def called(name: str, arguments: Arguments | None) -> Any:
        if name not in known:
            return _sdk_record(
                "CallToolResult", _call_result(AgentAnswer(_unknown_tool(name, known)))
            )
        answer = await lane.answer(lambda: answers.call(name, arguments))
        return _sdk_record("CallToolResult", _call_result(answer))

    if hasattr(Server, "list_tools"):
        return _first_generation(listed, called)

    async def asked(_: Any, params: Any) -> Any:
        return await called(params.name, params.arguments)

    return Server(
        NAME,
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=listed,
        on_call_tool=asked,
    )


def _first_generation(
    listed: Callable[..., Awaitable[Any]], called: Callable[..., Awaitable[Any]]
) -> "Server[Any]":
    """Return a server of the SDK's version 1, whose handlers wrap the results of `listed` and
    `called`."""
    from mcp import types
    from mcp.server.lowlevel import Server

    server: Any = Server(NAME, version=__version__, instructions=INSTRUCTIONS)

    async def list_tools(_: Any) -> Any:
        return types.ServerResult(await listed())

    async def call_tool(request: Any) -> Any:
        reply = await called(request.params.name, request.params.arguments)
        return types.ServerResult(reply)

    server.request_handlers[types.ListToolsRequest] = list_tools
    server.request_handlers[types.CallToolRequest] = call_tool
    return server


def _unknown_tool(name: str, known: set[str]) -> str:
    from weighbridge.base.wording import shown

    return f"error: no tool {shown(name)}; known: {', '.join(sorted(known))}"


def _sdk_record(kind: str, body: dict[str, Any]) -> Any:
    """Return the SDK's record `kind`, built from a protocol message."""
    from mcp import types

    return getattr(types, kind).model_validate(body)


def _tool_listing(tool: Tool) -> dict[str, Any]:
    """Return a tool as the protocol lists it, marked as changing nothing."""
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": tool.schema,
        "annotations": {
            "title": tool.title,
            "readOnlyHint": True,
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": tool.sources,
        },
    }


def _call_result(answer: AgentAnswer) -> dict[str, Any]:
    """Return an answer as the protocol sends it: text and numbers, or an error text."""
    content: dict[str, Any] = {
        "content": [{"type": "text", "text": answer.text}],
        "isError": answer.failed,
    }
    return content if answer.failed else {**content, "structuredContent": answer.numbers}

"""Endpoints for programs and agents: one request in, the JSON of `weighbridge run` out.

POST /gradio_api/call/infer  {"data": [{"model": "llama-3.1-8b", "workload": {...}}]}
gradio_client:  client.predict({"model": "llama-3.1-8b"}, api_name="/infer")
MCP:            the tools load, infer, train, fit, gpus, models at /gradio_api/mcp/
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import gradio as gr

from weighbridge.answers.questions.requests import failed
from weighbridge.faces.web.form import form
from weighbridge.faces.web.space.answering import TABLES

Request = dict[str, Any]
Ask = Callable[[Mapping[str, Any]], dict[str, Any]]
MCP = "/gradio_api/mcp"
SAYS: Mapping[str, str] = {
    "load": "Weigh a model's weights: bytes in each format, largest layer, Adam training.",
    "infer": "Weigh serving a model: bytes by device and phase, cache, requests, launch command.",
    "train": "Weigh fine-tuning or training a model: bytes by device and phase, full, LoRA, QLoRA.",
    "fit": "Say whether a model fits a GPU for loading, serving, LoRA, QLoRA and training, and the "
    "cheapest change that makes it fit. Needs workload.gpu, such as 4090 or a100-80gb:8.",
    "gpus": "List accelerators: memory, what each computes in, bandwidth.",
    "models": "List the models of the built-in catalogue, or rank them for a GPU.",
}
ASKING = """{says}

Args:
    request: {{"model": a catalogue name, ORG/NAME of the Hub, its URL, "7B", or {{"config": ...}},
        "workload": {{setting: value}}}}; "remedies": false looks for no changes; "token" is yours,
        for a gated model, used once and kept nowhere. Settings: {names}

Returns:
    The report, bytes as integers; or {{"error": {{"code", "message"}}}}.
"""
LISTING = """{says}

Args:
    request: {{"workload": {{filter: value}}}}, or {{}} for all. Filters: {names}

Returns:
    The list; or {{"error": {{"code", "message"}}}}.
"""


def add(ask: Ask) -> None:
    """Add the endpoints to the Gradio app that is being built. None is queued: `office.py` has the
    limits, and Gradio keeps no copy of the requests."""
    for name in SAYS:
        gr.api(_endpoint(name, ask), api_name=name, queue=False)


def _endpoint(task: str, ask: Ask) -> Callable[..., Any]:
    def endpoint(request: dict[str, Any], carried: gr.Request) -> dict[str, Any]:
        if MCP not in carried.url.path:
            return answered(ask, task, request)
        # Gradio writes a tool's answer as Python's repr, so it is turned into JSON text here.
        return cast("dict[str, Any]", json.dumps(answered(ask, task, request, short=True)))

    text = LISTING if task in TABLES else ASKING
    endpoint.__name__ = task
    endpoint.__doc__ = text.format(says=SAYS[task], names=", ".join(_names(task)))
    return endpoint


def answered(ask: Ask, task: str, request: Any, *, short: bool = False) -> Request:
    """Return the answer to a request of this task, or an error. `short`: cut for agents."""
    if not isinstance(request, dict):
        return failed("a request is an object with model and workload")
    if request.get("task", task) != task:
        return failed(f"this is /{task}: leave the task out, or ask at its own address")
    if "view" in request:
        return failed("a request has no view here: the answer is the report itself")
    told = {name: value for name, value in request.items() if name != "token"}
    return ask({"run": {**told, "task": task}, "token": request.get("token"), "short": short})


def _names(task: str) -> list[str]:
    tab = next(tab for tab in form("en")["tabs"] if tab["name"] == task)
    return [one["name"] for section in tab["sections"] for one in section["settings"]]

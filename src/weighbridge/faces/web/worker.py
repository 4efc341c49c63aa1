"""Python's side of page/worker.js: a line of JSON in, a line out; it runs only in Pyodide.

`begun` is called while the snapshot of the site is made, so that a visit begins with all of this
imported; `answering` is called once per visit.
"""

import json
import os
import sys
from collections.abc import Callable

from weighbridge.base.watching import NotWantedError, Watch, watched
from weighbridge.faces.web.protocol import AskDesk

MODEL = "llama-3.1-8b"  # the snapshot answers for it first, so that answers' imports are in it
ENGINES = ("transformers", "vllm", "sglang", "llama.cpp")
METHODS = ("full", "lora", "qlora")


def answering(hub: str) -> Callable[[str, Callable[[], bool], Callable[[str], None]], str]:
    """Return the function that answers this page's lines; `hub` is the address of the Hub that the
    site reads.

    The function takes a line, a function that returns whether the answer is still wanted, and one
    that receives parts of the answer. An answer that is no longer wanted is "null".
    """
    os.environ["HF_ENDPOINT"] = hub
    desk = AskDesk(ours=False)

    def answer(line: str, wanted: Callable[[], bool], tell: Callable[[str], None]) -> str:
        try:
            with watched(Watch(wanted=wanted)):
                return _as_json(desk.answer(line, lambda part: tell(_as_json(part))))
        except NotWantedError:
            return _as_json(None)

    return answer


def _as_json(answer: object) -> str:
    return json.dumps(answer, ensure_ascii=False)


def begun() -> None:
    """Import the modules and fill the caches that answers need, so that a visit need not."""
    desk = AskDesk(ours=False)
    for ask in _warming_asks():
        answer = desk.answer(json.dumps(ask))
        if "error" in answer:
            raise AssertionError(f"{ask} was answered with {answer}")
    sys.dont_write_bytecode = True


def _warming_asks() -> list[dict[str, object]]:
    serving = ({"gpu": "3060", "engine": engine} for engine in ENGINES)
    training = ({"gpu": "4090", "method": method} for method in METHODS)
    return [
        {"task": "form"},
        {"task": "form", "view": {"lang": "zh"}},
        {"task": "gpus", "workload": {}},
        {"task": "load", "model": MODEL, "workload": {"gpu": "3060"}},
        *(_request("infer", settings) for settings in serving),
        *(_request("train", settings) for settings in training),
    ]


def _request(task: str, typed: dict[str, str]) -> dict[str, object]:
    return {"task": task, "model": MODEL, "workload": typed, "remedies": False}

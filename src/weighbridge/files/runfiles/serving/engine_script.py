"""Python that generates text with a model: vLLM's and SGLang's classes, transformers' `generate`.

    llm = LLM(model="org/name", max_model_len=8192)         vllm serve org/name --max-model-len 8192
    model = X.from_pretrained("org/name", dtype=...)        the line of Python, for --command

Names stand for the literals and configs that they are given. Source: vLLM 0.20 engine/arg_utils.py
(EngineArgs, whose fields are the flags of `vllm serve`; `get_batch_defaults`: a step of LLM has
8,192 tokens, 16,384 on devices from 70 GiB).
"""

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.shell import CARDS
from weighbridge.engines.transformers.dialect import (
    ASKS,
    LOADS,
    PICTURES,
    called,
    calls_in,
    made_by,
    value_of,
)
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.record import Kind, PlannedRun, Unread
from weighbridge.files.runfiles.serving.lines import of_text
from weighbridge.files.runfiles.serving.start_logs import as_flag
from weighbridge.files.runfiles.training import literals

# class -> its package, its first argument, and the equivalent launch line
CLASSES = {
    "LLM": ("vllm", "model", "vllm serve --max-num-batched-tokens 8192"),
    "Engine": ("sglang", "model_path", "python -m sglang.launch_server"),
}
MOVES = {LOADS, "to"}


def tells(document: Document) -> bool:
    """Return whether a script creates an engine, or only loads a model to generate or to see."""
    calls = calls_in(document.data)
    names = set(map(called, calls))
    loads = LOADS in names or any(map(made_by, calls))
    named = all(call.args for call in calls if called(call) == LOADS)  # unsloth uses keywords
    alone = names <= MOVES and named
    runs = ASKS in names or ("no_grad" in names and "backward" not in names) or alone
    return (loads and runs) or bool(_engines(document.data, document.text))


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each engine that the script creates, else of its loaded model."""
    tree, notes = literals.defaulted(document.text)
    engines = _engines(tree, document.text)
    if not engines:
        names = {*MOVES, ASKS, PICTURES}
        wanted = [c for c in calls_in(tree) if called(c) in names or made_by(c)]
        inner = {id(node) for call in wanted for node in calls_in(call) if node is not call}
        yield from of_text("; ".join(ast.unparse(c) for c in wanted if id(c) not in inner))
    for call in engines:
        _, first, line = CLASSES[called(call)]
        arguments = dict(zip((first,), call.args, strict=False))
        arguments |= {word.arg: word.value for word in call.keywords if word.arg}
        packages = literals.imported(tree)
        values = {name: _value(node, packages) for name, node in arguments.items()}
        words = [word for name, value in values.items() for word in as_flag(name, value)]
        unread = [
            Unread(
                key=name, line=call.lineno, why=sentence("line.computed"), lowers=True, raises=True
            )
            for name, value in values.items()
            if value is None and ast.unparse(arguments[name]) != "None"
        ]
        for run in of_text(f"{line} {shlex.join(words)}"):
            yield replace(run, notes=(*run.notes, *notes), unread=(*run.unread, *unread))


def _engines(tree: Any, text: str) -> list[ast.Call]:
    """Return the calls that create an engine of an imported package."""
    of_packages = [
        name
        for name, package in CLASSES.items()
        if re.search(rf"\b(?:from|import) {package[0]}\b", text)
    ]
    return [call for call in calls_in(tree) if called(call) in of_packages]


def _value(node: ast.expr, packages: frozenset[str]) -> Any:
    """Return the value of an argument: a literal, or an imported name (torch.bfloat16)."""
    text = ast.unparse(node)
    if text.endswith("device_count()"):
        return CARDS
    of_an_object = isinstance(node, ast.Attribute) and text.partition(".")[0] not in packages
    return None if of_an_object else value_of(node)


KIND = Kind(
    name="engine-script",
    title=sentence("title.engine_script"),
    syntaxes=("python",),
    source="https://github.com/vllm-project/vllm/blob/v0.20.0/vllm/engine/arg_utils.py",
    tells=tells,
    read=read,
)

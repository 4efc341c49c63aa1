"""`weighbridge fit [MODEL] --explain-oom FILE|-`: why memory ran out, and what to change."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weighbridge.cli.options import WHOLE, writable
from weighbridge.render.data import json_text
from weighbridge.wording import printable, redacted

if TYPE_CHECKING:
    from weighbridge.oom import Oom
    from weighbridge.render import RenderOptions

METHODS = {"lora": "lora", "qlora": "qlora", "train": "full"}
NOT_OURS = ("for_", "max", "smallest", "check", "all_gpus", "all_catalogue", "output", "chart")


def explain(
    path: str, model: str | None, settings: Mapping[str, Any], form: str, look: "RenderOptions"
) -> int:
    """Prints the answer about the log at `path`, or about stdin for "-". The exit code is 0."""
    from weighbridge.api import explain_oom
    from weighbridge.cli.progress import progress

    if settings.get("chart") is not None:
        raise click.UsageError("--chart draws an estimate; leave it out with --explain-oom")
    log = _log(path)
    with progress(model or "the log") as callback:
        found = explain_oom(log, model, progress=callback, **_given(settings))
    click.echo(writable(_drawn(found, form, look)), nl=False, color=look.color)
    if form not in WHOLE:
        for line in found.warnings:
            click.echo(f"warning: {printable(redacted(line))}", err=True)
    return 0


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the run: those that `infer` and `train` have, and what --for says."""
    said = {k: v for k, v in settings.items() if v is not None and v is not False and v != ()}
    given = {name: value for name, value in said.items() if name not in NOT_OURS}
    for name, value in given.items():
        if isinstance(value, tuple):
            if len(value) > 1:
                raise click.UsageError(f"--explain-oom is about one run: give one --{name}")
            given[name] = value[0]
    asked = settings.get("for_")
    if asked in METHODS:
        given.setdefault("method", METHODS[asked])
    elif asked:
        given["task"] = asked
    return given


def _log(path: str) -> "bytes | Path":
    from weighbridge.oom.text import MOST

    if path != "-":
        return Path(path)
    if sys.stdin.isatty():
        click.echo("paste the message, then Ctrl-D", err=True)
    return sys.stdin.buffer.read(MOST + 1)


def _drawn(found: "Oom", form: str, look: "RenderOptions") -> str:
    if form == "json":
        return json_text(found.to_dict())
    if form == "quiet":
        return f"{found.cause or 'unknown'}\n"
    from weighbridge.oom.screen import view
    from weighbridge.render import draw

    return draw(view(found, look), form, look)

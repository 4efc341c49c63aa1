"""`weighbridge fit [MODEL] --explain-oom FILE|-`: why memory ran out, and what to change."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from weighbridge.oom import Oom

METHODS = {"lora": "lora", "qlora": "qlora", "train": "full"}
NOT_OURS = ("for_", "max", "smallest", "check", "unit", "explain", "all_gpus", "all_catalogue")


def explain(
    path: str,
    model: str | None,
    settings: Mapping[str, Any],
    *,
    form: str = "human",
    lang: str = "en",
    details: bool = False,
) -> int:
    """Prints the answer about the log at `path`, or about stdin for "-". The exit code is 0."""
    from weighbridge.api import explain_oom

    given = _given(settings)
    found = explain_oom(_read(path), model, **given)
    click.echo(_drawn(found, form, lang, details=details), nl=False)
    for line in found.warnings:
        click.echo(f"warning: {line}", err=True)
    return 0


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the run: those that `infer` and `train` have, and what --for says."""
    given = {
        k: v for k, v in settings.items() if v is not None and v is not False and k not in NOT_OURS
    }
    asked = settings.get("for_")
    if asked in METHODS:
        given.setdefault("method", METHODS[asked])
    elif asked:
        given["task"] = asked
    return given


def _read(path: str) -> bytes:
    from weighbridge.oom.explain import from_file
    from weighbridge.oom.text import MOST

    if path != "-":
        return from_file(path)
    if sys.stdin.isatty():
        click.echo("paste the message, then Ctrl-D", err=True)
    return sys.stdin.buffer.read(MOST + 1)


def _drawn(found: "Oom", form: str, lang: str, *, details: bool) -> str:
    import json

    from weighbridge.cli.options import columns, writable
    from weighbridge.wording import safe_json

    if form == "json":
        return safe_json(json.dumps(found.to_dict(), indent=2, ensure_ascii=False)) + "\n"
    if form == "quiet":
        return f"{found.cause or 'unknown'}\n"
    from weighbridge.oom.screen import view
    from weighbridge.render.terminal import terminal

    return writable(terminal(view(found, lang=lang, details=details), width=min(columns(), 80)))

"""weighbridge models [PATTERN]"""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from weighbridge.cli.options import FORMS, output_form

if TYPE_CHECKING:
    from weighbridge.catalogue import Entry


@click.command()
@click.argument("pattern", default="")
@click.option("--format", "form", type=click.Choice(FORMS), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
def models(pattern: str, form: str, as_json: bool, quiet: bool) -> None:
    """The built-in catalogue: models that are answered without a network.

    PATTERN is part of a name, of a Hub id or of a model type.

    \b
    weighbridge models qwen3
    weighbridge models --json | jq -r '.models[].name'
    """
    from weighbridge.catalogue import search
    from weighbridge.errors import NotFoundError

    found = search(pattern)
    if not found:
        raise NotFoundError(
            f"no model in the catalogue matches {pattern!r}; "
            "`weighbridge models` lists them all, and any Hub id can be given instead"
        )
    form = output_form(form, as_json=as_json, quiet=quiet)
    if form == "json":
        body = {"schema": "weighbridge.models/1", "models": [m.to_dict() for m in found]}
        click.echo(json.dumps(body, indent=2))
        return
    click.echo("\n".join(LINES[form](found)))


def _names(found: "Sequence[Entry]") -> Iterator[str]:
    return (m.name for m in found)


def _columns(found: "Sequence[Entry]") -> Iterator[str]:
    width = max(len(m.name) for m in found)
    for m in found:
        yield f"{m.name:<{width}}  {m.model_type:<18}  {m.repo_id}".rstrip()


def _markdown(found: "Sequence[Entry]") -> Iterator[str]:
    yield "| name | type | Hub id |"
    yield "| --- | --- | --- |"
    for m in found:
        yield f"| {m.name} | {m.model_type} | {m.repo_id} |"


LINES = {"quiet": _names, "human": _columns, "markdown": _markdown}

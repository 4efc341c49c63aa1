"""weighbridge gpus [PATTERN]"""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from weighbridge.cli.options import FORMS, output_form

if TYPE_CHECKING:
    from weighbridge.accelerators.parts import Figure, Instance, Part

SCHEMA = "weighbridge.gpus/1"
HEAD = ("name", "sold as", "driver shows", "a process can have", "basis")


@click.command()
@click.argument("pattern", default="")
@click.option("--format", "form", type=click.Choice(FORMS), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
def gpus(pattern: str, form: str, as_json: bool, quiet: bool) -> None:
    """The accelerator catalogue: what each is sold as, what its driver shows, what is left.

    PATTERN is part of a name, of a maker or of a cloud's machine. `read` figures were printed by a
    tool on such a part; `assumed` ones are intervals.

    \b
    weighbridge gpus 4090
    weighbridge gpus apple
    weighbridge gpus --json | jq -r '.gpus[].id'
    """
    from weighbridge.accelerators.names import search
    from weighbridge.errors import NotFoundError

    found, machines = search(pattern)
    if not found and not machines:
        raise NotFoundError(
            f"no accelerator matches {pattern!r}; `weighbridge gpus` lists them all, and "
            "--gpu-memory 24GiB takes a size"
        )
    form = output_form(form, as_json=as_json, quiet=quiet)
    if form == "json":
        body = {
            "schema": SCHEMA,
            "gpus": [p.to_dict() for p in found],
            "instances": [i.to_dict() for i in machines],
        }
        click.echo(json.dumps(body, indent=2, ensure_ascii=False))
        return
    click.echo("\n".join(LINES[form](found, machines)))


def row(part: "Part") -> tuple[str, str, str, str, str]:
    return (
        part.name,
        f"{part.marketed_gb} GB",
        _gib(part.total),
        _gib(part.visible),
        part.visible.basis,
    )


def _gib(figure: "Figure") -> str:
    low, high = (f"{nbytes / (1 << 30):.2f}" for nbytes in figure.bytes[::2])
    return f"{low} GiB" if low == high else f"{low}-{high} GiB"


def _ids(found: "Sequence[Part]", machines: "Sequence[Instance]") -> Iterator[str]:
    yield from (p.id for p in found)
    yield from (i.id for i in machines)


def _columns(found: "Sequence[Part]", machines: "Sequence[Instance]") -> Iterator[str]:
    rows = [row(p) for p in found]
    if rows:
        widths = [max(len(line[i]) for line in (HEAD, *rows)) for i in range(len(HEAD))]
        for line in (HEAD, *rows):
            yield "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip()
    if rows and machines:
        yield ""
    yield from (f"{i.name} ({i.provider}) is {_devices(i)}" for i in machines)


def _devices(machine: "Instance") -> str:
    from weighbridge.accelerators.parts import parts

    return f"{machine.count} x {parts()[machine.part].name}"


def _markdown(found: "Sequence[Part]", machines: "Sequence[Instance]") -> Iterator[str]:
    yield f"| {' | '.join(HEAD)} |"
    yield "| --- |" + " ---: |" * (len(HEAD) - 2) + " --- |"
    yield from (f"| {' | '.join(row(p))} |" for p in found)
    if machines:
        yield "\n| machine | provider | devices |\n| --- | --- | --- |"
        yield from (f"| {i.name} | {i.provider} | {_devices(i)} |" for i in machines)


LINES = {"quiet": _ids, "human": _columns, "markdown": _markdown}

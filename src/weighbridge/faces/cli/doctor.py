"""weighbridge doctor [FILE]"""

import sys
from typing import TYPE_CHECKING

import click

from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.options import (
    SCREENS,
    look_of,
    output_form,
    print_json,
    print_text,
    switch,
)

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.diagnosis import Diagnosis


@click.command()
@click.argument("file", required=False)
@switch("--torch", help="Ask torch as well: it takes memory of each GPU.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Default: that of LANG.")
@click.option("--format", "form", type=click.Choice(SCREENS), default="auto", show_default=True)
@switch("--json", "as_json", help="Same as --format json.")
@switch("-q", "--quiet", help="Free bytes of each accelerator, one a line.")
def doctor(
    file: str | None, torch: bool, lang: str | None, form: str, as_json: bool, quiet: bool
) -> None:
    """What is here: accelerators, host memory, versions, and what is missing.

    FILE (or - for stdin) is what nvidia-smi, rocm-smi, system_profiler or another such program
    printed on another machine: it tells what we understand of it.

    \b
    weighbridge doctor
    weighbridge doctor --json | jq '.accelerators[].usable_bytes'
    ssh node nvidia-smi -q -x | weighbridge doctor -
    """
    from weighbridge.machines.accelerators.diagnosis import diagnosis, of_output

    form = output_form(form, as_json=as_json, quiet=quiet)
    if file is not None and torch:
        raise click.UsageError(sentence("doctor.torch"))
    seen = diagnosis(torch=torch) if file is None else of_output(_read_text(file))
    if form == "json":
        print_json(seen.to_dict())
    elif form == "quiet":
        _print_free_bytes(seen)
    else:
        _print_screen(seen, form, lang)


def _read_text(name: str) -> str:
    """Return the text of the file `name`, or of stdin for "-". Raises NotFoundError for a missing
    file, BadFileError for an empty one."""
    from weighbridge.base.errors import BadFileError, NotFoundError
    from weighbridge.machines.accelerators.detected.outputs import LARGEST

    try:
        if name == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(LARGEST + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(sentence("doctor.no_file"), where=f"{name!r:.80}") from error
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    if not text.strip():
        raise BadFileError(sentence("doctor.empty", name=name))
    return text


def _print_free_bytes(diagnosis: "Diagnosis") -> None:
    for one in diagnosis.accelerators:
        if one.card is not None:
            click.echo((one.card.free or one.card.part.room).low)


def _print_screen(diagnosis: "Diagnosis", form: str, lang: str | None) -> None:
    from weighbridge.faces.render import draw
    from weighbridge.faces.view.doctor import screen

    look = look_of({"unit": None, "details": False, "explain": False, "lang": lang}, form)
    text = draw(screen(diagnosis, look.lang), form, look)
    print_text(text, look)

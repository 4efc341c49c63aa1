"""weighbridge gpus [PATTERN]"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from weighbridge.faces.cli.options import (
    SCREENS,
    output_form,
    print_json,
    print_text,
    switch,
)
from weighbridge.machines.accelerators.listing import SORTS, TYPES, USES

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Instance, Part


def _add_dtype_switches(command: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(TYPES):
        option = switch(f"--{name}", help=f"Only those with units for {name}.")
        command = option(command)
    return command


@click.command()
@click.argument("pattern", default="")
@_add_dtype_switches
@switch("--nvlink", help="Only those with NVLink between cards.")
@click.option("--min-memory", metavar="SIZE", help="Only those sold with so much: 24GiB.")
@click.option(
    "--vendor", metavar="NAME", help="Only those of a maker: nvidia, amd, apple, intel..."
)
@click.option("--use", type=click.Choice(USES), help="Only those of computers at home, or at work.")
@click.option("--sort", type=click.Choice(SORTS), help="Default: the newest first.")
@switch("--details", help="Both ends of each figure, and its basis.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Default: that of LANG.")
@click.option("--format", "form", type=click.Choice(SCREENS), default="auto", show_default=True)
@switch("--json", "as_json", help="Same as --format json.")
@switch("-q", "--quiet", help="Ids only.")
def gpus(pattern: str, form: str, as_json: bool, quiet: bool, **chosen: Any) -> None:
    """The accelerator catalogue: memory, what each computes in, and how cards are linked.

    PATTERN is part of a name, of a maker or of a cloud's machine. `usable` is what a process surely
    has. With --details `read` figures were printed by a tool on such a part; `assumed` ones are
    intervals.

    \b
    weighbridge gpus 4090
    weighbridge gpus --bf16 --min-memory 24GiB --sort memory
    weighbridge gpus --fp8 --nvlink --vendor nvidia
    weighbridge gpus --json | jq -r '.gpus[].id'
    """
    from weighbridge.machines.accelerators import listing

    form = output_form(form, as_json=as_json, quiet=quiet)
    cards, machines = listing.matching(pattern, chosen)
    if form == "json":
        print_json(listing.to_dict(cards, machines))
    elif form == "quiet":
        click.echo("\n".join([*(p.id for p in cards), *(i.id for i in machines)]))
    else:
        _print_cards(cards, machines, form, chosen)


def _print_cards(
    cards: "Sequence[Part]", machines: "Sequence[Instance]", form: str, chosen: Mapping[str, Any]
) -> None:
    from weighbridge.faces.cli.options import look_of
    from weighbridge.faces.render import draw
    from weighbridge.faces.view.lists import gpus as gpus_screen

    look = look_of({"unit": None, "details": False, "explain": False, "lang": chosen["lang"]}, form)
    page = gpus_screen(cards, machines, look.lang, full=chosen["details"] or form != "human")
    print_text(draw(page, form, look), look)

"""Write the generated parts of docs/, or with --check fail where they are out of date.

docs/commands.md      --help of every command
docs/architectures.md model types in our tables, and the classes of each
docs/formats.md       formats of weights, and what each leaves alone
docs/models.md        the built-in catalogue
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from weighbridge import catalogue
from weighbridge.arch.config import Config
from weighbridge.arch.families import blueprint, family
from weighbridge.arch.table import FAMILIES
from weighbridge.cli.menu import COMMANDS, menu
from weighbridge.quantization.schemes import NAMES, scheme
from weighbridge.units import human_count

DOCS = Path(__file__).parent.parent / "docs"
NOTE = "<!-- written by tools/docs.py -->\n"


def commands() -> Iterator[str]:
    yield "# Commands\n"
    yield NOTE
    context = click.Context(menu, info_name="weighbridge", max_content_width=90)
    for name in ("", *COMMANDS):
        command = menu if not name else menu.get_command(context, name)
        inner = context if not name else click.Context(command, info_name=name, parent=context)
        yield f"## weighbridge {name}".rstrip() + "\n"
        yield "```\n" + command.get_help(inner) + "\n```\n"


def architectures() -> Iterator[str]:
    yield "# Architectures\n"
    yield NOTE
    yield f"{len(FAMILIES)} model types are read from their config alone, without torch.\n"
    yield "| model_type | default class | classes with a head |\n| --- | --- | --- |"
    for model_type in sorted(FAMILIES):
        kind = family(model_type)
        heads = ", ".join(f"`{suffix}`" for suffix in (*kind.heads, *kind.classes))
        yield f"| {model_type} | {kind.cls} | {heads} |"


def formats() -> Iterator[str]:
    yield "# Formats of weights\n"
    yield NOTE
    yield "| format | left alone | source |\n| --- | --- | --- |"
    for name in NAMES:
        found = scheme(name)
        yield f"| {name} | {found.left} | {found.source} |".replace("\n", " ")


def models() -> Iterator[str]:
    yield "# The built-in catalogue\n"
    yield NOTE
    yield "| name | parameters | model_type | Hub id |\n| --- | ---: | --- | --- |"
    for entry in catalogue.search(""):
        count = blueprint(Config(entry.config)).parameters
        yield f"| {entry.name} | {human_count(count)} | {entry.model_type} | {entry.repo_id} |"


PAGES = {
    "commands.md": commands,
    "architectures.md": architectures,
    "formats.md": formats,
    "models.md": models,
}


def main(arguments: list[str]) -> int:
    stale = []
    for name, write in PAGES.items():
        text = "\n".join(write()).rstrip() + "\n"
        path = DOCS / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text)
    if stale:
        print("docs:", "out of date:" if "--check" in arguments else "wrote", ", ".join(stale))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""weighbridge check [FILE...]: the run files of a repository against their cards, for CI."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.errors import NotFoundError
from weighbridge.base.sentences import sentence
from weighbridge.faces.cli.options import distrusting_source_options, source_of, writable

if TYPE_CHECKING:
    from weighbridge.files.runfiles.checking import FileCheck

FORMS = ("human", "json", "markdown", "sarif")
MOST_NAMED = 5  # most files without a rule that are listed
SIGNS = {"yes": "fits", "no": "does not fit", "unknown": "cannot say", "unread": "not read"}


@click.command()
@click.argument("files", metavar="[FILE...]", nargs=-1, type=click.Path())
@click.option(
    "--config",
    "rules",
    metavar="FILE",
    default="weighbridge.toml",
    show_default=True,
    type=click.Path(),
    help="The rules: which files, which cards.",
)
@click.option("--format", "form", type=click.Choice(FORMS), default="human", show_default=True)
@distrusting_source_options
def check(files: tuple[str, ...], rules: str, form: str, **settings: Any) -> int:
    """Weigh the run files that weighbridge.toml names, or those of them that are given.

    Ends with 0 where all pass; 1 where one does not fit, 4 where we cannot say and 2 where one
    cannot be read, if its rule fails on that (fail_on: of itself on the first and the last).

    \b
    weighbridge check                                   every file of weighbridge.toml
    weighbridge check -- configs/a.yaml configs/b.yaml  those that a commit changes
    weighbridge check --format sarif > weighbridge.sarif
    """
    from weighbridge.faces import api

    path = Path(rules)
    if not path.is_file():
        raise NotFoundError(sentence("check.no_file"), where=rules)
    checked = api.check(path, files, **source_of(settings))
    click.echo(writable(_format(checked, form)))
    return checked.code


def _format(checked: "FileCheck", form: str) -> str:
    from weighbridge.faces.render.data import json_text
    from weighbridge.files.runfiles.checking import sarif

    if form == "json":
        return json_text(checked.to_dict()).rstrip()
    if form == "sarif":
        return json_text(sarif(checked)).rstrip()
    return _table(checked) if form == "markdown" else _plain_text(checked)


def _plain_text(checked: "FileCheck") -> str:
    from weighbridge.base.wording import printable

    lines = [
        printable(
            f"{file.name}: {SIGNS[file.result]}: {file.reason}"
            if file.result != "yes"
            else f"{file.name}: fits"
        )
        for file in checked.files
    ]
    return "\n".join((*lines, *_uncovered_line(checked), _count_line(checked)))


def _table(checked: "FileCheck") -> str:
    """Return the result of the check as a short Markdown comment for a pull request."""
    from weighbridge.base.wording import safe_markdown

    rows = [
        f"| {safe_markdown(file.name)} | {SIGNS[file.result]} | {safe_markdown(file.reason)} |"
        for file in checked.files
        if file.result != "yes"
    ]
    head = ["| file | result | why |", "| --- | --- | --- |"]
    table = ["", *head, *rows] if rows else []
    notes = [part for line in _uncovered_line(checked) for part in ("", safe_markdown(line))]
    return "\n".join((f"**weighbridge**: {_count_line(checked)}", *table, *notes))


def _uncovered_line(checked: "FileCheck") -> Iterator[str]:
    """Yield one line that lists the files the user named but no rule matches; nothing if there are
    none."""
    from weighbridge.base.wording import printable

    if checked.uncovered:
        names = ", ".join(checked.uncovered[:MOST_NAMED])
        more = len(checked.uncovered) - MOST_NAMED
        also = f" and {more} more" if more > 0 else ""
        yield printable(f"not checked, as no rule's files match: {names}{also}")


def _count_line(checked: "FileCheck") -> str:
    failed = sum(one.failed for one in checked.files)
    return f"{len(checked.files)} files checked, {failed} failed"

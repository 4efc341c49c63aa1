"""--chart FILE: the answer as a picture, for every command that has one."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from weighbridge.cli.files import writable, write

if TYPE_CHECKING:
    from weighbridge.charts.figure import Figure
    from weighbridge.report import Report

F = TypeVar("F", bound=Callable[..., Any])


def chart_option(command: F) -> F:
    option = click.option(
        "--chart",
        metavar="FILE",
        type=click.Path(),
        help="Draw the answer too: FILE ends in .svg, .png or .html.",
    )
    return option(command)


def chart_file(settings: dict[str, Any]) -> str | None:
    """The file that was named, and can be written: said before the work."""
    path: str | None = settings.pop("chart")
    if path is not None:
        from weighbridge.charts import FORMS, ready

        writable("--chart", path, FORMS)
        ready(_form(path))
    return path


def draw_reports(
    path: str | None, reports: "Sequence[Report]", *, unit: str | None, lang: str = "en"
) -> None:
    """One report by device and phase; several beside one another."""
    if path is not None:
        from weighbridge.charts.sides import sides

        draw(path, sides(reports, unit=unit, lang=lang))


def draw(path: str, figure: "Figure") -> None:
    from weighbridge.charts import drawn

    write(path, drawn(figure, _form(path)))


def _form(path: str) -> str:
    return os.path.splitext(path)[1].lower()

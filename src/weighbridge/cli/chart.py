"""--chart FILE: the answer as a picture, for every command that has one."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weighbridge.charts import FORMS, drawn, ready
from weighbridge.charts.sides import sides
from weighbridge.cli.files import writable, write

if TYPE_CHECKING:
    from weighbridge.charts.figure import Figure
    from weighbridge.report import Report


def checked(path: str) -> str:
    """The file that was named. Raises before the work where it cannot be written, or drawn."""
    writable("--chart", path, FORMS)
    ready(_form(path))
    return os.path.abspath(path)  # a script that is traced may go to another folder


def reports(path: str, found: "Sequence[Report]", *, unit: str | None, lang: str) -> None:
    """One report by device and phase; several beside one another."""
    draw(path, sides(found, unit=unit, lang=lang))


def draw(path: str, figure: "Figure") -> None:
    write(path, drawn(figure, _form(path)))


def _form(path: str) -> str:
    return os.path.splitext(path)[1].lower()

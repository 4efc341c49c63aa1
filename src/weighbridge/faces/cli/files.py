"""Output files other than stdout: checked before the work, written completely or not at all."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from weighbridge.base.sentences import about, sentence
from weighbridge.base.wording import either
from weighbridge.faces.charts import FORMS, drawn, ready

if TYPE_CHECKING:
    from weighbridge.faces.charts.figure import Figure
    from weighbridge.memory.report import Report


DEVICES = "/dev/"  # holds links to files that a process has open


def writable(flag: str, path: str | None, forms: Sequence[str] = ()) -> None:
    """Check that the file `path` of the option `flag` can be written and ends in one of `forms`, if
    there are any; raise UsageError if not."""
    if path is None:
        return
    if forms and os.path.splitext(path)[1].lower() not in forms:
        raise click.UsageError(about(f"{flag} {path}", sentence("file.ends", forms=either(forms))))
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise click.UsageError(about(f"{flag} {path}", sentence("file.no_folder", folder=folder)))
    if os.path.isdir(path):
        raise click.UsageError(sentence("file.is_folder", flag=flag, path=path))
    if (target := led_out(path)) is not None:
        raise click.UsageError(sentence("file.link", flag=flag, path=path, target=target))
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise click.UsageError(sentence("file.unwritable", flag=flag, path=path))


def led_out(path: str) -> str | None:
    """Return the link's target if links lead `path` out of the current folder, or out of its own
    folder if that lies elsewhere; else None."""
    place, here = os.path.abspath(path), os.path.realpath(os.curdir)
    inside = os.path.commonpath((place, os.path.abspath(os.curdir))) == os.path.abspath(os.curdir)
    folder = here if inside else os.path.realpath(os.path.dirname(place))
    target = os.path.realpath(place)
    stays = os.path.commonpath((target, folder)) == folder
    return None if stays or place.startswith(DEVICES) else target


def write(path: str, content: bytes) -> None:
    """Write a file completely, or leave the old one as it is. A device or a pipe is written
    directly."""
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/stdout, a pipe
        with open(path, "wb") as file:
            file.write(content)
        return
    target = os.path.realpath(path)  # a link stays a link
    beside = f"{target}.{os.getpid()}.part"
    try:
        with open(beside, "wb") as file:
            file.write(content)
        if os.path.exists(target):
            os.chmod(beside, os.stat(target).st_mode & 0o777)
        os.replace(beside, target)
    except OSError as error:
        if os.path.exists(beside):
            os.remove(beside)
        raise OSError(error.errno, error.strerror, path) from error


# --chart FILE: the answer as a picture, for every command that has one


def checked(path: str) -> str:
    """Return the absolute path of a chart file. Raises an error if no chart can be written
    there."""
    writable("--chart", path, FORMS)
    ready(_suffix(path))
    return os.path.abspath(path)  # a traced script may change the folder


def reports(path: str, reports: "Sequence[Report]", *, unit: str | None, lang: str) -> None:
    """Draw reports into a chart file by device and phase; several side by side. `unit`: the unit of
    all sizes, None to choose one."""
    from weighbridge.faces.charts.sides import sides

    draw(path, sides(reports, unit=unit, lang=lang))


def draw(path: str, figure: "Figure") -> None:
    write(path, drawn(figure, _suffix(path)))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()

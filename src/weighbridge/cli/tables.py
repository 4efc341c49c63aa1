"""Ranks as they are told: on a screen, as JSON, or written to a file."""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from weighbridge.cli.options import writable
from weighbridge.errors import UsageError
from weighbridge.render.data import json_text

if TYPE_CHECKING:
    from weighbridge.render import RenderOptions
    from weighbridge.report.fit import Ranking

Rows = Sequence[Mapping[str, Any]]


def told(ranking: "Ranking", form: str, look: "RenderOptions", output: str | None) -> None:
    """The rank to stdout, or to a file."""
    if output is not None:
        written(ranking, output)
        click.echo(f"{output}: {len(ranking.rows):,} rows", err=True)
    elif form == "json":
        click.echo(as_json(ranking), nl=False)
    elif form == "quiet":
        key = "name" if ranking.of == "models" else "id"
        click.echo("".join(f"{row[key]}\n" for row in ranking.fitting), nl=False)
    else:
        from weighbridge.render import draw
        from weighbridge.view.rank import screen

        page = screen(ranking, lang=look.lang, unit=look.unit, full=form != "human" or look.details)
        click.echo(writable(draw(page, form, look)), nl=False, color=look.color)


def as_json(ranking: "Ranking") -> str:
    return json_text(ranking.to_dict())


def written(ranking: "Ranking", path: str) -> None:
    """Raises UsageError for an ending that is not known."""
    end = os.path.splitext(path)[1].lower()
    if end not in WRITERS:
        raise UsageError(f"-o {path!r:.80} is to end with one of {', '.join(WRITERS)}")
    WRITERS[end](ranking, path)


def _json(ranking: "Ranking", path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(as_json(ranking))


def _csv(ranking: "Ranking", path: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(ranking.rows[0]))
        writer.writeheader()
        writer.writerows(ranking.rows)


def _parquet(ranking: "Ranking", path: str) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise UsageError(
            f"-o {path!r:.80} needs pyarrow: pip install 'weighbridge[parquet]', or write a .csv"
        ) from None
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in ranking.rows]), path)


WRITERS: Mapping[str, Callable[["Ranking", str], None]] = {
    ".csv": _csv,
    ".json": _json,
    ".parquet": _parquet,
}

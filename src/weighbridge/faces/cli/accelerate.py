"""The command weighbridge estimate-memory, with the arguments of `accelerate estimate-memory`.

It prints the four columns of accelerate 1.15 (commands/estimate.py): the bytes of every tensor of
the class, buffers included, divided by 1, 2, 4 or 8. Four things differ, where accelerate is wrong:
the class that the config names is counted (lm_head too), GiB are labelled GiB, mixed-precision
training is the sum of what exists at the same time (16 bytes per parameter), and local folders are
read.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.units import human
from weighbridge.base.wording import printable
from weighbridge.base.words import words_in
from weighbridge.faces.cli.options import (
    in_signs,
    language,
    language_option,
    source_options,
    switch,
    talk,
    warn,
    writable,
)
from weighbridge.memory.components.weights import DIVISIONS
from weighbridge.memory.report import Report, Row

if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared
    from weighbridge.memory.report import Report

DTYPES = ("float32", "float16", "int8", "int4")
OLDER = "4.57"  # the last transformers 4
HEAD = ("dtype", "Largest Layer", "Total Size", "Training using Adam")


class ManyValues(click.Command):
    """A command that takes `--dtypes float32 float16`, as argparse's nargs="+" does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        values: int | None = None  # number of values of the --dtypes being read
        for arg in args:
            if arg == "--dtypes":
                values = 0
            elif values is not None and not arg.startswith("-") and (arg in DTYPES or not values):
                spread += ["--dtypes", arg]
                values += 1
            else:
                spread.append(arg)
                values = None
        return super().parse_args(ctx, [*spread, "--dtypes"] if values == 0 else spread)


@click.command(name="estimate-memory", cls=ManyValues)
@click.argument("model_name")
@click.option("--library_name", "--library-name", type=click.Choice(["timm", "transformers"]))
@click.option("--dtypes", multiple=True, type=click.Choice(DTYPES), default=DTYPES)
@switch("--trust_remote_code", "remote", hidden=True)
@switch("--base-model", help="The headless class, which accelerate counts.")
@click.option(
    "--engine-version", metavar="V", help="Version of transformers that builds it (4.40)."
)
@language_option
@source_options
def estimate_memory(
    model_name: str,
    library_name: str | None,
    dtypes: tuple[str, ...],
    lang: str | None,
    **settings: Any,
) -> None:
    """accelerate's own table for MODEL_NAME: dtype, largest layer, total, Adam training.

    \b
    weighbridge estimate-memory bert-base-cased
    weighbridge estimate-memory Qwen/Qwen3-8B --library_name transformers --dtypes float16 int4
    """
    from weighbridge.faces import api
    from weighbridge.faces.cli.progress import progress

    settings["trust_remote_code"] |= settings.pop("remote")
    if library_name == "timm" and not model_name.startswith("timm/"):
        model_name = f"timm/{model_name}"
    asked = {name: settings.pop(name) for name in ("base_model", "engine_version")}
    with progress(model_name) as callback:
        prepared = api.prepare(model_name, progress=callback, **settings)
    report = prepared.load(**asked)
    row = next(row for row in report.table if row.dtype == dtypes[0])
    size, adam = total(report, dtypes[0]), row.training_adam_bytes
    lang = in_signs(lang or language())
    first = answer(report.model.reference, dtypes[0], size, adam, lang=lang)
    talk(writable(first))  # stdout has only the table, which scripts read
    click.echo(writable(table(report, dtypes)))
    warn(report, lang)
    headless = None if asked["base_model"] else _note_without_head(prepared, report, asked)
    if headless:
        talk(f"note: {headless}")


def _note_without_head(prepared: "Prepared", report: "Report", asked: Mapping[str, Any]) -> str:
    """Return a note with the float32 size that accelerate prints, if the class without a head has
    fewer parameters; else ""."""

    base = prepared.load(**{**asked, "base_model": True})
    if base.model.parameters == report.model.parameters:
        return ""
    nbytes = total(base, "float32")
    older = total(prepared.load(base_model=True, engine_version=OLDER), "float32")
    beside = "" if older == nbytes else f" ({older} with transformers 4)"
    return (
        f"accelerate counts {base.model.architecture}, without its head: {nbytes} in float32"
        f"{beside}; --base-model shows that table"
    )


def answer(model: str, dtype: str, size: str, training: int | None, *, lang: str) -> str:
    """Return a sentence with a model's size in `dtype`, and the memory of training it with Adam:
    `training` bytes, left out if None."""
    words, name = words_in(lang), printable(model)
    if training is None:
        return words("estimate.answer.load", model=name, dtype=dtype, size=size)
    needed = human(training)
    return words("estimate.answer", model=name, dtype=dtype, size=size, training=needed)


# The table in accelerate's columns, and its first row as a sentence


def table(report: Report, dtypes: Iterable[str]) -> str:
    """Return the printed table, one row per dtype. Total Size includes all buffers, also those no
    file holds; training takes 16 bytes per parameter."""
    rows = []
    for name in dtypes:
        row = _row(report, name)
        training = row.training_adam_bytes
        rows.append(
            (
                name,
                human(row.largest_layer_bytes),
                total(report, name),
                "N/A" if training is None else human(training),
            )
        )
    title = f"Memory Usage for loading `{report.model.reference}`"
    return _box_table(title, [HEAD, *rows])


def total(report: Report, dtype: str) -> str:
    """Return the cell "Total Size" of a dtype, as text with a unit. It includes buffers that no
    file holds, which accelerate divides like weights."""
    volatile: int = report.derived["volatile_buffer_bytes"]
    divided = DIVISIONS[dtype].size(volatile // FLOAT32.size(1))
    return human(_row(report, dtype).total_bytes + divided)


def _row(report: Report, dtype: str) -> Row:
    return next(row for row in report.table if row.dtype == dtype)


def _box_table(title: str, rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    widths[-1] += max(0, len(title) + 2 - sum(widths) - len(widths) + 1)
    inner = sum(widths) + len(widths) - 1

    def rule(left: str, cross: str, right: str) -> str:
        return left + cross.join("─" * w for w in widths) + right

    def line(cells: tuple[str, ...]) -> str:
        return "│" + "│".join(c.center(w) for c, w in zip(cells, widths, strict=True)) + "│"

    return "\n".join(
        [
            rule("┌", "─", "┐"),
            "│" + title.center(inner) + "│",
            rule("├", "┬", "┤"),
            line(rows[0]),
            rule("├", "┼", "┤"),
            *(line(row) for row in rows[1:]),
            rule("└", "┴", "┘"),
        ]
    )

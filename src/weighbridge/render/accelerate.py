"""The table of `accelerate estimate-memory`, in its own columns."""

from collections.abc import Iterable

from weighbridge.components.weights import DIVISIONS
from weighbridge.dtypes import FLOAT32
from weighbridge.report import Report, Row
from weighbridge.units import human

HEAD = ("dtype", "Largest Layer", "Total Size", "Training using Adam")


def table(report: Report, dtypes: Iterable[str]) -> str:
    """Total size counts every buffer, as accelerate's does; training is 16 bytes a parameter."""
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
    return _draw(title, [HEAD, *rows])


def total(report: Report, dtype: str) -> str:
    """The third column, in one dtype. accelerate divides what no file holds like all else."""
    volatile: int = report.derived["volatile_buffer_bytes"]
    divided = DIVISIONS[dtype].size(volatile // FLOAT32.size(1))
    return human(_row(report, dtype).total_bytes + divided)


def _row(report: Report, dtype: str) -> Row:
    return next(row for row in report.table if row.dtype == dtype)


def _draw(title: str, rows: list[tuple[str, ...]]) -> str:
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

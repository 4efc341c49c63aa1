"""Predictions beside measurements on a screen: a row for each engine and quantity."""

from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.view.messages import say
from weighbridge.view.records import Column, Grid, Screen, row

HEADS = ("engine", "quantity", "level", "figures", "median", "p95", "worst", "inside")
WORDS = 3  # columns of words, before those of numbers


def screen(rows: Sequence[Mapping[str, Any]], lang: str = "en") -> Screen:
    """`rows` as the JSON of `weighbridge accuracy` has them."""
    words = say(lang, page=True)  # the command line prints it as text
    columns = tuple(
        Column(words(f"accuracy.{head}"), right=at >= WORDS) for at, head in enumerate(HEADS)
    )
    figures = sum(r["n"] for r in rows)
    return Screen(
        title=words("accuracy.title", count=f"{figures:,}"),
        sections=((Grid(columns, tuple(row(*_cells(r)) for r in rows)),),),
        footer=(words("accuracy.footer"),),
        lang=lang,
    )


def _cells(r: Mapping[str, Any]) -> tuple[str, ...]:
    where = r["engine"] if r["source"] is None else f"{r['source']}: {r['engine']}"
    errors = (f"{100 * r['signed_median']:+.2f} %", f"{100 * r['p95']:.2f} %")
    worst, inside = f"{100 * r['max']:+.2f} %", f"{100 * r['inside']:.0f} %"
    return (where, r["quantity"], r["level"], f"{r['n']:,}", *errors, worst, inside)

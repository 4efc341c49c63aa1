"""A figure as one page that needs nothing else: the picture, and its data as a table."""

from weighbridge.charts.canvas import clean
from weighbridge.charts.figure import Figure, FigureTable
from weighbridge.charts.palette import PAINTS
from weighbridge.charts.svg import svg

SHEET = """
:root{{color-scheme:light dark}}
body{{margin:1.5rem auto;max-width:860px;padding:0 1rem;background:{page.light};color:{ink.light};
font:14px/1.5 system-ui,sans-serif}}
div{{overflow-x:auto;margin-top:1.5rem}}
table{{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}}
caption{{text-align:left;padding-bottom:.4rem;color:{faint.light}}}
th,td{{padding:.25rem .55rem .25rem 0;text-align:right;border-bottom:1px solid {grid.light};
vertical-align:bottom}}
td{{white-space:nowrap}}
.w{{text-align:left}}
@media (prefers-color-scheme:dark){{body{{background:{page.dark};color:{ink.dark}}}
caption{{color:{faint.dark}}}th,td{{border-color:{grid.dark}}}}}
"""


def html(figure: Figure) -> str:
    return (
        f'<!doctype html>\n<html lang="{figure.lang}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{clean(figure.title)}</title>\n<style>{SHEET.format(**PAINTS)}</style>\n</head>\n"
        f'<body>\n<figure style="margin:0">\n{svg(figure)}</figure>\n'
        f'<div tabindex="0">{table(figure.table, _caption(figure))}</div>\n</body>\n</html>\n'
    )


def part(figure: Figure) -> str:
    """What a notebook shows below a screen: the picture and the table, to be opened."""
    return (
        f"<details><summary>{clean(figure.title)}</summary>\n{svg(figure)}"
        f"{table(figure.table, _caption(figure))}</details>"
    )


def _caption(figure: Figure) -> str:
    return ". ".join(filter(None, (figure.title, figure.table.caption)))


def table(data: FigureTable, caption: str) -> str:
    head = "".join(_cell("th", i, c, data.words, ' scope="col"') for i, c in enumerate(data.head))
    body = "\n".join(
        "<tr>" + "".join(_cell("td", i, c, data.words) for i, c in enumerate(row)) + "</tr>"
        for row in data.rows
    )
    return (
        f"<table>\n<caption>{clean(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )


def _cell(name: str, index: int, words: str, leading: int, more: str = "") -> str:
    side = ' class="w"' if index < leading else ""
    return f"<{name}{side}{more}>{clean(words)}</{name}>"

"""Charts: reports, timelines and records in; SVG, HTML or PNG out. The modules are imported only
when a chart is drawn.

    reports.py sides.py fits.py tapes.py quality.py layouts.py    data -> Figure (figure.py)
    svg.py (bars.py, plots.py on canvas.py)                       Figure -> SVG, a page, a bitmap
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weighbridge.faces.charts.figure import Figure
    from weighbridge.memory.report import Report

FORMS = (".svg", ".png", ".html")


def notebook(report: "Report") -> str:
    """Return HTML with a report's stacked bars and their table, folded up, to show below its
    screen."""
    from weighbridge.faces.charts.reports import bars
    from weighbridge.faces.charts.svg import part

    return part(bars(report))


def ready(form: str) -> None:
    """Check that a file with the ending `form` can be drawn on this machine; raise UsageError if
    not."""
    if form == ".png":
        from weighbridge.faces.charts.svg import ready as png_ready

        png_ready()


def drawn(figure: "Figure", form: str) -> bytes:
    """Return the content of a file with the ending `form`, one of FORMS."""
    if form == ".png":
        from weighbridge.faces.charts.svg import png

        return png(figure)
    if form == ".html":
        from weighbridge.faces.charts.svg import html

        return html(figure).encode()
    from weighbridge.faces.charts.svg import svg

    return svg(figure).encode()

"""The forms that an answer has by itself: `print(report)`, and what a notebook shows of it.

Records of answers import no renderer: they find these functions by name
(`weighbridge.report.Shown`).
"""

from weighbridge.render import draw, render
from weighbridge.report import Report
from weighbridge.report.fit import Fit


def text(answer: Report | Fit) -> str:
    """Draw an answer as the command line prints it."""
    return render(answer, "human")


def markdown(answer: Report | Fit) -> str:
    """Draw an answer as Markdown, without the lines that tell an issue's readers the question."""
    if isinstance(answer, Fit):
        return render(answer, "markdown")
    from weighbridge.view import screen

    return draw(screen(answer)._replace(brief=()), "markdown")


def html(answer: Report | Fit) -> str:
    """Draw an answer of `fit` as a page, a report as a part of one with its charts."""
    if isinstance(answer, Fit):
        return render(answer, "html")
    from weighbridge.charts import notebook
    from weighbridge.render.html import part
    from weighbridge.view import screen

    return part(screen(answer)) + notebook(answer)

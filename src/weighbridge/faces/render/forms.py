"""The forms that an answer has by itself: `print(report)`, and what a notebook shows of it.

Records of answers import no renderer: they find these functions by name
(`weighbridge.memory.report.Shown`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from weighbridge.faces.render import draw, screen_of
from weighbridge.faces.view.records import RenderOptions
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Fit

if TYPE_CHECKING:
    from weighbridge.faces.view.records import Screen
    from weighbridge.files.oom import Oom
    from weighbridge.files.runfiles.weighing import WeighedFile

    Answer = Report | Fit | Oom | WeighedFile


def text(answer: "Answer") -> str:
    """Draw an answer as the command line prints it."""
    return draw(_screen(answer), "human")


def markdown(answer: "Answer") -> str:
    """Draw an answer as Markdown, a report without the lines that tell an issue's readers the
    question."""
    screen = _screen(answer)
    return draw(screen._replace(brief=()) if isinstance(answer, Report) else screen, "markdown")


def html(answer: "Answer") -> str:
    """Draw a report or a message as part of a page, a report with its charts; others as a page."""
    if isinstance(answer, Fit) or hasattr(answer, "runs"):
        return draw(_screen(answer), "html")
    from weighbridge.faces.charts import notebook
    from weighbridge.faces.render.html import part

    return part(_screen(answer)) + (notebook(answer) if isinstance(answer, Report) else "")


def _screen(answer: "Answer") -> "Screen":
    """Return the screen of an answer; those about texts are imported with their own."""
    look = RenderOptions()
    if isinstance(answer, Report | Fit):
        return screen_of(answer, look)
    name = "runfile" if hasattr(answer, "runs") else "oom"
    screen: Screen = import_module(f"weighbridge.faces.texts.{name}").view(answer, look)
    return screen

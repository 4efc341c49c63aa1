"""The forms of an answer in Python: `print(report)`, and its display in a notebook.

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
    """Return an answer as the text that the command line prints."""
    return draw(_screen(answer), "human")


def markdown(answer: "Answer") -> str:
    """Return an answer as Markdown, a report with all blocks of its screen."""
    screen = _screen(answer)
    return draw(screen._replace(brief=()) if isinstance(answer, Report) else screen, "markdown")


def html(answer: "Answer") -> str:
    """Return a report (with charts) or an out-of-memory message as a part of an HTML page; other
    answers as a complete page."""
    if isinstance(answer, Fit) or hasattr(answer, "runs"):
        return draw(_screen(answer), "html")
    from weighbridge.faces.charts import notebook
    from weighbridge.faces.render.html import part

    return part(_screen(answer)) + (notebook(answer) if isinstance(answer, Report) else "")


def _screen(answer: "Answer") -> "Screen":
    """Return the screen of an answer. The module for a screen of a text is imported only then."""
    look = RenderOptions()
    if isinstance(answer, Report | Fit):
        return screen_of(answer, look)
    name = "runfile" if hasattr(answer, "runs") else "oom"
    screen: Screen = import_module(f"weighbridge.faces.texts.{name}").view(answer, look)
    return screen

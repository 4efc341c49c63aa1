"""Screens for tests: what a person sees, and all that there is to see."""

from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions

WIDE = 400  # columns in which no sentence is folded


def full(report):
    """Everything that `--details` and `--explain` tell, one sentence a line."""
    return render(report, "human", RenderOptions(details=True, explain=True, width=WIDE))


def first(report, **look):
    """The screen at 80 columns."""
    return render(report, "human", RenderOptions(**look))

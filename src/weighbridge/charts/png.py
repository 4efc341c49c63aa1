"""A figure as PNG, by resvg (pypi.org/project/resvg-py): a wheel that needs nothing of the system
but a font."""

from importlib import import_module
from importlib.util import find_spec

from weighbridge.charts.figure import Figure
from weighbridge.charts.svg import svg
from weighbridge.errors import UsageError

SHARP = 2.0  # pixels of the file for one of the picture
LETTER = '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24">{}</svg>'


def ready() -> None:
    """Raises UsageError where the library or every font is lacking."""
    if find_spec("resvg_py") is None:
        raise UsageError("PNG needs resvg-py: pip install 'weighbridge[png]', or name a .svg file")
    if _drawn(LETTER.format('<text x="2" y="20" font-size="20">M</text>')) == _drawn(
        LETTER.format("")
    ):
        raise UsageError(
            "no font is installed here, and a PNG without words is of no use: install one "
            "(apt-get install fonts-dejavu), or name a .svg file"
        )


def png(figure: Figure) -> bytes:
    """The light picture."""
    ready()
    return _drawn(svg(figure), zoom=SHARP)


def _drawn(picture: str, zoom: float = 1.0) -> bytes:
    made = import_module("resvg_py").svg_to_bytes(svg_string=picture, zoom=zoom)
    return bytes(made)

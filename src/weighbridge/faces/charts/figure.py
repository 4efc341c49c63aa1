"""Charts as frozen records: builders make them, svg.py draws them.

Values are bytes on an axis of memory. Records hold no pixels and no colours: a series has a number,
which palette.py turns into a colour and a pattern.
"""

from weighbridge.base.records import NamedTuple

OTHER = 6  # style of the sum of other parts, grey
MOST = 6  # most series with a separate style


class Series(NamedTuple):
    """One kind of segment, area, line or dot: its name, and the number of its style."""

    name: str
    style: int


class Tick(NamedTuple):
    value: float
    text: str


class Axis(NamedTuple):
    """An axis of a plot: the range that is drawn, with its ticks. `log`: equal ratios have equal
    lengths."""

    label: str
    low: float
    high: float
    ticks: tuple[Tick, ...]
    log: bool = False


class Limit(NamedTuple):
    """The memory that a process can have: `low` bytes for sure, `high` at best."""

    low: float
    high: float
    label: str


class FigureSegment(NamedTuple):
    """A part of a bar. `told` is text to write into the segment if there is room."""

    series: int
    value: float
    told: str = ""


class FigureBar(NamedTuple):
    """One row of a bar chart: segments in a line, and the interval of their sum."""

    label: str
    segments: tuple[FigureSegment, ...]
    low: float
    high: float
    told: str  # the sum of the segments as text
    strong: bool = False  # whether it is the fullest bar
    mark: str = ""  # a verdict: yes, no or unknown


class BarGroup(NamedTuple):
    """Rows of bars that share a device, and the memory of that device."""

    label: str
    bars: tuple[FigureBar, ...]
    limit: Limit | None = None


class Bars(NamedTuple):
    """Horizontal bars, stacked if they have several segments. `more`: a note on the bars that are
    not drawn."""

    groups: tuple[BarGroup, ...]
    series: tuple[Series, ...]
    axis: Axis
    more: str = ""


class AxisBand(NamedTuple):
    """A named stretch of the x axis."""

    label: str
    low: float
    high: float


class Mark(NamedTuple):
    """A point with a label."""

    x: float
    y: float
    label: str


class Areas(NamedTuple):
    """Stacked layers along x, in steps that last until the next x; and a line over them."""

    label: str
    xs: tuple[float, ...]
    layers: tuple[tuple[float, ...], ...]
    series: tuple[Series, ...]
    line: tuple[float, ...]
    line_name: str
    bands: tuple[AxisBand, ...]
    peak: Mark
    x: Axis
    y: Axis
    limit: Limit | None = None
    refused: Mark | None = None  # the first request beyond the limit


class CurvePoint(NamedTuple):
    """A point of a curve: its value `y` with the bounds `low` and `high`."""

    x: float
    low: float
    y: float
    high: float
    told: str = ""


class Curve(NamedTuple):
    series: Series
    points: tuple[CurvePoint, ...]


class LinePlot(NamedTuple):
    """A plot of lines, each with the band of its interval."""

    curves: tuple[Curve, ...]
    x: Axis
    y: Axis
    limits: tuple[Limit, ...] = ()


class Dot(NamedTuple):
    x: float
    y: float
    label: str
    series: int


class Dots(NamedTuple):
    """A plot of named points."""

    dots: tuple[Dot, ...]
    series: tuple[Series, ...]
    x: Axis
    y: Axis


class FigureTable(NamedTuple):
    """The data of a figure as a table of texts. `words`: the number of leading text columns;
    `caption`: the unit of sizes."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    caption: str = ""


Plot = Bars | Areas | LinePlot | Dots


class Figure(NamedTuple):
    """A picture with its title, sentences and table."""

    title: str
    answer: str  # the answer in one sentence, "" without one
    notes: tuple[str, ...]  # how to read the picture
    description: str  # the picture in words, for screen readers
    plots: tuple[Plot, ...]
    table: FigureTable
    lang: str = "en"

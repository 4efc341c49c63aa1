"""Quality against size: a dot for each format, as llama.cpp's tables are drawn.

Values of different sources are not comparable (other texts, other windows); what each loses
against its own baseline is. So the axis is the value itself for one source, and the loss in percent
for several.
"""

from collections.abc import Sequence
from typing import NamedTuple

from weighbridge.charts import scale
from weighbridge.charts.figure import MOST, Axis, Dot, Dots, Figure, Limit, Series, Table
from weighbridge.charts.messages import Say
from weighbridge.errors import UsageError
from weighbridge.units import GIB

WIDE = 3  # values that span more than so many times their least have a logarithmic axis
ROOM = 1.04  # beyond the values


class Quality(NamedTuple):
    """One published figure. `size`: bytes of the weights, or bits of each; lower values are
    better, and `baseline` is the value of `baseline_format` at the same source."""

    format: str
    size: float
    value: float
    baseline: float
    source: str
    baseline_format: str = "float16"


def quality(
    records: Sequence[Quality], *, model: str, metric: str = "perplexity", lang: str = "en"
) -> Figure:
    if not records:
        raise UsageError(f"no published {metric} of {model} is known; there is nothing to draw")
    say = Say(lang)
    sources = list(dict.fromkeys(r.source for r in records))
    alone = len(sources) == 1
    bytes_ = all(r.size >= GIB / 64 for r in records)
    unit = scale.unit(max(r.size for r in records)) if bytes_ else None
    ys = [r.value if alone else _loss(r) for r in records]
    base = Limit(*2 * (records[0].baseline if alone else 0.0,), _base(records[0], say, alone=alone))
    plot = Dots(
        tuple(
            Dot(r.size, y, r.format, sources.index(r.source) % MOST)
            for r, y in sorted(zip(records, ys, strict=True), key=lambda pair: pair[0].size)
        ),
        tuple(Series(s, i) for i, s in enumerate(sources[:MOST])),
        _sizes(records, unit, say),
        _values([*ys, base.low], metric if alone else say("axis.loss", metric=metric)),
        base,
    )
    return Figure(
        title=say("title.quality", metric=metric, model=model),
        answer="",
        notes=(say("lower", source="; ".join(sources)),),
        description=say("described.dots", metric=metric),
        plots=(plot,),
        table=_table(records, unit, metric, say),
        lang=lang,
    )


def _loss(r: Quality) -> float:
    """Percent above the baseline; nothing where it is below, which is noise."""
    return max(0.0, 100 * (r.value / r.baseline - 1))


def _base(r: Quality, say: Say, *, alone: bool) -> str:
    return say(
        "baseline", name=r.baseline_format, value=f"{r.baseline:.4g}" if alone else ""
    ).strip()


def _sizes(records: Sequence[Quality], unit: scale.Unit | None, say: Say) -> Axis:
    most = max(r.size for r in records) * ROOM
    if unit is not None:
        return scale.memory(say("axis.size", unit=unit.name), most, unit)
    return scale.plain(say("axis.bits"), 0, most)


def _values(values: Sequence[float], label: str) -> Axis:
    low, high = min(values), max(values)
    if low > 0 and high > WIDE * low:
        return scale.ratios(label, low / ROOM, high * ROOM)
    room = (high - low or high or 1) * 0.06
    return scale.plain(label, max(0.0, low - room) if low >= 0 else low - room, high + room)


def _table(records: Sequence[Quality], unit: scale.Unit | None, metric: str, say: Say) -> Table:
    head = (
        say("head.format"),
        say("axis.size", unit=unit.name) if unit else say("axis.bits"),
        metric,
    )
    rows = (
        (
            r.format,
            unit.exact(r.size) if unit else f"{r.size:.2f}",
            f"{r.value:.4f}",
            f"{100 * (r.value / r.baseline - 1):+.2f} %",
            r.source,
        )
        for r in sorted(records, key=lambda r: -r.size)
    )
    beyond = say("baseline", name=records[0].baseline_format, value="").strip()
    return Table((*head, beyond, say("head.source")), tuple(rows))

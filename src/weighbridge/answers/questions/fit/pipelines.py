"""Image and video pipelines ranked for a card: the first way in which each surely fits, as asked,
on several cards, one component at a time, its denoiser in a smaller format, or block by block.

The largest denoiser that fits comes first. A screen has one pipeline per denoiser class: first
those offered in GGUF, which are what people run. Pipelines without an answer are listed by name as
left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.watching import kept_so_far, trying
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Ranking
from weighbridge.models import catalogue
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures.config import class_of

Row = Mapping[str, Any]


class Way(NamedTuple):
    """A way to run: settings, bits per denoiser weight on the card at least, and whether it needs a
    GGUF file."""

    settings: Mapping[str, Any]
    bits: float
    gguf: bool = False


PACKED = {"quantization": "nf4+text=nf4", "vae_tiling": True}
WAYS = (
    Way({}, 16),
    Way({"offload": "model"}, 16),
    Way({"offload": "model", "quantization": "fp8"}, 8),
    Way({"offload": "model", "quantization": "Q4_K_S"}, 4.5, gguf=True),
    Way({"offload": "model", **PACKED}, 4),
    Way({"offload": "group-block", "offload_stream": True, **PACKED}, 0),
)
CARD = ("gpu", "gpu_memory", "headroom", "ram")
OF_WORDS = ("engine", "min_context", "quantization")
ON_CARDS = Way({"device_map": ("balanced",)}, 16)  # with several cards
FIRST = 12  # pipelines on a screen that fit


class RankedPipelines(NamedTuple):
    """Rows, and by name the reason why other pipelines have none."""

    rows: tuple[Row, ...]
    left_out: Mapping[str, str] = {}


class RankedPipeline(NamedTuple):
    """A pipeline: its parameters, its denoiser's, the denoiser's class, and whether GGUF exists."""

    name: str
    whole: int
    parameters: int
    cls: str
    gguf: bool


def pipelines_for(
    names: Sequence[str], asked_for: Mapping[str, Any], *, shown: int | None = None
) -> RankedPipelines:
    """Return the ranking of pipelines for a card. `shown`: how many that fit to find, one per
    denoiser class; None: list all, also those that do not fit."""
    card = {name: asked_for[name] for name in CARD if asked_for.get(name) is not None}
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    with kept_so_far():
        for number, family in enumerate(_families(names, left_out, apart=shown is None), 1):
            trying(partial(str, family[0].name), number, len(names))
            row = _first(family, card)
            if row is None:
                left_out |= {one.name: sentence("rank.no_way") for one in family}
            elif shown is None or row["fits"] == "yes":
                rows.append(row)
            if len(rows) == shown:
                break
    ordered = sorted(rows, key=lambda row: (row["fits"] != "yes", -row["denoiser_parameters"]))
    return RankedPipelines(tuple(ordered), left_out if shown is None else {})


def _families(
    names: Sequence[str], left_out: dict[str, str], *, apart: bool
) -> Iterator[list[RankedPipeline]]:
    """Yield pipelines grouped by denoiser class, largest first, with only the catalogue's first of
    similar sizes; classes offered in GGUF first, and of those the largest. `apart`: each pipeline
    by itself. Those without GGUF are read only when they are reached."""
    rows = [row for row in map(pipelines.find, names) if row is not None]
    if apart:
        yield from ([one] for one in _candidates(rows, left_out))
        return
    offered = {class_of(row.denoiser()[1]) for row in rows if row.gguf}
    for first in (True, False):
        turn = [row for row in rows if (class_of(row.denoiser()[1]) in offered) is first]
        known = reversed([*_candidates(turn, left_out)])
        alike = {(one.cls, -one.parameters.bit_length()): one for one in known}
        by_class = [alike[key] for key in sorted(alike)]
        families = [list(group) for _, group in groupby(by_class, key=lambda one: one.cls)]
        yield from sorted(families, key=lambda family: -family[0].parameters)


def _candidates(
    rows: Iterable[pipelines.CataloguePipeline], left_out: dict[str, str]
) -> Iterator[RankedPipeline]:
    """Yield pipelines with their denoisers' sizes; `left_out` gets those without a program."""
    counts = catalogue.parameters()
    for row in rows:
        part, config = row.denoiser()
        size = counts.get(f"{row.name}/{part}")
        if size is None:
            left_out[row.name] = sentence("picture.no_program", cls=class_of(config))
        else:
            yield RankedPipeline(row.name, counts[row.name], size, class_of(config), bool(row.gguf))


def _first(family: Sequence[RankedPipeline], card: Mapping[str, Any]) -> Row | None:
    """Return the row of the family's largest that fits, else the last row; None without any."""
    last: Row | None = None
    for one in family:
        last = _row(one, card) or last
        if last is not None and last["fits"] == "yes":
            break
    return last


def with_pipelines(
    ranking: Ranking, names: Sequence[str], asked_for: Mapping[str, Any], *, shown: int | None
) -> Ranking:
    """Return a ranking of models with pipelines added, unless the user set something that only
    language models have."""
    if ranking.about != "infer" or any(asked_for.get(name) is not None for name in OF_WORDS):
        return ranking
    ranked = pipelines_for(names, asked_for, shown=shown)
    return replace(ranking, pipelines=ranked.rows, left_out=ranked.left_out)


def _row(one: RankedPipeline, card: Mapping[str, Any]) -> Row | None:
    """Return the row of the first way that fits, else of the last one; None without an answer."""
    last: Row | None = None
    for way, report in _answers(one, card):
        verdict = report.verdict
        assert verdict is not None
        last = {
            "name": one.name,
            "parameters": report.model.parameters,
            "denoiser_parameters": one.parameters,
            "fits": verdict.fits,
            "settings": dict(way),
            "usable_bytes": verdict.usable_bytes,
            "peak_bytes": verdict.per_device.expected,
            "margin_bytes": verdict.margin_bytes,
            "peak_phase": report.fullest.peak_phase,
        }
        if verdict.fits == "yes":
            break
    return last


def _answers(
    one: RankedPipeline, card: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, Any], Report]]:
    """Yield (settings, report) of each way, except ways whose weights exceed the card: all weights
    as asked, else the denoiser's."""
    from weighbridge.answers.questions.prepared import opened
    from weighbridge.machines.accelerators.budget import budget
    from weighbridge.models.checkpoint.gather import GatherOptions

    room = budget(card.get("gpu"), card.get("gpu_memory"), card.get("headroom"))
    assert room is not None
    pipeline = opened(one.name, GatherOptions())
    ways = (*WAYS[:1], ON_CARDS, *WAYS[1:]) if room.choice.count > 1 else WAYS
    for way in ways:
        weights = (one.parameters if way.settings else one.whole) * way.bits / 8
        if weights > room.usable.high or (way.gguf and not one.gguf):
            continue
        try:
            yield way.settings, pipeline.image(remedies=False, **card, **way.settings)
        except WeighbridgeError:
            continue

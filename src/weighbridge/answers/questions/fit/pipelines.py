"""Pipelines of pictures and video for a card: the first way in which each surely fits, as asked,
on several cards, one component at a time, or its denoiser in a smaller format besides.

They come in the catalogue's order. Where a screen shows the first rows alone, no more are asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import replace
from weighbridge.base.watching import kept_so_far, trying
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Ranking
from weighbridge.models.catalogue import pipelines

Row = Mapping[str, Any]
WAYS: tuple[Mapping[str, Any], ...] = (
    {},
    {"offload": "model"},
    {"offload": "model", "quantization": "fp8"},
    {"offload": "model", "quantization": "nf4+text=nf4"},
)
CARD = ("gpu", "gpu_memory", "headroom", "ram")
OF_WORDS = ("engine", "min_context", "quantization")
ON_CARDS = ({"device_map": ("balanced",)}, 16)  # a way of several
FIRST = 8  # that fit, on a screen
LEAST = (16, 16, 8, 4)  # bits of a denoiser's weight in each way


def pipelines_for(
    names: Sequence[str], asked_for: Mapping[str, Any], *, shown: int | None = None
) -> tuple[Row, ...]:
    """Weigh pipelines for a card. `shown`: how many of those that fit are looked for; None: all,
    and those that do not fit are told, too."""
    card = {name: asked_for[name] for name in CARD if asked_for.get(name) is not None}
    rows: list[Row] = []
    with kept_so_far():
        for number, name in enumerate(names, 1):
            if shown is not None and len(rows) >= shown:
                break
            trying(partial(str, name), number, len(names))
            row = _row(name, card)
            if row is not None and (shown is None or row["fits"] == "yes"):
                rows.append(row)
    return tuple(rows)


def with_pipelines(
    ranking: Ranking, names: Sequence[str], asked_for: Mapping[str, Any], *, shown: int | None
) -> Ranking:
    """Return a rank of models with pipelines beside, where no setting of language models was asked
    for."""
    if ranking.about != "infer" or any(asked_for.get(name) is not None for name in OF_WORDS):
        return ranking
    return replace(ranking, pipelines=pipelines_for(names, asked_for, shown=shown))


def _row(name: str, card: Mapping[str, Any]) -> Row | None:
    """Return the first way that fits, else the last one; None of a pipeline without an answer."""
    last: Row | None = None
    for way, report in _answers(name, card):
        verdict = report.verdict
        assert verdict is not None
        last = {
            "name": name,
            "parameters": report.model.parameters,
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


def _answers(name: str, card: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Report]]:
    """Yield ways with their answers; those whose denoiser alone is larger than the card, but for
    the last, are passed over."""
    from weighbridge.answers.questions.prepared import opened
    from weighbridge.machines.accelerators.budget import budget
    from weighbridge.models.checkpoint.gather import GatherOptions

    room = budget(card.get("gpu"), card.get("gpu_memory"), card.get("headroom"))
    assert room is not None
    pipeline = opened(name, GatherOptions())
    row = pipelines.find(name)
    assert row is not None
    denoisers = row.recipe.get("denoisers", ())
    sizes = (p.blueprint.parameters for p in pipeline.model().parts if p.name in denoisers)
    largest = max(sizes, default=0)
    ways = list(zip(WAYS, LEAST, strict=True))
    if room.choice.count > 1:
        ways.insert(1, ON_CARDS)
    for way, bits in ways:
        if largest * bits / 8 > room.usable.high and way is not WAYS[-1]:
            continue
        try:
            yield way, pipeline.picture(remedies=False, **card, **way)
        except WeighbridgeError:
            continue

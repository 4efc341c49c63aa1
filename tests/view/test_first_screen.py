"""The law of every first screen: verdict, bar, reason and next step in eight lines of 80 columns."""

import re
from functools import cache

import pytest

import weighbridge
from tests.cases import each
from weighbridge.base.words import words_in
from weighbridge.faces.render import render
from weighbridge.faces.render.terminal import cells
from weighbridge.faces.view import screen
from weighbridge.faces.view.records import Bar, Grid, Headline, Paste, RenderOptions
from weighbridge.models.catalogue import search

FIRST, WIDTH = 8, 80
MODELS = [entry.name for entry in search("")][5::19]
ASKED = (
    ("load", {"gpu": "3060"}),
    ("load", {"gpu": "4090:2"}),
    ("infer", {"gpu": "4090", "engine": "vllm"}),
    ("infer", {"gpu": "t4"}),
    ("train", {"gpu": "4090", "method": "lora"}),
)
SAMPLE = [(m, *ASKED[(i + k) % len(ASKED)]) for i, m in enumerate(MODELS) for k in (0, 2)]
VERDICTS = {"yes": ("verdict.yes", "verdict.tight"), "no": ("verdict.no",)}


@cache
def asked(model, task, settings):
    try:
        return getattr(weighbridge, task)(model, **dict(settings))
    except weighbridge.WeighbridgeError:
        return None


def answered(model, task, settings):
    return asked(model, task, tuple(settings.items())) or pytest.skip("refused: it has no screen")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "task", "settings"), each(3, SAMPLE))
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_answer_and_the_next_step_stand_in_eight_lines(model, task, settings, lang):
    report = answered(model, task, settings)
    first = render(report, "human", RenderOptions(lang=lang)).splitlines()[:FIRST]
    told, words = "\n".join(first), words_in(lang)
    keys = VERDICTS.get(report.verdict.fits, ("verdict.unknown",))
    assert any(words(key) in told for key in keys)
    assert "\u2502" in told, "a bar with its capacity"
    shown = screen(report, lang=lang)
    steps = [b.heading for s in shown.sections[1:] for b in s if isinstance(b, Paste | Grid)]
    missing = report.derived.get("not_counted")
    assert any(step and step[:40] in told for step in steps[:1]) or missing


@pytest.mark.slow
@pytest.mark.parametrize(("model", "task", "settings"), each(3, SAMPLE))
def test_titles_and_legends_stand_on_one_line(model, task, settings):
    shown = screen(answered(model, task, settings))
    assert cells(shown.title) <= WIDTH
    bar = next(b for b in shown.blocks if isinstance(b, Bar))
    assert cells(bar.legend) <= WIDTH - 2
    assert sum(part.nbytes for part in bar.segments) == bar.total
    head = next(b for b in shown.blocks if isinstance(b, Headline))
    assert cells(f"  {head.verdict}  {head.figures}") <= WIDTH


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ram", "figures", "reason"),
    [
        (
            "64GiB",
            "of host memory; the machine has 64.0 GiB",
            r"short by [\d.]+ GiB of host memory; ",
        ),
        ("255GiB", "of host memory, the machine has 255.0 GiB", r"\d+ % of that range fits; "),
    ],
)
def test_the_first_figures_are_those_that_decide(ram, figures, reason):
    """Host memory lacks, and the card has room: the line with the sign is about the host."""
    report = weighbridge.train("llama-3.1-8b", gpu="h100-sxm:8", shard="fsdp2", ram=ram)
    (head,) = (b for s in screen(report).sections for b in s if isinstance(b, Headline))
    assert head.figures.startswith("needs ") and head.figures.endswith(figures)
    assert head.margin == "", "what the card has to spare is no margin of the host"
    assert re.fullmatch(
        rf"{reason}on each card: about [\d.]+ GiB \([\d. to]+\) of 79.2", head.reason
    )
    room = weighbridge.train("llama-3.1-8b", gpu="h100-sxm:8", shard="fsdp2", ram="512GiB")
    (head,) = (b for s in screen(room).sections for b in s if isinstance(b, Headline))
    assert head.figures.startswith("about ") and head.figures.endswith(" of 79.2")


@pytest.mark.slow
@pytest.mark.parametrize(("ram", "also"), [("30GiB", True), ("4TiB", False)])
def test_a_machine_that_is_short_beside_its_cards_is_told_at_once(ram, also):
    settings = {"gpu": "3060:2", "shard": "zero3", "offload": "params", "ram": ram}
    report = weighbridge.train("llama-3.1-8b", optimizer="adamw_torch", **settings)
    (head,) = (b for s in screen(report).sections for b in s if isinstance(b, Headline))
    assert report.verdict.fits == "no"
    told = re.search(
        r"; also needs about [\d.]+ GiB of host memory; the machine has 30", head.reason
    )
    assert bool(told) == also, head.reason


TWO = {"model": "llama-3.1-8b", "engine": "vllm", "context": 8000, "tensor_parallel_size": 2}
STORED = {"command": "vllm serve llama-3.1-8b --quantization awq"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "settings", "figures", "margin"),
    [
        ("load", {"model": "llama-3.1-8b", "gpu": "3060"}, "needs about 15.3 GiB; the card has 11.7", "short by 3.6 GiB"),
        ("load", {"model": "llama-3.1-8b", "gpu": "4090"}, "about 15.4 GiB .* of 23.5", "8.1 GiB to spare"),
        ("infer", {**TWO, "gpu": "h100"}, "about 15.1 GiB on each of 2", ""),
        ("infer", {**STORED, "gpu": "h100"}, "about [0-9.]+ GiB .* of 79.2", ""),
    ],
)  # fmt: skip
def test_nothing_is_to_spare_where_a_card_has_room_and_the_answer_is_no(
    task, settings, figures, margin
):
    report = getattr(weighbridge, task)(**settings)
    (head,) = (b for s in screen(report).sections for b in s if isinstance(b, Headline))
    assert re.fullmatch(figures, head.figures), head.figures
    assert re.fullmatch(margin, head.margin), head.margin

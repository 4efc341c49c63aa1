"""The screen of a trace: the answer before the tables, from records alone (no torch)."""

from dataclasses import replace

import pytest

from tests.cases import all_of
from weighbridge.base.memory import Bytes
from weighbridge.base.units import GIB, MIB
from weighbridge.faces.view.records import Bar, Headline, RenderOptions
from weighbridge_lab.trace.render import render
from weighbridge_lab.trace.report import (
    DeviceTrace,
    Gpu,
    PhasePeak,
    TracedProgram,
    TraceMoment,
    TraceReport,
    TraceVerdict,
)
from weighbridge_lab.trace.screen import screen
from weighbridge_lab.trace.steady import LeftLoop

ROLES = {"parameters": 6 * GIB, "gradients": 2 * GIB, "activations": GIB, "buffers": GIB // 2}
TOP = TraceMoment(
    event=7,
    phase="backward",
    module="",
    op="",
    allocated=sum(ROLES.values()),
    reserved=10 * GIB,
    roles=ROLES,
    tensors=(),
)
DRIVER = Bytes(10 * GIB, 10 * GIB + GIB // 4, 11 * GIB)
FITS = TraceVerdict(
    accelerator="GeForce RTX 3060 12GB",
    count=1,
    usable_bytes=12 * GIB,
    fits="yes",
    margin_bytes=2 * GIB - GIB // 4,
    reason="it ran",
)


CANNOT = replace(FITS, fits="unknown")
OUTGREW = {"ending": "out of memory", "place": "t.py:3", "went_on": "finished", "exit_code": 1}


def report(verdict=FITS, *, allocations=3, driver=DRIVER, **how):
    device = DeviceTrace(
        index=0,
        allocated=TOP,
        reserved=TOP,
        driver=driver,
        phases=(PhasePeak(name="backward", allocated=TOP.allocated, reserved=10 * GIB),),
        allocations=allocations,
        left=0,
        refusals=(),
    )
    return TraceReport(
        program=TracedProgram(script="train.py", arguments=("--x",), **how),
        gpu=Gpu(id="3060", name="GeForce RTX 3060 12GB", count=1, memory=12 * GIB, limited=True),
        torch_version="2.13",
        rules="2.13",
        devices=(device,),
        verdict=verdict,
    )


def blocks(found):
    return found.sections[0]


def test_the_bar_adds_up_to_what_the_driver_shows():
    _, bar = blocks(screen(report()))
    assert isinstance(bar, Bar)
    assert len(bar.segments) <= 5
    assert sum(one.nbytes for one in bar.segments) == bar.total == 10 * GIB + GIB // 4
    assert bar.capacity == 12 * GIB
    assert bar.legend.startswith("parameters 6.0 · gradients 2.0")


NO = replace(FITS, fits="no", margin_bytes=-GIB)
CRASHED = {"ending": "exception", "error": "ValueError: no data", "place": "train.py:31"}


@all_of(
    ("verdict", "how", "mark", "figures", "reason"),
    [
        (FITS, {}, "yes", "needs about 10.2 GiB; the card has 12.0 GiB", ""),
        (NO, {}, "no", "needs about", ""),
        (NO, {"ending": "out of memory", "place": "t.py:3"}, "no", "asked for about", "not known"),
        (NO, OUTGREW, "no", "needs about", "out of memory at t.py:3; from there it ran as if"),
        (CANNOT, CRASHED, "unknown", "took about 10.2 GiB until then", "crashed at train.py:31 (V"),
        (CANNOT, {"ending": "interrupted"}, "unknown", "took about", "interrupted at train.py:"),
        (None, {}, None, "on the card", ""),
        (None, CRASHED, None, "on the card", "no data"),
    ],
)
def test_the_headline_is_how_it_ended(verdict, how, mark, figures, reason):
    head, bar = blocks(screen(report(verdict, **how)))
    assert isinstance(head, Headline)
    assert head.mark == mark
    assert head.figures.startswith(figures)
    assert reason in head.reason and bool(reason) == bool(head.reason)
    whole = "ending" not in how or "went_on" in how
    assert (bar.margin == "") == (verdict is None or not whole)


def test_a_card_that_was_not_used_has_no_bar():
    (head,) = blocks(screen(report(CANNOT, allocations=0)))
    assert (head.mark, head.figures) == ("unknown", "took nothing; the card has 12.0 GiB")
    assert "nothing on the card" in head.reason


def test_each_size_has_the_unit_that_suits_it():
    """328 MiB beside 14.6 GiB, and not 14,912.00 MiB."""
    driver = Bytes(300 * MIB, 328 * MIB, 400 * MIB)
    verdict = replace(FITS, margin_bytes=12 * GIB - driver.expected)
    head, bar = blocks(screen(report(verdict, driver=driver)))
    assert head.figures == "needs about 328 MiB; the card has 12.0 GiB"
    assert bar.margin == "11.7 GiB to spare"


def test_a_loop_that_was_left_is_said():
    left = LeftLoop(place="train.py:9", rounds=6), LeftLoop(place="t.py:2", rounds=3, alike=False)
    _, _, said = blocks(screen(replace(report(), loops=left)))
    first, second = (cell.text for cell in said.lines)
    assert first.startswith("train.py:9 was left after 6 rounds, alike") and "--steps all" in first
    assert second == "t.py:2 was left after 3 rounds"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_answer_comes_before_the_tables(lang):
    text = render(report(), "human", look=RenderOptions(lang=lang))
    verdict = {"en": "✓ fits", "zh": "✓ 放得下"}[lang]
    assert verdict in "\n".join(text.splitlines()[:4])
    tables = {"en": "traced train.py --x", "zh": "已追踪 train.py --x"}[lang]
    assert text.index(verdict) < text.index(tables)

"""The screen of a trace: the answer before the tables, from records alone (no torch)."""

from dataclasses import replace

import pytest

from weighbridge.memory import Bytes
from weighbridge.render import RenderOptions
from weighbridge.render.trace import render
from weighbridge.trace.report import (
    DeviceTrace,
    Gpu,
    PhasePeak,
    TracedProgram,
    TraceMoment,
    TraceReport,
    TraceVerdict,
)
from weighbridge.units import GIB
from weighbridge.view.records import Bar, Headline
from weighbridge.view.trace import screen

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
FITS = TraceVerdict(
    accelerator="GeForce RTX 3060 12GB",
    count=1,
    usable_bytes=12 * GIB,
    fits="yes",
    margin_bytes=2 * GIB - GIB // 4,
    reason="it ran",
)


def report(verdict=FITS, ending="finished"):
    device = DeviceTrace(
        index=0,
        allocated=TOP,
        reserved=TOP,
        driver=Bytes(10 * GIB, 10 * GIB + GIB // 4, 11 * GIB),
        phases=(PhasePeak(name="backward", allocated=TOP.allocated, reserved=10 * GIB),),
        allocations=3,
        left=0,
        refusals=(),
    )
    return TraceReport(
        program=TracedProgram(script="train.py", arguments=("--x",), ending=ending),
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


@pytest.mark.parametrize(
    ("verdict", "ending", "mark"),
    [
        (FITS, "finished", "yes"),
        (replace(FITS, fits="no", margin_bytes=-GIB), "finished", "no"),
        (FITS, "out of memory", "no"),
        (None, "finished", None),
    ],
)
def test_the_headline_is_how_it_ended(verdict, ending, mark):
    head, bar = blocks(screen(report(verdict, ending)))
    assert isinstance(head, Headline)
    assert head.mark == mark
    assert ("not known" in head.reason) == (ending == "out of memory")
    assert (bar.margin == "") == (verdict is None or ending == "out of memory")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_answer_comes_before_the_tables(lang):
    text = render(report(), "human", look=RenderOptions(lang=lang))
    verdict = {"en": "✓ fits", "zh": "✓ 放得下"}[lang]
    assert verdict in "\n".join(text.splitlines()[:4])
    assert text.index(verdict) < text.index("traced train.py --x")

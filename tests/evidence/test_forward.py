"""Widths of what is new are of figures that were published later, and held to the evidence."""

import json
from pathlib import Path

import pytest

from weighbridge.answers import bounds
from weighbridge.answers.bounds.accuracy import FORWARD, HELD, NOW, coverage, holding
from weighbridge.answers.bounds.margin import ANY, MarginTable
from weighbridge.answers.bounds.novelty import (
    AXES,
    EARNED,
    SEEN,
    NovelGroup,
    written_earned,
    written_seen,
)
from weighbridge.base.memory import Bytes
from weighbridge_lab.evidence import forward, traced
from weighbridge_lab.evidence.margins import fit, seen
from weighbridge_lab.evidence.predict import outcomes
from weighbridge_lab.evidence.records import Prediction, PublishedFigure, records

TRACED = str(Path(__file__).parents[1] / "traced.jsonl")
FLOOR = {"serve": (0.85, 0.03), "train": (0.85, 0.05)}  # inside at least, above at most


def like(platform, release="0.10"):
    traits = (("platform", platform), ("release", release))
    return bounds.RunForm("serve", "vllm", traits=traits)


def figure(number, measured, expected, platform="NVIDIA", date="2025-01", model="m", **more):
    known = {"engine": "vllm", "quantity": "weights", "level": "component", "citation": {}}
    record = PublishedFigure(
        id=f"{number}", source="s", model=model, date=date, measured=measured, **known, **more
    )
    runs = like(platform)
    kind = bounds.kind(runs, "weights", "component", several=False)
    return Prediction(record, "weights", Bytes(expected, expected, expected), 0, kind, runs)


def test_a_value_is_known_by_a_sample_of_several_runs():
    """Eight figures of three models; eight of one model are one run told eight times."""
    spread = [figure(n, 100, 100, model=f"m{n % 3}") for n in range(8)]
    place = "vllm weights component"
    assert seen(spread)[place]["platform"] == {"NVIDIA"}
    assert seen(spread[:7]) == {}
    assert seen([figure(n, 100, 100) for n in range(8)]) == {}
    few = [figure(10 + n, 100, 100, platform="AMD", model=f"m{n % 3}") for n in range(7)]
    assert seen([*spread, *few])[place]["platform"] == {"NVIDIA"}


def test_what_is_new_earns_the_excess_of_its_figures():
    """Above by 10, 20 and 40 of 100 less a hundredth of the figure, below by 30 at one of three;
    90 and 95 of 100 of three figures are all of them."""
    far = [figure(1, 110, 100), figure(2, 120, 100), figure(3, 140, 100)]
    low = [figure(4, 70, 100)]
    later = [forward.Later(one, ("platform", "release")) for one in (*far, *low)]
    earned = forward.earned(later)
    group = NovelGroup("platform", "serve", "vllm", "weights", "component")
    assert set(earned) == {group, group._replace(engine=ANY)}
    assert (earned[group].low, earned[group].high, earned[group].runs) == (0.3, 0.4, 4)
    assert forward.earned(later[:2]) == {}
    assert forward.earned([forward.Later(one, ()) for one in far]) == {}


def test_a_figure_inside_earns_nothing_and_one_of_low_confidence_decides_nothing():
    near = [forward.Later(figure(n, 100, 100), ("mode",)) for n in range(4)]
    assert {(m.low, m.high) for m in forward.earned(near).values()} == {(0.0, 0.0)}
    band = [forward.Later(figure(n, 500, 100, confidence="low"), ("mode",)) for n in range(4)]
    assert forward.earned(band) == {}


def test_no_figure_is_judged_by_one_of_its_own_time():
    """Three of January lie 20 % above; one of February is wider by that, and they are not."""
    told = [figure(n, 100, 100, model=f"m{n % 3}", date="2024-12") for n in range(8)]
    told += [figure(10 + n, 120, 100, "AMD", date="2025-01", model=f"a{n}") for n in range(3)]
    told += [figure(20, 120, 100, "AMD", date="2025-02", model="b")]
    by_id = {one.record.id: one for one in told}

    def ask(figures, table):
        for record in figures:
            one = by_id[record.id]
            value = bounds.around(one.bytes, one.like, "weights", "component", table=table)
            yield Prediction(record, "weights", value, 0, one.kind, one.like)

    walk = forward.walked(lambda f, t: list(ask(f, t)), [one.record for one in told])
    highs = [(one.prediction.record.id, one.prediction.bytes.high) for one in walk.wide]
    assert highs == [("10", 100), ("11", 100), ("12", 100), ("20", 120)]
    assert {one.axes for one in walk.wide} == {("platform",)}
    rows = forward.rows(walk.wide, walk.plain)
    whole = next(r for r in rows if (r["way"], r["task"], r["axis"]) == (FORWARD, None, None))
    assert (whole["n"], whole["inside"], whole["above"]) == (4, 0.25, 0.75)


def test_rows_that_are_kept_have_every_axis_and_low_is_not_above_inside():
    assert holding(FORWARD)["n"] > 1000 < holding(NOW)["n"]
    assert {row["axis"] for row in coverage()} - {None, "", *AXES} == set()
    assert all(row["inside"] + row["above"] <= 1.0001 for row in coverage())


@pytest.mark.parametrize("task", FLOOR)
def test_intervals_hold_forward_in_time(task):
    """Figures that nobody had published when the intervals were fitted."""
    inside, above = FLOOR[task]
    row = holding(FORWARD, task=task)
    assert row["inside"] >= inside, row
    assert row["above"] <= above, row


@pytest.fixture(scope="module")
def ask():
    found = traced.complete(traced.read(TRACED), records())
    return lambda figures, table: outcomes(figures, found, table=table)


@pytest.mark.slow
def test_what_is_seen_is_that_of_the_records(ask):
    """Stale: run tools/fit_intervals.py."""
    assert written_seen(seen(ask(records(), bounds.NOTHING))) == Path(SEEN).read_text()


@pytest.mark.slow
@pytest.mark.nightly  # two minutes
def test_what_is_earned_and_how_it_holds_are_those_of_the_evidence(ask):
    """Stale: run tools/fit_intervals.py."""
    rows = fit(lambda table: ask(records(), table))
    walk = forward.walked(ask, records())
    novelty = forward.novelty(walk, ask(records(), rows))
    assert written_earned(novelty.earned) == Path(EARNED).read_text()
    now = ask(records(), MarginTable(rows, novelty=novelty))
    assert forward.rows(walk.wide, forward.now(now, novelty)) == json.loads(Path(HELD).read_text())

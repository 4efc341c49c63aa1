"""Cases that are asked before they are read stand apart from all that anything is fitted to."""

import re

import pytest
from tools.held import (
    COUNTS,
    EXPECTED,
    PARTS,
    HeldCase,
    Told,
    _most,
    _scaled,
    endings,
    figures,
    held,
    told,
)

from weighbridge_lab.evidence.outcomes import cases
from weighbridge_lab.evidence.records import records

DAY = re.compile(r"2026-(0[1-9]|1[0-2])(-[0-3]\d)?")


def figure(measured, *bounds, **more):
    return Told(HeldCase("x", "2026-05", "vllm", (), {}, "weights", measured=measured), bounds)


def test_it_has_figures_and_outcomes_of_each_kind():
    outcomes = [case for case in held() if case.outcome]
    assert len(held()) > len(outcomes)
    assert set(EXPECTED) == {case.outcome for case in outcomes}


def test_every_case_is_whole_and_apart():
    ids = [case.id for case in held()]
    assert len(ids) == len(set(ids))
    assert not set(ids) & {*(r.id for r in records()), *(c.id for c in cases())}
    for case in held():
        assert DAY.fullmatch(case.date), case.id
        assert case.line[0] in ("infer", "train", "image"), case.id
        assert bool(case.quantity) != bool(case.outcome), case.id
        assert (case.measured > case.resolution >= 0) == bool(case.quantity), case.id
        assert len(case.caveat) < 300, case.id


def test_every_figure_can_be_read_off_a_report():
    for case in held():
        if case.quantity:
            known = (case.engine, case.quantity) in COUNTS or case.quantity in (*PARTS, "peak")
            assert known or case.engine == "sglang", case.id


def test_every_case_can_be_looked_up():
    for case in held():
        cited = case.citation
        exact = re.fullmatch(r"[0-9a-f]{40}", cited.get("commit", "")) and "path" in cited
        named = "repo" in cited and (exact or {"issue", "pull"} & set(cited))
        assert named or set(cited) in ({"page"}, {"unnamed"}), case.id


def test_a_table_by_hand():
    """100 measured: 90 to 110 hold it, 110 to 130 do not, and 80 to 90 are below it."""
    found = [figure(100, 90, 100, 110), figure(100, 110, 120, 130), figure(100, 80, 85, 90)]
    line = figures("all", found)
    assert "3 of   3  median  15.00%" in line
    assert "inside  33%  above  33%" in line
    ran = HeldCase("x", "2026-05", "vllm", (), {}, outcome="runs")
    told_so = [Told(ran, fits=fits) for fits in ("yes", "no", "unknown")]
    assert endings("all", [*told_so, Told(ran)]).endswith(
        "1 false no, 1 refused, 1 right, 1 unknown"
    )


def test_counts_and_parts_by_hand():
    assert _scaled(200, [90, 100, 120]) == (180, 200, 240)
    assert _scaled(200, None) == (200, 200, 200)
    sizes = [
        {"name": "a", "bytes": 3},
        {"name": "a", "bytes": {"low": 1, "expected": 2, "high": 4}},
    ]
    device = {"phases": [{"components": sizes}, {"components": []}]}
    assert _most(device, lambda c: c["name"] == "a") == (4, 5, 7)


@pytest.mark.slow
def test_a_figure_is_asked_as_anybody_would():
    """Eight-bit keys of 8 attention layers, 4 heads of 256, 262,144 cells: by hand 4352 MiB."""
    (case,) = (case for case in held() if case.id == "lc-q35-9b-kv_target")
    assert told(case).bounds[1] == case.measured == 4352 * 2**20

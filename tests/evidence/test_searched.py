"""The search of layouts beside published runs: what ran is a row that fits, what died is none."""

import pytest

from tests.cases import each
from tests.evidence.searched import measured, runs, searched, searched_figure
from weighbridge.answers.estimate.layouts import SHORTEST
from weighbridge_lab.evidence.outcomes import cases, judged

pytestmark = pytest.mark.slow
# Runs that went, of which `train` cannot say whether they surely fit: no search calls them fitting
OPEN = {"tt-1993-1", "tt-1993-2", "tt-1789-4", "mb-3107-mlp"}
LONG = {"tt-3429": ("expert_parallel_size",)}  # of 256 cards: three minutes unless it is named


@pytest.mark.parametrize("case", each(3, list(runs())), ids=lambda case: case.id)
def test_what_ran_is_found_and_what_died_is_not(case):
    found = searched(case, named=LONG.get(case.id, ()))
    assert found.right == (case.id not in OPEN)
    if case.id != "tt-1993-2":  # of which the search is wider than `train`
        assert (found.row is not None) == (found.fits == "yes")  # they agree


def test_most_of_them_are_asked():
    """Of those that went and of those that ran out of memory."""
    assert {case.outcome for case in runs()} == {"runs", "out of memory"}
    assert {case.id for case in runs()} >= {*OPEN, *LONG}


def test_a_run_that_train_leaves_open_is_no_layout_that_surely_fits():
    (case,) = (case for case in cases() if case.id == "mb-3107-mlp")
    found = searched(case)
    assert judged(case).fits == "unknown"  # a mode of which few figures were published
    assert found.row is None


GROUPS = "gpt3_mcore_te_tp1_pp4_vp1_tunable_overlap-dgx_h100"
CONTEXT = "gpt3_weekly_mcore_tp4_cp2_current_scaling_native_fp8_tp_sp_cp_tp_overlap-dgx_h100"
ASKED = [
    record
    for i, record in enumerate(measured())
    if i % 12 == 0 or record.id.endswith((GROUPS, CONTEXT))
]
SHORT = "_cp2_"  # sequences so short are shared among context ranks in tests alone: not walked


@pytest.mark.parametrize("record", each(3, ASKED), ids=lambda record: record.id)
def test_runs_of_which_a_figure_is_published_are_found(record):
    """They went: Megatron-LM's own tests, SimuMax's and Megatron-Bridge's. All of them are asked by
    benchmarks/layouts.py."""
    short = SHORT in record.id and record.setting["seq_len"] < 2 * SHORTEST
    assert searched_figure(record).right == (not short)


def test_all_kinds_of_ranks_are_among_them():
    words = " ".join(record.id for record in ASKED)
    assert all(kind in words for kind in ("tp", "pp", "cp", "ep", "vp"))

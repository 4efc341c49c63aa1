"""The search of a batch over runs that are made up: weights and so many bytes a sample."""

from itertools import product

import pytest

from tests.cases import all_of
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.words import words_in
from weighbridge_lab.trace.fit_batch import (
    COARSE,
    FINE,
    MOST_RUNS,
    MOST_UNANSWERED,
    UnansweredError,
    hindrance,
    largest,
    runner,
    with_flag,
)

USABLE = 10_000


ENDED = {"ending": "finished", "went_on": None, "exit_code": 0, "error": "", "settled": 0}
STOPPED = ENDED | {"ending": "time is up", "exit_code": 124}


def run_of(each, weights=1000, jump=lambda _: 0, ends=lambda _: True):
    """A run whose driver's high end is weights, `each` a sample, and what jumps. It comes to its
    end where `ends` says so, or where it surely does not fit."""
    asked = []

    def run(batch):
        asked.append(batch)
        high = weights + each * batch + jump(batch)
        low = int(high / 1.2)
        fits = "yes" if high <= USABLE else "no" if low > USABLE else "unknown"
        if fits == "yes" and not ends(batch):
            fits = "unknown"
        driver = {"low": low, "expected": high, "high": high}
        verdict = {"accelerator": "card", "usable_bytes": USABLE, "fits": fits}
        program = ENDED if ends(batch) or fits == "no" else STOPPED
        cards = [{"gb": gb, "fits": "yes" if high <= 1000 * gb else "no"} for gb in (8, 10, 12, 24)]
        device = {"driver": driver}
        return {"devices": [device], "verdict": verdict, "program": program, "cards": cards}

    return run, asked


@all_of(("first", "each"), product([1, 3, 8, 64, 500], [90, 700, 4500, 8999]))
def test_the_largest_batch_is_found_and_the_next_one_is_tried(each, first):
    run, asked = run_of(each)
    found = largest(run, first)
    assert found.batch == (USABLE - 1000) // each
    assert found.beyond == found.batch + max(1, found.batch // FINE)
    assert len(asked) == len(set(asked)) <= MOST_RUNS


def test_two_runs_and_two_proofs_are_enough_on_a_line():
    """And two for the end of the doubt."""
    run, asked = run_of(90)
    assert largest(run, 8).batch == 100 and asked[:3] == [8, 16, 100]
    assert len(asked) <= 6
    run, asked = run_of(90)
    assert largest(run, 8, zone=False).batch == 100 and len(asked) <= 5


def test_a_large_batch_is_found_to_a_part_in_so_many():
    run, _ = run_of(1, weights=0)
    found = largest(run, 8)
    assert found.batch <= USABLE < found.beyond
    assert found.beyond - found.batch <= found.batch // FINE + 1


@pytest.mark.parametrize("first", [1, 4, 64])
def test_none_fits(first):
    run, _ = run_of(1, weights=2 * USABLE)
    found = largest(run, first)
    assert (found.batch, found.beyond, found.no, found.fits) == (0, 1, 1, "no")


@pytest.mark.parametrize("first", [1, 4, 64])
def test_what_is_not_sure_of_one_is_no_no(first):
    """A batch of 1 that takes between the card and 1.2 of it."""
    run, _ = run_of(1, weights=USABLE)
    found = largest(run, first)
    assert (found.batch, found.beyond, found.fits) == (0, 1, "unknown")


@all_of(("first", "each"), product([1, 8, 64, 500], [90, 700, 2000]))
def test_the_zone_of_doubt_is_told(each, first):
    """Whose high end is beyond the card, and whose low end is not."""
    run, _ = run_of(each)
    found = largest(run, first)
    least = next(n for n in range(1, 1000) if run(n)["verdict"]["fits"] == "no")
    assert found.batch < found.beyond <= found.no
    assert least <= found.no <= least + max(1, least // COARSE)
    sure = {batch: fits for batch, _, fits in found.runs}
    assert sure[found.batch] == "yes" and sure[found.no] == "no"


@pytest.mark.parametrize("first", [1, 8, 64])
def test_where_no_run_comes_to_its_end_nothing_is_said(first):
    run, asked = run_of(90, ends=lambda _: False)
    with pytest.raises(UnansweredError, match="neither too large nor small enough") as error:
        largest(run, first)
    assert error.value.code == 4 and len(asked) <= MOST_UNANSWERED


@pytest.mark.parametrize("first", [8, 128])
def test_a_batch_that_did_not_end_is_not_too_large(first):
    """A net that hangs above 64: what came to its end is sure, the others are told."""
    run, _ = run_of(90, ends=lambda batch: batch <= 64)
    found = largest(run, first)
    told = [batch for batch, _ in found.unanswered]
    assert 32 <= found.batch <= 64 < min(told) and found.fits == "yes"
    assert not set(told) & {batch for batch, *_ in found.runs}
    assert found.no is None or found.no > 111


def test_a_smaller_batch_that_crashes_does_not_end_the_search():
    """A normalization over one sample."""
    plain, _ = run_of(4000)

    def run(batch):
        if batch == 1:
            raise UnsupportedError("Expected more than 1 value per channel")
        return plain(batch)

    found = largest(run, 4)
    assert found.batch == 2 and found.no == 3 and not found.unanswered
    with pytest.raises(UnsupportedError, match="more than 1 value"):
        largest(lambda batch: run(1), 4)


def test_what_was_proved_decides_where_peaks_jump():
    """A workspace comes from the 40th sample on."""
    run, _ = run_of(90, jump=lambda batch: 4000 * (batch >= 40))
    found = largest(run, 8)
    assert found.batch in (55, 39) and found.beyond > found.batch


def test_a_number_that_nothing_hangs_on_is_told():
    run, asked = run_of(0)
    with pytest.raises(UnsupportedError, match=r"memory is the same at 8 and at 2,048"):
        largest(run, 8)
    assert len(asked) <= 9


@pytest.mark.parametrize("first", [3_000_000, 10_000_000])
def test_a_batch_that_is_far_too_large_comes_down(first):
    run, asked = run_of(90)
    found = largest(run, first)
    assert min(asked) >= 1 and len(asked) == len(set(asked)) <= MOST_RUNS
    assert found.batch <= 100


@all_of(
    ("words", "given", "line"),
    [
        (["t.py", "--batch-size", "8", "--lr", "1"], 8, ["t.py", "--batch-size", "4", "--lr", "1"]),
        (["t.py", "--batch_size=8"], 8, ["t.py", "--batch_size=4"]),
        (["t.py", "-b", "2"], 2, ["t.py", "-b", "4"]),
        (["t.py", "data.batch_size=16", "x=1"], 16, ["t.py", "data.batch_size=4", "x=1"]),
        (
            ["t.py", "--eval-batch-size", "64", "--per_device_train_batch_size", "2"],
            2,
            ["t.py", "--eval-batch-size", "64", "--per_device_train_batch_size", "4"],
        ),
    ],
)
def test_the_script_s_own_flag_is_varied(words, given, line):
    of, first = with_flag(words)
    assert first == given and list(of(4)) == line


@pytest.mark.parametrize("words", [["t.py"], ["t.py", "8"], ["t.py", "--batch-size", "auto"]])
def test_a_script_without_its_flag_is_told_which(tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.py").write_text(
        "p.add_argument('--val-batch', type=int)\np.add_argument('--train-batch', type=int)\n"
    )
    with pytest.raises(UsageError, match="as --train-batch 8"):
        with_flag(words)


@pytest.mark.slow
def test_a_run_without_a_report_is_an_error(monkeypatch, tmp_path):
    run = runner([], lambda _: [str(tmp_path / "nowhere.py")])
    with pytest.raises(UnsupportedError, match=r"with 4 the run gave no report: .*no such script"):
        run(4)


def test_what_is_in_the_way_is_the_largest_that_grows():
    def row(role, nbytes):
        return {"role": role, "nbytes": nbytes, "op": f"op {role}", "line": "t.py:3"}

    rows = [row("weight", 900), row("temporary", 200), row("saved activation", 300)]
    device = {"driver": {"expected": 1}, "allocated": {"tensors": rows}}
    assert hindrance({"devices": [device]}) == (
        "saved activation",
        300,
        "op saved activation",
        "t.py:3",
    )
    device["allocated"]["tensors"] = rows[:1]
    assert hindrance({"devices": [device]}) is None


def test_the_batch_as_written_is_told_of_all_cards():
    run, _ = run_of(700)
    found = largest(run, 8)
    lines = list(found.on_cards(words_in("en")))
    assert lines[0] == "  8 as written fits cards of 8 GB and up"
    assert found.sizes[:2] == ((8, 8), (10, 12))
    assert lines[1].endswith(
        "card of its size holds: 8 on 8 GB, 12 on 10 GB, 15 on 12 GB, 16 on 24 GB and up"
    )
    large, _ = run_of(9500)
    assert "10 GB and below: no" in next(iter(largest(large, 1).on_cards(words_in("en"))))

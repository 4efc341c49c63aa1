"""A short pass of the night's fuzz hour, and what it once found."""

import pytest

from tests.fuzz import fuzz, kept, of_kept
from tests.hostile.cases import targets

QUICK = ("run_files", "pastes", "tokens", "folders", "page", "names", "index", "launches", "gpus")


@pytest.mark.slow
def test_a_few_of_each_kind_find_nothing():
    tally = fuzz(QUICK, cases=4, seed=46)
    assert set(tally.cases) == set(QUICK)
    assert not tally.wrong, tally.wrong


@pytest.mark.slow
def test_what_was_found_once_is_found_no_more():
    assert kept()
    assert not of_kept().wrong


def test_every_kind_has_a_generator():
    kinds = {"safetensors", "gguf", "config", "run_files", "folders", "pastes", "hub", "page"}
    assert kinds | {"scans", "tokens"} <= targets().keys()
    assert {case.partition(" ")[0] for case in kept()} <= targets().keys()

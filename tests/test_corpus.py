"""The whole corpus of real configs, where it is present: every one is answered or refused in one
clear line, and our counts differ from published ones for a reason that we know."""

import json

import pytest

from tests.corpus import MODELS, configs
from tests.published import SETTLED, compare
from weighbridge.arch.families import known

pytestmark = pytest.mark.skipif(
    not MODELS.exists(), reason=f"the corpus of real configs is not at {MODELS}"
)


@pytest.fixture(scope="module")
def outcomes():
    return list(compare())


def test_every_difference_from_a_published_count_has_a_reason(outcomes):
    unexplained = {file for outcome, file, _ in outcomes if outcome == "unexplained"}
    assert unexplained == set()


def test_what_was_settled_by_hand_is_still_needed(outcomes):
    settled = {file for outcome, file, _ in outcomes if outcome == "settled by hand"}
    assert settled == set(SETTLED)


def test_most_configs_agree_or_have_nothing_to_agree_with(outcomes):
    agree = [file for outcome, file, _ in outcomes if outcome == "agrees"]
    assert len(agree) >= 74


def test_every_refusal_is_one_clear_line(outcomes):
    refused = [detail for outcome, _, detail in outcomes if outcome == "refused"]
    assert refused
    assert all("\n" not in line and line.startswith(("config.json", "model type")) for line in refused)


def test_known_types_are_the_bulk_of_the_corpus():
    raws = [raw for _, raw in configs() if isinstance(raw, dict)]
    assert sum(known(raw) for raw in raws) >= 0.85 * len(raws)


def test_adapters_are_read_as_adapters():
    found = 0
    for path in MODELS.glob("*/adapter_config.json"):
        assert "peft_type" in json.loads(path.read_text())
        found += 1
    assert found

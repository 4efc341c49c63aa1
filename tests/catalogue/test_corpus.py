"""The whole corpus of real configs, where it is present: every one is answered or refused in one
clear line, and our counts differ from published ones for a reason that we know."""

import json

import pytest

from tests.corpus import MODELS, configs
from tests.published import SETTLED, compare
from weighbridge.models.arch.builder import known

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not MODELS.exists(), reason=f"the corpus of real configs is not at {MODELS}"
    ),
]


PARTS = 6


@pytest.mark.parametrize("part", range(PARTS))
def test_every_config_is_counted_or_refused_for_a_reason(part):
    outcomes = list(compare(part, PARTS))
    by = {kind: [f for k, f, _ in outcomes if k == kind] for kind, _, _ in outcomes}
    assert by.get("unexplained", []) == []
    assert set(by.get("settled by hand", [])) <= set(SETTLED)
    refused = [detail for kind, _, detail in outcomes if kind == "refused"]
    assert all("\n" not in d and d.startswith(("config.json", "model type")) for d in refused)
    assert len(by.get("agrees", [])) >= 8


def test_known_types_are_the_bulk_of_the_corpus():
    raws = [raw for _, raw in configs() if isinstance(raw, dict)]
    assert sum(known(raw) for raw in raws) >= 0.85 * len(raws)


def test_adapters_are_read_as_adapters():
    found = 0
    for path in MODELS.glob("*/adapter_config.json"):
        assert "peft_type" in json.loads(path.read_text())
        found += 1
    assert found

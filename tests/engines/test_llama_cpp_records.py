"""Logs of llama.cpp and ik_llama.cpp: buffers as predicted, to the printed digits."""

import json

import pytest

from tests.corpus import MODELS
from tests.engines.llama_cpp_records import (
    IMATRIX,
    LEFT,
    RUNS,
    Run,
    held,
    readings,
    records,
)
from weighbridge.base.units import MIB

DIGITS = 0.0051  # MiB, of what is printed with two decimals
PRESENT = bool(records())
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PRESENT, reason="the measurements are not beside this checkout"),
]


@pytest.mark.parametrize("run", RUNS, ids=[run.ids for run in RUNS])
def test_buffers_of_a_run(run):
    for r in readings(run):
        if r.quantity == "weights":
            assert abs(r.error) < (0.01 if r.id in IMATRIX else 0.005)
        else:
            assert r.predicted == pytest.approx(r.measured, abs=DIGITS)


def test_every_record_of_a_context_is_predicted_or_has_its_reason():
    """Records of load_tensors alone, of recipes, are those of runs with `weights=False`."""
    said = {name for run in RUNS for name in run.names} | set(LEFT)
    unsaid = {
        name
        for name, r in records().items()
        if r["framework"] in ("llama.cpp", "ik_llama.cpp") and name not in said
    }
    assert unsaid == {"lc-013", "lc-014", "ik-256", "ik-257", "ik-258"}


def test_gemma_4_e4b():
    """lc-013 and lc-014: four full layers and twenty sliding ones have caches of their own."""
    path = MODELS / "google__gemma-4-E4B" / "config.json"
    if not path.exists():
        pytest.skip("the corpus of configs is not beside this checkout")
    assert json.loads(path.read_text())
    run = Run(
        ids="lc-013..014",
        model="google__gemma-4-E4B",
        engine="llama.cpp",
        build=11200,
        asked={"context": 32_768},
    )
    found = held(run).caches[0]
    assert (found[""].kv / MIB, found["sliding"].kv / MIB) == (512, 40)


@pytest.mark.parametrize(("inner", "outer", "mib"), [("Q4_K_R4", "Q4_K_R4", 176.01)])
def test_packed_experts_stay_with_the_processor(inner, outer, mib):
    """ik-003: eight outputs a token of 7,168 values, 112 MiB, are added up on the host."""
    run = next(run for run in RUNS if run.ids == "ik-005..008")
    assert held(run).compute[-1] / MIB == pytest.approx(mib, abs=DIGITS)

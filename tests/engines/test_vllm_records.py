"""vLLM's own logs and NVML beside what we say from model, flags and card: no figure gets worse."""

import statistics

import pytest

from tests.engines import vllm_records
from tests.engines.vllm_records import by_quantity, p95

pytestmark = pytest.mark.slow

ABSENT = "the measurements are not beside this checkout"
# quantity -> most of the median and of the 95th percentile; what the issue asks is wider
PINS = {
    "weights_memory_gib": (0.0003, 0.003),
    "activation_memory_gib": (0.0015, 0.003),
    "kv_cache_memory_gib": (0.0005, 0.004),
    "kv_cache_tokens": (0.0005, 0.004),
    "cuda_graph_estimated_gib": (0.12, 0.24),
    "cuda_graph_actual_gib": (0.05, 0.22),
}


@pytest.fixture(scope="module")
def planned():
    found = list(vllm_records.planned())
    if not found:
        pytest.skip(ABSENT)
    return found


@pytest.mark.parametrize("quantity", PINS)
def test_logs_of_the_planner(planned, quantity):
    errors = by_quantity(iter(planned))[quantity]
    median, tail = PINS[quantity]
    assert errors
    assert statistics.median(errors) <= median
    assert p95(errors) <= tail


def test_every_log_within_what_was_asked(planned):
    """Weights within 1 %; tokens within 5 %."""
    most = {"weights_memory_gib": 0.01, "kv_cache_tokens": 0.05, "activation_memory_gib": 0.05}
    wrong = [r for r in planned if abs(r.error) > most.get(r.quantity, 1)]
    assert not wrong


def test_the_version_before_triton_sorted_its_logits(planned):
    """gpt-oss-20b in 0.11: 7.38 GiB of activations, where 0.19 takes 2.87."""
    found = {
        r.who: r.predicted
        for r in planned
        if r.quantity == "activation_memory_gib" and "gpt-oss" in r.who
    }
    assert found["openai/gpt-oss-20b 0.11"] == pytest.approx(7.38, abs=0.02)
    assert found["openai/gpt-oss-20b x1"] == pytest.approx(2.87, abs=0.01)


def test_windows_of_generation():
    errors = by_quantity(vllm_records.windows()).get("nvml")
    if not errors:
        pytest.skip(ABSENT)
    assert statistics.median(errors) <= 0.014
    assert p95(errors) <= 0.040

"""Laws of vLLM's budget, over models of every kind, versions, cards and settings."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.engines.answers import answer
from weighbridge.base.memory import LEVELS
from weighbridge.engines.vllm import hardware
from weighbridge.machines.accelerators.budget import budget

pytestmark = pytest.mark.slow

MODELS = (
    *("llama-3.1-8b", "qwen3-0.6b", "gemma-2-9b", "gpt-oss-20b", "qwen3-30b-a3b"),
    *("deepseek-v2-lite", "qwen3-next-80b-a3b", "phi-4", "mixtral-8x7b"),
)
asked = st.fixed_dictionaries(
    {
        "engine_version": st.sampled_from(["0.9", "0.11", "0.15", "0.19", "0.22", "0.26", "0.33"]),
        "gpu": st.sampled_from([None, "4090", "A100 80GB PCIe", "H100", "B200"]),
        "context": st.integers(1, 65_536),
        "batch_size": st.integers(1, 64),
        "enforce_eager": st.sampled_from([None, True]),
    }
)
LAWS = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def reads(name, w):
    """Tell whether the release reads the model's own format: MXFP4 since 0.10.1."""
    return name != "gpt-oss-20b" or w["engine_version"] != "0.9"


def peak(found, level="driver"):
    return found.devices[0].peak(level)


@pytest.mark.parametrize("name", MODELS)
@LAWS
@given(asked)
def test_laws(name, w):
    assume(reads(name, w))
    found = answer(name, engine="vllm", **w)
    device = found.devices[0]
    for level in LEVELS:
        top = device.peak(level)
        assert 0 < top.low <= top.expected <= top.high
        for phase in device.phases:
            assert all(a <= b for a, b in zip(phase.at(level), top, strict=True))
    for phase in device.phases:
        assert all(c.bytes.low <= c.bytes.expected <= c.bytes.high for c in phase.components)
        assert all(c.bytes.low >= 0 for c in phase.components)
        assert all(c.formula and c.source for c in phase.components)
    if w["gpu"] is not None:
        fitting(found, w)


def fitting(found, w):
    """When all requests run at once, what they need is within what is taken, and what is taken is
    the share with what is outside it."""
    device, facts = found.devices[0], found.derived
    on = budget(w["gpu"], None, None)
    low, middle, high = facts["available_kv_cache_interval"]
    assert low <= middle <= high
    if facts["max_concurrency"] >= w["batch_size"] + 1 and middle:
        assert peak(found).expected <= device.taken
    share = found.settings["gpu_memory_utilization"] * hardware.total(on)
    assert device.taken >= int(share)


@pytest.mark.parametrize("name", MODELS)
@LAWS
@given(asked, st.integers(1, 4096), st.integers(1, 8))
def test_more_needs_no_less(name, w, tokens, requests):
    assume(reads(name, w))
    w = w | {"engine_defaults": True}  # of one command: without, its flags follow the workload
    less = answer(name, engine="vllm", **w)
    longer = answer(name, engine="vllm", **(w | {"context": w["context"] + tokens}))
    more = answer(name, engine="vllm", **(w | {"batch_size": w["batch_size"] + requests}))
    assert peak(less).expected <= peak(longer).expected
    assert peak(less).expected <= peak(more).expected
    if w["gpu"] is not None:
        rooms = [a.derived["available_kv_cache_bytes"] for a in (longer, less)]
        assert rooms[0] <= rooms[1]


@LAWS
@given(asked, st.floats(0.3, 0.9), st.floats(0.01, 0.1))
def test_a_larger_share_leaves_more(w, share, more):
    w = w | {"gpu": "H100", "engine_defaults": True}
    one, two = (
        answer("llama-3.1-8b", engine="vllm", **w, gpu_memory_utilization=u)
        for u in (share, share + more)
    )
    assert one.derived["available_kv_cache_bytes"] <= two.derived["available_kv_cache_bytes"]
    assert one.devices[0].taken < two.devices[0].taken
    assert peak(one) == peak(two)

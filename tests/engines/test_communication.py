"""Buffers of collectives: inside the published readings, nothing where nobody talks."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from tests.engines.serving import served
from tests.engines.spreads import communication
from weighbridge.base.memory import total
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.servers.communication import linked, received
from weighbridge.engines.vllm import outside_torch
from weighbridge.machines.accelerators.budget import budget

H100 = budget("h100-80gb", None, None)
RTX3090 = budget("rtx 3090", None, None)


def outside(found):
    return total(c.bytes for c in found if c.level == "driver")


# What vLLM 0.19's profile found outside torch at two and four H100, less what it finds at one,
# 0.25 GiB: Mixtral-8x7B, gpt-oss-20b and Kimi-VL-A3B alike, Kimi-Dev-72B, then at four Llama-4-Scout and
# Kimi-Dev-72B (jgchn/llm-d-planner); 0.6.5 has 3.58 at two and 1.79 at one.
@all_of(
    ("ranks", "gib"),
    [(2, 1.82), (2, 1.84), (4, 1.92), (4, 1.96), (2, 1.79)],
)
def test_readings_on_h100(ranks, gib):
    found = outside(communication("vllm", (0, 19), tensor=ranks, budget=H100))
    assert found.low < gib * GIB < found.high
    assert found.expected == pytest.approx(gib * GIB, rel=0.03)


@pytest.mark.parametrize(
    ("version", "gpu", "ranks", "gib"),
    [
        ((0, 4, 9), "h100-80gb", 4, 1.40),  # vllm-project/vllm issue 21348: from its pool of tokens
        ((0, 4, 3), "l4", 4, 0.25),  # QwQ-32B
        ((0, 5, 12), "rtx 3090", 2, 0.53),  # Gemma 4, before weights
    ],
)
def test_readings_of_sglang(version, gpu, ranks, gib):
    """Free before weights, less what a context takes: no card is the same."""
    on = budget(gpu, None, None)
    found = outside(communication("sglang", version, tensor=ranks, budget=on))
    assert found.low < gib * GIB < found.high
    assert found.expected == pytest.approx(gib * GIB, abs=0.16 * GIB)


def test_cards_without_a_switch():
    """Two RTX 3090 lose some 0.2 GiB at most; more than two do not use the custom all-reduce."""
    two = communication("vllm", (0, 19), tensor=2, budget=RTX3090)
    assert outside(two).low <= 0.2 * GIB <= outside(two).high
    four = communication("vllm", (0, 19), tensor=4, budget=RTX3090)
    assert [c.detail for c in four] == ["NCCL, tensor group"]


def test_custom_all_reduce_by_hand():
    """Two buffers of 8 MiB; at eight Hopper cards 256 KiB, since symmetric memory has 64 MiB for
    larger sums; since 0.33 the second is 16 MiB."""

    def custom(version, ranks):
        found = communication("vllm", version, tensor=ranks, budget=H100)
        return {
            (c.name, c.detail): c.bytes.expected for c in found if not c.detail.startswith("NCCL")
        }

    assert custom((0, 19), 2) == {
        ("communication", "custom all-reduce"): 16 * MIB,
        ("workspaces", "custom all-reduce"): 8 * MIB,
        ("communication", "symmetric memory"): 64 * MIB,
    }
    assert custom((0, 19), 8)[("communication", "custom all-reduce")] == MIB // 2
    assert custom((0, 33), 8)[("communication", "custom all-reduce")] == MIB // 4 + 16 * MIB
    assert ("communication", "custom all-reduce") not in custom((0, 19), 3)


def test_stages_and_experts_have_communicators_of_their_own():
    body = served("mixtral-8x7b").body
    dense = served("llama-3-8b").body
    assert communication("vllm", (0, 33), data=4, body=dense) == ()
    assert len(communication("vllm", (0, 33), data=4, body=body)) == 1
    assert communication("sglang", (0, 5, 23), data=4, body=body) == ()
    both = communication("vllm", (0, 33), pipeline=2, data=2, expert_parallel=True, body=body)
    assert [c.detail for c in both] == ["NCCL, pipeline group", "NCCL, experts group"]


def test_what_a_stage_receives():
    """Hidden states and residual: 2 x 8,192 tokens x 4,096 x 2 bytes."""
    assert received(8192, 4096).bytes.expected == 128 * MIB


@given(st.sampled_from((2, 4, 8)), st.sampled_from((None, H100, RTX3090)))
def test_bounds_are_in_order_and_one_device_is_silent(ranks, card):
    for c in communication("vllm", (0, 33), tensor=ranks, pipeline=2, budget=card):
        assert 0 < c.bytes.low <= c.bytes.expected <= c.bytes.high
    assert communication("vllm", (0, 33), budget=card) == ()


@pytest.mark.parametrize(
    ("gpu", "most"), [("h100-80gb", 1.8), ("a100-80gb", 10), ("a100 pcie 80gb", 110), ("4090", 20)]
)
def test_what_a_card_s_links_say(gpu, most):
    """The interval of all communicators of two ranks; it was 60 times wide on every card of
    Ampere, whether its board has switches, bridges or neither."""
    on = budget(gpu, None, None)
    at = SimpleNamespace(tensor=2, pipeline=1, data=1)
    own = outside(communication("vllm", (0, 19), tensor=2, budget=on))
    whole = outside_torch.first_communicators(at, on, experts=False).plus(own)
    assert whole.high <= most * whole.low
    assert whole.low <= whole.expected <= whole.high


def test_communicators_by_channels():
    """A100 with switches: 16 channels of a connection; NCCL issue 964 has 544 MB. SHARP is
    Hopper's. Two 3090 talk over PCIe."""
    a100 = linked(budget("a100-80gb", None, None).choice.part)
    assert a100 == (8 * 12 * MIB, 16 * 12 * MIB, 2 * 32 * 12 * MIB)
    assert a100.low < 544e6 < a100.high
    h100 = linked(H100.choice.part)
    assert h100.expected - a100.expected == 256 * MIB
    assert linked(RTX3090.choice.part).high <= 2 * 24 * 12 * MIB
    three = communication("sglang", (0, 5), tensor=2, budget=budget("a100-80gb", None, None))
    assert next(c for c in three if c.detail.startswith("NCCL")).bytes.expected == 3 * 192 * MIB

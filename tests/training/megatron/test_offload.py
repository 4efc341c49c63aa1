"""States of Megatron's optimizer on the host (optimizer_cpu_offload), added up by hand."""

import pytest

from tests.ask import megatron
from tests.training.megatron.runs import LLAMA, PLAIN, held
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.units import MIB
from weighbridge.training.megatron.states import StageNumbers

SHARED = {"data": 4, "distributed_optimizer": True}
LESS = 2 * MIB  # remainders that are too small to split off a large block


@pytest.mark.parametrize(("share", "states"), [(0.0, 12), (0.5, 6), (1.0, 0)])
def test_a_share_of_the_states_is_not_on_the_device(share, states):
    numbers = StageNumbers(LLAMA, replace(PLAIN, **SHARED), 0)
    found = held(LLAMA, offloaded=share, **SHARED)
    less = held(LLAMA, **SHARED) - found
    assert less == pytest.approx((12 - states) * numbers.stepped(PLAIN_SHARED), abs=LESS)


PLAIN_SHARED = replace(PLAIN, **SHARED)


asked = megatron("llama-3.2-1b", "hidden_dropout=0", seq_len=512, gpu="h100:4", shard="zero1")


def host(report, phase="step"):
    (device,) = (d for d in report.devices if d.kind == "host")
    (found,) = (p for p in device.phases if p.name == phase)
    return found


def test_the_host_has_16_bytes_of_each_number_or_up_to_24():
    """Two averages; a master weight and a gradient in pinned blocks, one to two times as large."""
    plain, found = asked(), asked("optimizer_cpu_offload")
    assert found.peak.expected < plain.peak.expected
    parts = {c.name: c.bytes for c in host(found).components}
    numbers = parts["optimizer_states"].expected // 8
    assert numbers == pytest.approx(1_235_814_400, rel=0.001)  # of 4 ranks, each with its part
    assert parts["master_weights"].low == 8 * numbers
    assert parts["master_weights"].high == 16 * numbers
    assert "optimizer_states" not in {c.name for c in host(plain).components}
    assert "optimizer_states" in {c.name for c in host(found, "save").components}


def test_gradients_of_16_bits_are_smaller_there():
    found = asked("optimizer_cpu_offload", "grad_reduce_in_bf16")
    parts = {c.name: c.bytes for c in host(found).components}
    assert parts["master_weights"].low == 6 * parts["optimizer_states"].expected // 8


def test_a_fraction_does_nothing_by_itself():
    assert asked("optimizer_offload_fraction=0.5").peak == asked().peak


@pytest.mark.parametrize(
    ("words", "more", "says"),
    [
        (("optimizer_cpu_offload",), {"shard": "ddp"}, "needs --shard zero1"),
        (("optimizer_offload_fraction=2",), {}, "from 0 to 1"),
    ],
)
def test_what_is_refused(words, more, says):
    with pytest.raises(UsageError, match=says):
        asked(*words, **more)


@pytest.mark.slow
def test_activations_that_go_to_the_host_are_open():
    """Activations of two of 16 layers stay at least; the words that say which are taken."""
    stays = asked()
    goes = asked(
        "fine_grained_activation_offloading", "offload_modules=core_attn+mlp_norm",
        "activation_offload_fraction=0.8",
    )  # fmt: skip
    forward = [next(p for p in r.devices[0].phases if p.name == "forward") for r in (stays, goes)]
    kept, open_ = (next(c.bytes for c in p.components if c.name == "activations") for p in forward)
    assert open_.high == kept.expected
    assert open_.low == pytest.approx(2 * kept.expected / 16, rel=0.05)  # and a margin
    assert open_.expected == pytest.approx(kept.expected * 9 / 16, rel=0.01)
    away = [
        c.bytes for p in goes.devices[-1].phases for c in p.components if c.name == "activations"
    ]
    assert away[0].low == 0 < away[0].expected == away[0].high // 2
    assert any("was not followed" in said for said in goes.warnings)
    step = [next(p for p in r.devices[0].phases if p.name == "step") for r in (stays, goes)]
    assert step[1].at("reserved").low < step[0].at("reserved").low  # nor is their room kept


@pytest.mark.slow
def test_hierarchical_context_ranks_copy_as_those_of_a2a():
    sizes = "hierarchical_context_parallel_sizes=2+2"
    one, both = (
        asked(*args, context_parallel_size=4)
        for args in (["cp_comm_type=a2a"], ["cp_comm_type=a2a+p2p", sizes])
    )
    assert one.peak == both.peak

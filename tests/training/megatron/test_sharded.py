"""Weights that data ranks share out, added up by hand."""

import pytest

from tests.ask import megatron
from tests.training.megatron.runs import EXPERTS, LLAMA, PLAIN, held
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.units import MIB
from weighbridge.training.megatron import sharded
from weighbridge.training.megatron.stage import run_stage
from weighbridge.training.megatron.states import StageNumbers
from weighbridge_lab.evidence.predict import outcomes
from weighbridge_lab.evidence.records import Prediction, chosen

FOUR = {"data": 4, "distributed_optimizer": True}
N = StageNumbers(LLAMA, PLAIN, 0)
LAYER, OTHERS = N.layers[0], N.all - sum(N.layers)
LESS = 2 * MIB  # remainders that are too small to split off a large block
NAME = "use_megatron_fsdp"


def found(routed):
    records = [r for r in chosen(source="megatron") if NAME in r.setting.get("megatron_args", ())]
    those = [r for r in records if ("8e" in r.model) == routed]
    return [p for p in outcomes(those) if isinstance(p, Prediction)]


def test_peaks_of_megatrons_own_tests():
    """The rule was read in the source, and met these four at once."""
    dense = found(routed=False)
    assert len(dense) == 4
    assert max(abs(100 * p.error) for p in dense) <= 0.4


@pytest.mark.slow
def test_peaks_with_experts():
    """Natural routing is not known, and what it moves is within bounds."""
    routed = found(routed=True)
    assert len(routed) == 3
    assert max(abs(100 * p.error) for p in routed) <= 6.5
    assert all(p.inside for p in routed)


@pytest.mark.parametrize(
    ("kind", "each"),
    [("", 9), ("optim", 9), ("optim_grads", 6), ("optim_grads_params", 4.5)],
)
def test_what_is_there_between_steps(kind, each):
    """2 bytes of weights, 4 of gradients and 12 of states, of which four ranks share some."""
    run = {**FOUR, "sharded": kind}
    assert held(LLAMA, **run) == pytest.approx(each * N.all + 32 * MIB, abs=LESS)


def test_fsdp2_has_copies_of_gradients_between_steps():
    """2 bytes of weights and of gradients, 4 of copies, 12 of states: each rank has a fourth."""
    run = {**FOUR, "sharded": "fsdp2", "main_gradient": 2}
    assert held(LLAMA, **run) == pytest.approx(20 * N.all / 4 + 32 * MIB, abs=LESS)


def test_experts_are_shared_among_ranks_with_the_same_experts():
    run = replace(PLAIN, **FOUR, expert=2, sharded="optim_grads_params")
    numbers = StageNumbers(EXPERTS, run, 0)
    assert numbers.weighed(run) == numbers.dense // 4 + numbers.experts // 2
    assert numbers.reduced(replace(run, sharded="optim")) == numbers.all


def peaks(**changes):
    moments = run_stage(LLAMA, replace(PLAIN, **FOUR, **changes), 0).moments
    return {name: peak.live for name, peak in moments.items()}


def test_the_head_stays_gathered_and_layers_do_not():
    """At the loss what belongs to no layer is there, besides a fourth of all."""
    found = peaks(sharded="optim_grads_params", length=2048)["forward"]["weights"]
    assert found == 2 * N.all // 4 + 2 * OTHERS
    assert peaks(sharded="optim_grads", length=2048)["forward"]["weights"] == 2 * N.all


def test_all_layers_of_a_small_model_are_gathered_ahead(monkeypatch):
    """With few tokens a step is fullest at its beginning: all layers are there, or the first three,
    where two layers' numbers are enough ahead."""
    short = {"sharded": "optim_grads_params", "length": 8}
    layers = (peaks(**short)["forward"]["weights"] - 2 * N.all // 4 - 2 * OTHERS) / LAYER / 2
    assert layers == 8
    monkeypatch.setattr(sharded, "UNIT", 4 * LAYER)
    run_stage.cache_clear()
    layers = (peaks(**short)["forward"]["weights"] - 2 * N.all // 4 - 2 * OTHERS) / LAYER / 2
    run_stage.cache_clear()
    assert layers == 3


def test_whole_gradients_wait_to_be_reduced(monkeypatch):
    """Gradients of all layers of a small model wait, and of four where no more may."""
    short = {"sharded": "optim_grads", "length": 8}
    more = peaks(**short)["backward"]["gradients"] - 4 * N.all // 4
    assert more == 4 * 8 * LAYER
    monkeypatch.setattr(sharded, "UNIT", 3 * LAYER)
    run_stage.cache_clear()
    more = peaks(**short)["backward"]["gradients"] - 4 * N.all // 4
    run_stage.cache_clear()
    assert more == 4 * 4 * LAYER


def test_double_buffers_are_kept_for_good():
    alike = {**FOUR, "sharded": "optim_grads_params"}
    more = held(LLAMA, **alike, double_buffers=True) - held(LLAMA, **alike)
    assert more == pytest.approx((2 + 4) * 2 * LAYER, abs=LESS)


def test_recomputed_layers_are_gathered_once_more():
    """In the backward each layer alone: there is nothing to gather ahead of what runs again."""
    alike = {"sharded": "optim_grads_params", "length": 8}
    again = peaks(**alike, recompute="uniform")
    assert again["forward"]["weights"] == peaks(**alike)["forward"]["weights"]
    assert again["backward"]["gradients"] == peaks(**alike)["backward"]["gradients"]


asked = megatron("llama-3.1-8b", seq_len=512, gpu="h100:4")


@pytest.mark.slow
def test_kinds_are_arguments():
    plain = asked(shard="zero1")
    kinds = ("optim", "optim_grads", "optim_grads_params")
    found = [asked(NAME, f"data_parallel_sharding_strategy={kind}") for kind in kinds]
    sizes = [report.peak.expected for report in (plain, *found)]
    assert sizes == sorted(sizes, reverse=True)
    assert asked(NAME).peak == asked().peak  # no_shard is Megatron's default
    torch = asked("use_torch_fsdp2", "no_gradient_accumulation_fusion")
    assert torch.peak.expected < sizes[1]
    less = asked(
        NAME, "data_parallel_sharding_strategy=optim", "megatron_fsdp_main_grads_dtype=bf16"
    )
    assert less.peak.expected < sizes[1]


@pytest.mark.parametrize(
    ("words", "more", "why"),
    [
        (["use_torch_fsdp2"], {}, "no_gradient_accumulation_fusion is lacking"),
        (["use_torch_fsdp2", "no_gradient_accumulation_fusion"], {"shard": "zero1"}, "zero1 goes"),
        (["use_torch_fsdp2"], {"pipeline_parallel_size": 2}, "--pipeline-parallel-size goes not"),
        ([NAME, "data_parallel_sharding_strategy=optim"], {"optimizer": "muon"}, "not weighed"),
    ],
)
def test_what_goes_not_together(words, more, why):
    with pytest.raises(UsageError, match=why):
        asked(*words, **more)


def test_weights_in_8_bits_are_gathered_in_8_bits():
    """On Blackwell one byte a number of a layer, as it lies."""
    alike = {**FOUR, "sharded": "optim_grads_params", "length": 8, "capability": (10, 0)}
    low = {"float8": "tensorwise", "float8_parameters": True}
    peak = run_stage(LLAMA, replace(PLAIN, **alike, **low), 0).moments["forward"].live["weights"]
    linears = StageNumbers(LLAMA, replace(PLAIN, **low), 0).float8
    between = (2 * (N.all - linears) + linears) // 4
    assert peak == between + 2 * OTHERS + 8 * LAYER

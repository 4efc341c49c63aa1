"""LoRA under Megatron, by hand."""

import pytest

import weighbridge
from tests.tiny import LLAMA
from weighbridge.base.records import replace
from weighbridge.training.megatron import adapters
from weighbridge.training.megatron.model import MegatronModel, RoutedFeed
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.stage import run_stage
from weighbridge.training.megatron.states import StageNumbers
from weighbridge.workload import Train

MODEL = MegatronModel(layers=2, hidden=64, width=128, heads=4, kv_heads=2, head_dim=16, words=1000)
FULL = MegatronRun(length=256, multiple=1)
LORA = replace(FULL, lora=8)
# qkv 64 to 128, proj 64 to 64, fc1 64 to 256, fc2 128 to 64, of two layers
LINEARS = ((64, 128), (64, 64), (64, 256), (128, 64))


def of(model, run):
    return StageNumbers(model, run, 0)


def test_a_linear_has_r_times_its_sides():
    assert sum(of(MODEL, LORA).trained(LORA)) == 2 * 8 * sum(i + o for i, o in LINEARS)
    some = replace(LORA, targets=("qkv",))
    assert sum(of(MODEL, some).trained(some)) == 2 * 8 * (64 + 128)


def test_tensor_ranks_share_out_what_they_share_out_of_the_linear():
    """Columns keep A whole, rows keep B."""
    cut = replace(LORA, tensor=2)
    each = (64 + 64) + (32 + 64) + (64 + 128) + (64 + 64)
    assert sum(of(MODEL, cut).trained(cut)) == 2 * 8 * each


def test_each_expert_has_its_own():
    routed = replace(MODEL, experts=RoutedFeed(count=4, top=2, width=32))
    numbers = of(routed, LORA).trained(LORA)
    assert numbers[1] == 2 * 4 * 8 * ((64 + 64) + (32 + 64))
    assert numbers[0] == 2 * 8 * ((64 + 128) + (64 + 64))


def test_what_is_frozen_has_weights_alone():
    """2 bytes a number; 4 and 12 of what is trained."""
    trained = sum(of(MODEL, LORA).trained(LORA))
    full, lora = run_stage(MODEL, FULL, 0), run_stage(MODEL, LORA, 0)
    assert lora.parameters == full.parameters + trained
    live = lora.moments["step"].live
    assert live["weights"] == 2 * lora.parameters
    assert live["gradients"] == 4 * trained
    assert live["optimizer_states"] == 12 * trained


def test_adapters_keep_r_numbers_a_token():
    found = adapters.kept(MODEL, LORA, [0, 1]).bytes
    assert found.low == found.expected == 2 * 256 * 8 * 4 * 2
    assert found.high == found.low + 2 * 256 * 256  # the output of fc1
    again = adapters.kept(MODEL, replace(LORA, recompute="uniform"), [0, 1]).bytes
    assert again.low == found.low // 2
    dropped = adapters.kept(MODEL, replace(LORA, adapter_dropout=True), [0, 1]).bytes
    assert dropped.high == found.high + 2 * 2 * 256 * sum(i for i, _ in LINEARS)


def test_an_adapter_of_experts_keeps_r_numbers_of_each_copy():
    """A token goes to two of four: attention's two linears read it once, experts' two twice."""
    routed = replace(MODEL, experts=RoutedFeed(count=4, top=2, width=32))
    assert adapters.kept(routed, LORA, [0]).bytes.low == 2 * 256 * 8 * (2 + 2 * 2)


def test_ms_swifts_rank_is_8():
    assert adapters.settings(Train(method="lora"))["lora"] == 8
    assert adapters.settings(Train(method="full")) == {}


@pytest.mark.parametrize(("targets", "numbers"), [(None, 832), (["q_proj", "v_proj"], 192)])
def test_it_is_answered_and_said(targets, numbers):
    asked = {"framework": "megatron", "method": "lora", "lora_r": 4, "seq_len": 64}
    if targets:
        asked["lora_targets"] = targets
    found = weighbridge.train({**LLAMA, "torch_dtype": "bfloat16"}, offline=True, **asked)
    assert found.workload["method"] == "lora"
    assert found.workload["lora_r"] == 4
    assert found.derived["trainable_parameters"] == 2 * 4 * numbers
    assert any("no published run of it was compared" in said for said in found.warnings)

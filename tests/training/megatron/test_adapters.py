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


SWIFT = {
    "framework": "megatron",
    "method": "lora",
    "lora_r": 32,
    "shard": "zero1",
    "seq_len": 8192,
    "expert_parallel_size": 4,
    "expandable_segments": True,
    "gpu": "h100-sxm:4",
}
PACKED = [
    "hidden_dropout=0.0",
    "attention_dropout=0.0",
    "no_create_attention_mask_in_dataloader",
    "attention_backend=flash",
    "cross_entropy_loss_fusion",
    "sequence_parallel",
    "recompute_granularity=full",
    "recompute_method=uniform",
    "recompute_num_layers=1",
    "moe_permute_fusion",
    "moe_grouped_gemm",
    "moe_token_dispatcher_type=alltoall",
]
# Model, what its script has beside, and the GiB of a card that modelscope/ms-swift 3602360a prints:
# examples/train/cached_dataset/mcore.sh, examples/megatron/lora/mtp.sh
PRINTED = [
    ("qwen3-30b-a3b", {"megatron_args": PACKED}, 48),
    (
        "glm-4.5-air",
        {
            "megatron_args": [*PACKED, "mtp_num_layers=1", "expert_tensor_parallel_size=1"],
            "lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj"],
            "tensor_parallel_size": 4,
        },
        70,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "beside", "printed"), PRINTED)
def test_runs_of_experts_with_adapters_are_within(model, beside, printed):
    peak = weighbridge.train(model, offline=True, **SWIFT, **beside).devices[0].peak("driver")
    assert peak.low < printed * 2**30 < peak.high


ROUTED = {
    "architectures": ["MixtralForCausalLM"],
    **LLAMA,
    "torch_dtype": "bfloat16",
    "model_type": "mixtral",
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}
DENSE = {**LLAMA, "torch_dtype": "bfloat16"}


def kept_free(model, method):
    """The most that the allocator keeps of forward beyond what is usual, as a share of it."""
    asked = {"framework": "megatron", "method": method, "seq_len": 512, "gpu": "h100-sxm"}
    found = weighbridge.train(model, offline=True, expandable_segments=True, **asked).devices[0]
    parts = next(p for p in found.phases if p.name == "forward").components
    held = next(c.bytes for c in parts if c.name == "fragmentation" and "replay" in c.formula)
    more = held.high - held.expected
    return more / sum(c.bytes.expected for c in parts if c.level == "allocated")


def test_a_quarter_is_open_of_experts_with_adapters_alone():
    assert kept_free(ROUTED, "lora") == pytest.approx(0.25 - 0.035, rel=0.01)
    assert kept_free(ROUTED, "full") == pytest.approx(0.06 - 0.035, rel=0.01)
    assert kept_free(DENSE, "lora") == pytest.approx(0.05 - 0.015, rel=0.01)

"""Gated delta nets in Megatron, in place of the attention of most layers.

Bytes are added up by hand, numbers are those of the classes, and peaks are those that scripts of
ms-swift have in their first lines."""

import pytest

import weighbridge
from tests.training.megatron.runs import EXPERTS, LLAMA, PLAIN, kept
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.units import GIB
from weighbridge.files.runfiles import read
from weighbridge.models.arch.mixers import GatedDelta
from weighbridge.training.megatron.stage import run_stage
from weighbridge.training.megatron.states import StageNumbers

D, T = 256, 512  # width, tokens
NET = GatedDelta(key_heads=4, value_heads=8, key_dim=16, value_dim=32, kernel=4)
KEYS, VALUES, HEADS = 4 * 16, 8 * 32, 8
MIXED = replace(
    LLAMA, delta=NET, deltas=frozenset((0, 1, 2, 4, 5, 6)), gated_attention=True, qk_norm=True
)
CHANNELS = 2 * KEYS + VALUES
ROWS = CHANNELS + VALUES + 2 * HEADS
FEED = 3 * D * 512  # with a gate
DELTA = D * ROWS + VALUES * D + CHANNELS * 4 + 2 * HEADS + 32 + 2 * D + FEED
ATTENTION = D * (2 * 8 + 2 * 2) * 32 + D * 8 * 32 + 2 * 32 + 2 * D + FEED


def numbers(model, **changes):
    run = replace(PLAIN, **changes)
    return [StageNumbers(model, run, i) for i in range(run.pipeline)]


def test_numbers_of_each_kind_of_layer():
    (found,) = numbers(MIXED)
    assert found.layers == [*[DELTA] * 3, ATTENTION, *[DELTA] * 3, ATTENTION]


def test_experts_come_after_either():
    model = replace(MIXED, experts=replace(EXPERTS.experts, shared=64, scored=True))
    (found,) = numbers(model)
    routed = 8 * 3 * D * 256 + 3 * D * 64 + (8 + 1) * D
    assert found.layers[0] == DELTA - FEED + routed
    assert found.layers[3] == ATTENTION - FEED + routed


def test_tensor_ranks_share_heads_and_channels():
    (whole,), (half,) = numbers(MIXED), numbers(MIXED, tensor=2)
    whole_on_each = 2 * D + 32
    assert 2 * (half.layers[0] - whole_on_each) == whole.layers[0] - whole_on_each


MIXER = (
    2 * D * T + 4 * T + 2 * D * T  # the input, its deviations, and the norm's output
    + 2 * CHANNELS * T  # the convolution's input
    + 2 * (2 * KEYS + 4 * 4) * T  # queries and keys before their norm, and deviations
    + 2 * 2 * HEADS * 16 * T  # both for each value head
    + 2 * VALUES * T  # values
    + (4 + 4 + 2) * HEADS * T  # decays: what they were made of, and summed up; betas
    + 2 * HEADS * 64 * T  # a matrix of each 64 tokens
    + 2 * VALUES * T + 2 * VALUES * T + 4 * HEADS * T  # the output, its gate, deviations
    + 2 * VALUES * T  # their product
)  # fmt: skip


def test_what_a_gated_delta_net_keeps():
    """Of a layer that is one instead of attention, whose part is known from other tests."""
    attention = replace(MIXED, layers=9, deltas=MIXED.deltas)
    net = replace(attention, deltas=MIXED.deltas | {8})
    heads, groups = 8 * 32, 2 * 32
    without = (
        2 * D * T + 4 * T + 2 * D * T  # the norm, as above
        + 2 * 2 * (heads + groups) * T + 4 * 2 * T  # before norms and turned; deviations
        + 2 * groups * T  # values, of which the kernel has a copy
        + 2 * heads * T + 4 * 8 * T  # the output, a float32 per head
        + 2 * heads * T + 2 * heads * T  # the gate, and the product
    )  # fmt: skip
    assert kept(net) - kept(attention) == MIXER - without


def test_a_backward_has_two_states_of_each_chunk():
    """States of wide keys and values beside which all else is small."""
    wide, less = (replace(MIXED, delta=replace(NET, key_dim=n)) for n in (2048, 1024))
    found, other = (run_stage(m, PLAIN, 0).moments["backward"].live for m in (wide, less))
    more = found["temporaries"] - other["temporaries"]
    states = 2 * (T // 64) * HEADS * 1024 * 32
    keys = 2 * T * HEADS * 1024  # of value heads: of chunks twice, and three gradients
    before = 2 * T * 2 * 4 * 1024  # the convolution once more, and the first linear's gradient
    assert more == 2 * states + 5 * keys + 2 * before


def test_ranks_share_heads_of_keys():
    with pytest.raises(UsageError, match="16 heads"):
        weighbridge.train(
            "qwen3.5-35b-a3b", framework="megatron", gpu="h200:32", tensor_parallel_size=32
        )


@pytest.mark.slow
@pytest.mark.parametrize("model", ["qwen3-next-80b-a3b", "qwen3.5-35b-a3b", "qwen3.5-4b"])
def test_numbers_are_those_of_the_class(model):
    """A model whose numbers differ from GPTModel's is refused."""
    found = weighbridge.train(model, framework="megatron", gpu="h200:8", shard="zero1")
    assert found.derived["trainable_parameters"] <= found.model.parameters


SCRIPT = """NPROC_PER_NODE=8 megatron sft --model Qwen/Qwen3-Next-80B-A3B-Instruct --tuner_type lora
--lora_rank 8 --target_modules all-linear --dataset d.jsonl --expert_model_parallel_size 4
--moe_permute_fusion true --moe_grouped_gemm true --moe_shared_expert_overlap true
--recompute_granularity full --recompute_method uniform --recompute_num_layers 1
--cross_entropy_loss_fusion true --sequence_parallel true --attention_backend flash
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "gib"),
    [  # modelscope/ms-swift examples/models/qwen3_next: mcore.sh, mtp.sh, non_padding_free.sh
        (
            "--packing true --tensor_model_parallel_size 2 --micro_batch_size 1 --max_length 4096",
            56,
        ),
        ("--mtp_num_layers 1 --micro_batch_size 2 --max_length 2048", 60),
        ("--micro_batch_size 2 --max_length 2048 --padding_free false", 64),
    ],
)
def test_what_scripts_say_lies_within(more, gib):
    (run,) = read(SCRIPT.replace("\n", " ") + more, "run.sh").runs
    assert not run.refused
    found = weighbridge.train(run.model, gpu="a100-80gb:8", **run.settings)
    assert found.peak.low <= gib * GIB <= found.peak.high
    assert found.peak.expected == pytest.approx(gib * GIB, rel=0.15)

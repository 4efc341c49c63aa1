"""What vLLM keeps beside weights and caches, by hand: buffers of classes, graphs, communicators."""

from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.units import MIB
from weighbridge.engines.vllm import effective, graphs, outside_torch, weights
from weighbridge.engines.vllm.rules import rules
from weighbridge.models.arch.body import Dense, LayerBlock
from weighbridge.models.arch.mixers import Attention, Latent


def subject(raw, *, towers=True):
    """Three layers of a model of 64 numbers; its config."""
    whole = raw.get("thinker_config", raw)
    return SimpleNamespace(
        raw=raw,
        text=whole.get("text_config", whole),
        layers=range(3),
        body=SimpleNamespace(hidden=64, towers=towers),
        choice=SimpleNamespace(dtype=BFLOAT16),
    )


DEEP = {"text_config": {}, "vision_config": {"deepstack_visual_indexes": [5, 11, 17]}}


@all_of(
    ("raw", "towers", "sizes"),
    [
        (DEEP, True, (10 * 64 * 2,) * 3),  # hidden states a level (qwen3_vl.py)
        ({"thinker_config": DEEP}, True, (10 * 64 * 2,) * 3),  # qwen3_omni_moe_thinker.py
        (DEEP, False, ()),
        # three layers' slices (gemma4_mm.py); the class without towers has no buffer
        ({"text_config": {"hidden_size_per_layer_input": 256}}, True, (10 * 3 * 256 * 2,)),
        ({"hidden_size_per_layer_input": 256}, False, ()),
        ({"index_topk": 2048}, False, (10 * 2048 * 4,)),  # int32 (deepseek_v2.py)
        ({"index_topk": None}, False, ()),
    ],
)
def test_buffers_of_a_batch_of_ten_tokens(raw, towers, sizes):
    assert weights.batch_buffers(subject(raw, towers=towers), 10) == sizes


def test_slices_live_through_all_layers():
    assert weights.elements_through(subject({"hidden_size_per_layer_input": 256})) == 3 * 256
    assert weights.elements_through(subject({})) == 0


def test_a_whole_video_of_gemma_4():
    """32 frames of 70 soft tokens, two marks and a time of six (gemma4_mm.py)."""
    assert effective.VIDEO == 2496


def test_matrices_that_are_unpacked():
    """The widest feed-forward has them: gate, up and down; 100 columns on eight ranks are 13."""
    gated = LayerBlock(mixers=(), feeds=(Dense(width=100, gated=True),))
    plain = LayerBlock(mixers=(), feeds=(Dense(width=100, gated=False),))
    assert graphs.unpacked((plain, gated), 64, 8) == 3 * 64 * 13
    assert graphs.unpacked((plain,), 64, 8) == 2 * 64 * 13
    assert graphs.unpacked((), 64, 8) == 0


def test_splits_of_attention():
    """flash_attn_max_num_splits_for_cuda_graph: 32 parts in float32 of the heads of a rank."""
    plain = Attention(heads=8, kv_heads=8, key_dim=128, value_dim=64)
    latent = Latent(heads=8, rank=512, rotary=64, nope=128, value_dim=128)
    for m, width in ((plain, 64), (latent, 512)):
        found = graphs.splits((LayerBlock(mixers=(m,)),), 10, 2)
        assert found == 32 * 10 * 4 * width * 4


@all_of(
    ("tensor", "pipeline", "data", "experts", "count"),
    [
        (1, 1, 1, True, 0),
        (2, 1, 1, False, 2),
        (1, 2, 1, False, 2),
        (1, 1, 2, False, 2),
        (2, 1, 1, True, 3),
        (1, 2, 1, True, 2),  # experts share no group of a pipeline
        (2, 2, 1, False, 3),
        (2, 2, 2, True, 5),
    ],
)
def test_communicators_before_the_first_look(tensor, pipeline, data, experts, count):
    """Two of a group of tensor parallelism, one of each other, and two at least: each 12 to 640
    MiB where no card was named."""
    at = SimpleNamespace(tensor=tensor, pipeline=pipeline, data=data)
    found = outside_torch.first_communicators(at, None, experts=experts)
    assert found == tuple(count * n * MIB for n in (12, 520, 640))


def test_sums_of_ranks_by_release():
    """MiB beyond the first communicators, at least, usually and at most (published logs)."""
    old, new = (outside_torch.collectives(rules(v)) for v in ((0, 11), (0, 33)))
    assert (old.most, new.most) == ((300, 430, 2300), None)
    assert (old.scatter, new.scatter) == (0, 16 * MIB)
    assert old.plain == new.plain == (40, 160, 560)
    assert [new.switched[n][1] for n in (2, 4, 8)] == [1780, 1930, 2150]


@pytest.mark.parametrize(
    ("raw", "towers", "least", "most_"),
    [
        # MiB beyond all else that NVML showed with vLLM 0.23 and 0.26 (AgileRL/AgileRL,
        # tools/memory_profiling): language models up to 0.2 GiB, Gemma 4 E2B and E4B 610 to 690
        ({}, False, 0, 200),
        ({"text_config": {"hidden_size_per_layer_input": 256}}, True, 610, 690),
    ],
)
def test_the_pool_of_sleep_mode_covers_what_was_measured(raw, towers, least, most_):
    low, expected, high = outside_torch._pool(subject(raw, towers=towers))
    assert low <= least * MIB < most_ * MIB <= high
    assert low <= expected <= high
    assert high <= (most_ + 100) * MIB


def test_weights_that_are_packed_anew_leave_a_layers_at_most_five():
    """A layer's of four of 100 bytes each is 200, and at least none."""
    tensors = tuple(
        SimpleNamespace(nbytes=50, copies=2, module=f"model.layers.{i}.mlp") for i in range(4)
    )
    rank = SimpleNamespace(layers=range(2), tensors=tensors)
    packed = SimpleNamespace(
        choice=SimpleNamespace(scheme="awq"), part=SimpleNamespace(packed=False)
    )
    assert outside_torch._repacked(packed, rank) == (0, 200, 1000)
    plain = SimpleNamespace(choice=SimpleNamespace(scheme=None), part=SimpleNamespace(packed=False))
    assert outside_torch._repacked(plain, rank) == (0, 0, 0)
    stored = SimpleNamespace(choice=SimpleNamespace(scheme=None), part=SimpleNamespace(packed=True))
    assert outside_torch._repacked(stored, rank) == (0, 200, 1000)

"""How close a verdict is, what tips it and how many nodes it is of: by hand, and as laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weighbridge
from tests.cases import all_of
from weighbridge.answers.estimate import train
from weighbridge.answers.verdict.closeness import passes, share, tight
from weighbridge.answers.verdict.on_devices import fits
from weighbridge.base.memory import Bytes, exactly
from weighbridge.machines.accelerators.machines import machine, nodes
from weighbridge.machines.accelerators.names import find

LLAMA = "llama-3.1-8b"  # 8,030,261,248 parameters, 14.957 GiB in bfloat16
intervals = st.lists(st.integers(0, 1000), min_size=3, max_size=3).map(lambda b: Bytes(*sorted(b)))


# The share of the interval


@all_of(
    ("needed", "usable", "expected"),
    [
        (Bytes(10, 20, 40), exactly(40), 1.0),
        (Bytes(10, 20, 40), exactly(9), 0.0),
        (Bytes(10, 20, 40), exactly(20), 0.5),  # as often above what is expected as below it
        (Bytes(10, 20, 40), exactly(15), 0.25),
        (Bytes(10, 20, 40), exactly(30), 0.75),
        (Bytes(10, 10, 30), exactly(10), 0.5),  # as low as expected
        (Bytes(10, 10, 30), exactly(20), 0.75),
        (exactly(20), Bytes(10, 20, 40), 0.5),  # half of such cards have that much
        (Bytes(10, 20, 30), Bytes(10, 20, 30), 0.5),
    ],
)
def test_shares_by_hand(needed, usable, expected):
    assert share(needed, usable) == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
@given(intervals, intervals)
def test_the_share_is_one_where_it_fits_and_none_where_it_does_not(needed, usable):
    found = share(needed, usable)
    answer = fits(needed, usable)
    assert 0 <= found <= 1
    assert (answer == "yes") <= (found == 1)
    assert (answer == "no") <= (found == 0)


@pytest.mark.slow
@given(intervals, intervals, st.integers(0, 100))
def test_more_room_is_never_a_smaller_share(needed, usable, more):
    roomier = Bytes(*(b + more for b in usable))
    assert share(needed, roomier) >= share(needed, usable) - 1e-9


def test_amber_is_under_a_tenth():
    assert tight(999, 10_000)
    assert not tight(1000, 10_000)
    wide = weighbridge.load(LLAMA, gpu="4090").verdict
    close = weighbridge.load(LLAMA, gpu_memory="16GiB").verdict
    assert (wide.fits, wide.tight) == ("yes", False)
    assert (close.fits, close.tight) == ("yes", True)


# What tips it over


@all_of(
    ("parts", "limit", "name"),
    [
        ((("weights", 90), ("context", 5)), 80, "weights"),
        ((("weights", 78), ("context", 5)), 80, "weights"),  # the context was there before
        ((("weights", 70), ("kv_cache", 20), ("context", 5)), 80, "kv_cache"),
        ((("kv_cache", 20), ("weights", 70), ("context", 5)), 80, "kv_cache"),
        ((("activations", 50), ("weights", 20), ("gradients", 20)), 80, "activations"),
        ((("activations", 50), ("weights", 20), ("optimizer_states", 70)), 80, "optimizer_states"),
        ((("weights", 70), ("fragmentation", 9), ("context", 5)), 80, "fragmentation"),
        ((("weights", 40), ("weights", 41)), 80, "weights"),
        ((("context", 90),), 80, "context"),
        ((("weights", 80), ("logits", 0)), 80, None),
    ],
)
def test_what_tips_by_hand(parts, limit, name):
    assert passes(parts, limit) == name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "settings", "name"),
    [
        ("load", {"gpu": "3060"}, "weights"),
        ("infer", {"gpu": "4090", "context": 100_000}, "kv_cache"),
        ("train", {"gpu": "h100"}, "optimizer_states"),
        (
            "train",
            {"gpu": "3060", "method": "qlora", "framework": "trainer", "seq_len": 8192},
            "activations",
        ),
        # 29.9 GiB of weights, as much of gradients, and DDP's buckets of them: 89.7 of 79.2
        ("train", {"gpu": "h100:8", "shard": "ddp"}, "gradients"),
    ],
)
def test_the_component_that_tips(task, settings, name):
    found = getattr(weighbridge, task)(LLAMA, **settings)
    assert (found.verdict.fits, found.verdict.tipped_by) == ("no", name)
    assert found.to_dict()["verdict"]["tipped_by"] == name


@pytest.mark.slow
def test_a_share_of_the_card_that_is_too_small_lacks_its_cache():
    asked = {"engine": "vllm", "gpu": "4090", "context": 8192}
    little = weighbridge.infer("qwen3-8b", **asked, gpu_memory_utilization=0.7).verdict
    less = weighbridge.infer("qwen3-8b", **asked, gpu_memory_utilization=0.5).verdict
    assert (little.fits, little.tipped_by, little.share_that_fits) == ("no", "kv_cache", 0.0)
    assert (less.fits, less.tipped_by) == ("no", "weights")


def test_the_host_is_named_by_its_component():
    found = weighbridge.load(LLAMA, dtype="float32", gpu="a100-80gb", ram="16GiB").verdict
    assert (found.fits, found.host.fits, found.tipped_by) == ("no", "no", "weights")
    assert found.host.tipped_by == "weights"
    assert (found.share_that_fits, found.tight) == (0.0, False)


def test_what_is_not_counted_has_no_share():
    found = weighbridge.infer("hubert-base", gpu="4090").verdict
    assert (found.fits, found.share_that_fits) == ("unknown", None)


# Several machines


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ("h100", 1),
        ("h100:8", 1),
        ("h100:16", 2),
        ("h100:17", 3),
        ("h200:16", 2),
        ("gb200:8", 2),
        ("mi300x:16", 2),
        ("4090:16", 1),  # no rule says
        ("m3 max 64gb", 1),
    ],
)
def test_nodes(gpu, expected):
    found = weighbridge.load("qwen3-0.6b", gpu=gpu).verdict
    assert found.nodes == expected
    count, part = found.count, find(gpu).part
    assert nodes(part, count) == expected
    one = machine(part)
    assert one is None or one.source


@pytest.mark.slow
def test_two_nodes_say_so():
    found = weighbridge.train(LLAMA, gpu="h100:16", shard="fsdp2").verdict
    assert "16 are 2 nodes of 8" in found.reason
    assert "nodes" not in weighbridge.train(LLAMA, gpu="h100:8", shard="fsdp2").verdict.reason


@pytest.mark.slow
def test_four_cards_are_no_larger_card():
    """131 GiB of weights: 94 GiB would not do either, but no card has more than its own."""
    for found in (
        weighbridge.load("llama-3.1-70b", gpu="4090:4").verdict,
        weighbridge.infer("llama-3.1-70b", gpu="4090:4").verdict,
    ):
        assert "on each of 4; each card has 23.5 GiB" in found.reason
        assert "4 x 23.52 GiB is not 94.07 GiB" in found.reason


# Blocks that nothing lives in


@pytest.mark.slow
def test_torch_gives_free_blocks_back_before_a_run_dies(monkeypatch):
    """What the card would show at most is above it; the run comes to its end in less."""
    asked = {"precision": "bf16", "gradient_accumulation": 16, "seq_len": 2560}
    asked |= {"checkpointing": "full", "gpu": "nvidia-h100-pcie-80gb", "optimizer": "adamw_torch"}
    again = weighbridge.train("qwen2.5-7b", **asked).verdict
    monkeypatch.setattr(train, "_given_back", lambda found, *beside: found)
    once = weighbridge.train("qwen2.5-7b", **asked).verdict
    assert (again.fits, once.fits) == ("yes", "unknown")
    assert again.per_device.high <= again.usable.low < once.per_device.high
    assert again.per_device.low == pytest.approx(once.per_device.low, rel=1e-3), "as large tensors"

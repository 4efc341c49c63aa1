"""A heap by hand: what lives together, the fullest moment, and what the allocator has for it."""

import pytest

from weighbridge.base.units import MIB
from weighbridge.memory.components.activations import Heap
from weighbridge.memory.components.counted import CountedHeap


def test_the_fullest_moment_and_what_it_was_made_of():
    heap = Heap()
    weights = heap.take(1000, "weights")
    heap.passing(3000, 5000)
    heap.drop(heap.take(7000, "logits"))
    peak = heap.phase()
    assert peak.live == {"weights": 1000, "activations": 8000}
    assert peak.allocated == 1024 + 3072 + 5120, "blocks of 512 bytes"
    assert peak.rounding == 24 + 72 + 120
    assert (peak.reserved, peak.fragmentation) == (2 * MIB, 2 * MIB - 9216)
    heap.drop(weights)
    assert heap.phase().live == {"weights": 1000}, "what was alive when the phase began"
    assert heap.phase().live == {}


def test_a_moment_that_is_as_full_as_one_before_is_not_fuller():
    heap = Heap()
    heap.passing(512, name="first")
    heap.passing(512, name="second")
    assert heap.phase().live == {"first": 512}
    assert heap.most == 0


def test_a_result_stands_beside_its_inputs():
    heap = Heap()
    heap.into(2048, heap.take(1024, "weights"), heap.take(512, "logits"))
    assert heap.most == 2048 + 1024 + 512
    assert (heap.live("activations"), heap.live("weights"), heap.live("logits")) == (2048, 0, 0)
    assert heap.live("gradients") == 0


def test_another_name_is_another_component_and_no_other_bytes():
    heap = Heap()
    held = heap.rename(heap.take(1000), "gradients")
    assert (heap.live("activations"), heap.live("gradients")) == (0, 1000)
    heap.rename(heap.take(500), "gradients")
    assert heap.live("gradients") == 1500
    heap.drop(held)
    assert heap.live("gradients") == 500


def test_many_small_tensors_are_asked_for_as_they_are():
    """3 x 700 KiB: each request below kSmallSize, 1 MiB, so one to a segment of 2 MiB for two."""
    heap = Heap()
    held = heap.many(3, 700 * 1024, "weights")
    assert heap.live("weights") == held.total == 3 * 700 * 1024
    assert heap.allocator.allocated == 3 * 700 * 1024
    assert heap.allocator.reserved == 4 * MIB
    assert held.spare == 0
    heap.drop(held)
    assert (heap.live("weights"), heap.allocator.allocated) == (0, 0)


def test_so_many_as_fit_in_a_small_request_are_asked_for_at_once():
    """300 KiB: three in 1 MiB, so five of them are requests of three and of two."""
    heap = Heap()
    held = heap.many(5, 300 * 1024)
    sizes = [block.size for block in (held.block, *held.others)]
    assert sizes == [900 * 1024, 600 * 1024]
    assert heap.allocator.allocated == 1500 * 1024


def test_many_large_ones_are_one_block_as_large_as_their_segments():
    """13 x 5 MiB are more than 64 MiB: segments of 20 MiB hold four each, so four segments of 80
    MiB, of which 65 MiB are theirs. Rounding counts as what is allocated."""
    heap = Heap()
    held = heap.many(13, 5 * MIB - 100)
    assert held.others == ()
    assert held.total == 13 * (5 * MIB - 100)
    assert heap.allocator.reserved == 80 * MIB
    assert heap.allocator.allocated == 65 * MIB
    assert held.spare == 15 * MIB
    assert heap.phase().rounding == 13 * 100
    heap.drop(held)
    assert heap.allocator.allocated == 0


def test_up_to_64_mib_they_are_asked_for_one_by_one():
    heap = Heap()
    assert len(heap.many(64, MIB).others) == 63
    assert heap.many(65, MIB).others == ()


def test_again_is_one_or_many():
    heap = Heap()
    assert heap.again(1024, "weights", 3, 1).block.stream == 3
    assert heap.again(1024, "weights", 0, 4).alike == 4


def test_changes_that_somebody_else_made():
    heap = Heap()
    heap.take(1000, "weights")
    heap.filled(9999, {"weights": -200, "logits": 30})
    assert heap.phase().live == {"weights": 800, "logits": 30}
    heap.changed({"weights": 7, "logits": 3})
    assert (heap.live("weights"), heap.live("logits")) == (1007, 3)


@pytest.mark.parametrize("kind", [Heap, CountedHeap])
@pytest.mark.parametrize("passed", [0, 4 * MIB])
def test_a_row_of_tensors_is_taken_one_by_one(kind, passed):
    """Also where the fullest moment was before."""
    peaks = []
    for in_a_row in (True, False):
        heap = kind()
        heap.passing(passed, name="logits")
        sizes = [700, 2 * MIB, 0, 300_000]
        names = heap.row(iter(sizes), "weights") if in_a_row else [heap.take(n) for n in sizes]
        held = names if in_a_row else [heap.rename(tensor, "weights") for tensor in names]
        assert [(t.name, t.nbytes) for t in held] == [("weights", n) for n in sizes]
        first = heap.phase()
        heap.drop(*held)
        last = heap.phase()
        peaks.append((first.allocated, first.reserved, last, heap.phase()))
    assert peaks[0] == peaks[1]
    assert peaks[0][0] == max(passed, 1024 + 2 * MIB + 300_032)


@pytest.mark.parametrize("kind", [Heap, CountedHeap])
def test_a_row_of_none_leaves_the_order_of_components(kind):
    heap = kind()
    assert heap.row((), "weights") == ()
    heap.take(512, "buffers")
    heap.row([512], "weights")
    assert list(heap.phase().live) == ["buffers", "weights"]


def test_what_is_cached_goes_back_to_the_driver():
    heap = Heap()
    kept = heap.take(30 * MIB)
    heap.passing(50 * MIB)
    assert heap.allocator.reserved == 80 * MIB
    heap.emptied()
    assert heap.allocator.reserved == 30 * MIB
    heap.drop(kept)
    assert heap.allocator.peak_reserved == 80 * MIB

"""What bends the allocator, worked by hand: options, full cards, streams and private pools."""

import pytest

from tests.allocator.programs import memory_stats
from weighbridge.base.errors import UsageError
from weighbridge.base.units import MIB
from weighbridge.machines.allocator import (
    Allocator,
    AllocatorOptions,
    Journal,
    OutOfMemoryError,
    every,
)
from weighbridge.machines.allocator.snapshot import segments

EXPANDABLE = AllocatorOptions(expandable_segments=True)


def made(*sizes, options=None, **more):
    """An allocator that counts, after requests of `sizes` MiB; and their blocks."""
    allocator = Allocator(options or AllocatorOptions(), journal=Journal(), **more)
    return allocator, [allocator.malloc(n * MIB) for n in sizes]


def stats(allocator):
    return memory_stats(allocator.journal)


# Expandable segments


def test_a_stream_that_uses_both_pools_maps_22_mib():
    allocator, _ = made(options=EXPANDABLE)
    allocator.malloc(1)
    assert allocator.reserved == 2 * MIB
    allocator.malloc(2 * MIB)
    assert allocator.reserved == 22 * MIB
    allocator.malloc(1, stream=5)
    assert allocator.reserved == 24 * MIB  # a range of its own


def test_tensors_lie_end_to_end_across_pages():
    # 8.3125 MiB each: by default two to a segment of 20 MiB; 58.19 MiB of them fill three pages
    default, expandable = Allocator(), Allocator(EXPANDABLE)
    for _ in range(7):
        default.malloc(896 * 4864 * 2)
        expandable.malloc(896 * 4864 * 2)
    assert (default.reserved, expandable.reserved) == (80 * MIB, 60 * MIB)


def test_a_tail_of_half_a_kib_is_split_off_in_large_pages():
    allocator, (block,) = made(20, options=EXPANDABLE)
    assert block.size == 20 * MIB
    allocator.free(block)
    again = allocator.malloc(20 * MIB - 512)
    assert (again.size, allocator.allocated) == (20 * MIB - 512, 20 * MIB - 512)


def test_whole_free_pages_go_back():
    allocator, blocks = made(30, 25, 5, options=EXPANDABLE)  # 60 MiB: three pages
    allocator.free(blocks[1])  # from 30 to 55: no page lies inside
    allocator.empty_cache()
    assert allocator.reserved == 60 * MIB
    allocator.free(blocks[0])  # from 0 to 55: two do
    allocator.empty_cache()
    assert allocator.reserved == 20 * MIB
    assert [s.size for s in segments(allocator)] == [20 * MIB]
    assert allocator.malloc(30 * MIB).address == blocks[0].address  # the lowest place
    assert allocator.reserved == 60 * MIB  # two pages for 30 MiB: a page is mapped whole


def test_a_range_that_is_empty_is_no_more():
    allocator, (block,) = made(30, options=EXPANDABLE)
    allocator.free(block)
    allocator.empty_cache()
    assert (allocator.reserved, segments(allocator)) == (0, ())


def test_pages_of_another_size():
    allocator, _ = made(
        2, options=AllocatorOptions(expandable_segments=True, large_segment_size_mb=32)
    )
    assert allocator.reserved == 32 * MIB


# max_split_size


def test_an_oversize_block_is_not_split():
    allocator, (block,) = made(60, options=AllocatorOptions(max_split_size_mb=40))
    allocator.free(block)
    assert allocator.malloc(50 * MIB).size == 60 * MIB  # within 20 MiB: taken whole
    assert allocator.allocated == allocator.reserved == 60 * MIB


def test_an_oversize_block_serves_neither_small_wishes_nor_much_smaller_ones():
    allocator, (block,) = made(60, options=AllocatorOptions(max_split_size_mb=40))
    allocator.free(block)
    allocator.malloc(39 * MIB)
    assert allocator.reserved == (60 + 40) * MIB
    allocator.malloc(40 * MIB)  # 60 is not below 40 + 20
    assert allocator.reserved == (60 + 40 + 40) * MIB


def test_only_as_many_oversize_blocks_go_back_as_are_needed():
    allocator, blocks = made(
        50, 60, 70, 15, options=AllocatorOptions(max_split_size_mb=40), capacity=250 * MIB
    )
    for block in blocks:
        allocator.free(block)
    allocator.malloc(120 * MIB)  # 195 + 120 > 250; no block holds 120, so the 70 and the 60 go
    assert allocator.reserved == (50 + 16 + 120) * MIB
    assert stats(allocator)["num_alloc_retries"] == 0
    assert stats(allocator)["oversize_segments.current"] == 2


# Rounding


def test_requests_of_nearly_one_size_share_a_block():
    allocator, _ = made(options=AllocatorOptions(roundup_power2_divisions=every(4)))
    first = allocator.malloc(33 * MIB)
    assert first.size == 40 * MIB
    allocator.free(first)
    assert allocator.malloc(37 * MIB).address == first.address
    assert stats(allocator)["requested_bytes.all.current"] == 37 * MIB


# A full card


def test_the_cache_is_flushed_before_giving_up():
    allocator, blocks = made(60, 30, capacity=100 * MIB)
    allocator.free(blocks[0])
    allocator.malloc(70 * MIB)  # 90 + 70 > 100: the 60 go back
    assert allocator.reserved == 100 * MIB
    assert (stats(allocator)["num_alloc_retries"], stats(allocator)["num_ooms"]) == (1, 0)


def test_a_segment_in_use_anywhere_stays():
    allocator, blocks = made(12, 12, 5, 5, capacity=48 * MIB)
    for block in (blocks[0], blocks[2]):
        allocator.free(block)  # of the 20 MiB for the fives only half is free
    with pytest.raises(OutOfMemoryError):
        allocator.malloc(17 * MIB)
    assert allocator.reserved == (12 + 20) * MIB  # the twelve went back all the same


def test_what_is_said_when_it_dies():
    allocator, _ = made(30, 3, capacity=64 * MIB, card=80 * MIB)
    with pytest.raises(OutOfMemoryError) as died:
        allocator.malloc(25 * MIB + 1)
    report = died.value.report
    assert (report.request, report.requested, report.asked) == (2, 25 * MIB + 1, 26 * MIB)
    assert (report.allocated, report.reserved, report.free) == (33 * MIB, 50 * MIB, 14 * MIB)
    assert str(died.value) == (
        "CUDA out of memory. Tried to allocate 26.00 MiB. GPU 0 has a total capacity of 80.00 MiB "
        "of which 14.00 MiB is free. Of the allocated memory 33.00 MiB is allocated by PyTorch, "
        "and 17.00 MiB is reserved by PyTorch but unallocated."
    )
    assert stats(allocator)["num_ooms"] == 1
    allocator.malloc(10 * MIB)  # and life goes on
    assert allocator.requests == 4


def test_a_fraction_of_the_card():
    allocator, _ = made(
        30, options=AllocatorOptions(per_process_memory_fraction=0.5), capacity=80 * MIB
    )
    with pytest.raises(OutOfMemoryError, match=r"40\.00 MiB allowed; Of the allocated"):
        allocator.malloc(12 * MIB)
    allocator.set_fraction(1.0)
    allocator.malloc(12 * MIB)


def test_old_cached_segments_are_collected():
    options = AllocatorOptions(garbage_collection_threshold=0.5, per_process_memory_fraction=0.5)
    allocator, (old, young) = made(40, 24, options=options, capacity=200 * MIB)
    allocator.free(old)
    for _ in range(5):
        allocator.free(allocator.malloc(1 * MIB + 1))  # nobody wants the 40 MiB
        allocator.free(allocator.malloc(30 * MIB))
    allocator.free(young)
    assert allocator.reserved == (40 + 24) * MIB
    allocator.malloc(45 * MIB)  # 64 of 100 allowed are above half: 14 MiB are to be reclaimed
    assert allocator.reserved <= (24 + 46) * MIB
    assert stats(allocator)["num_alloc_retries"] == 0


# Streams


def test_streams_do_not_share_their_cache():
    allocator, (block,) = made(30)
    allocator.free(block)
    allocator.malloc(30 * MIB, stream=1)
    assert allocator.reserved == 60 * MIB
    assert allocator.malloc(30 * MIB).address == block.address


def test_a_block_that_another_stream_uses_waits_for_it():
    allocator, (block,) = made(30)
    allocator.record_stream(block, 1)
    allocator.free(block)
    now = stats(allocator)
    assert (now["allocated_bytes.all.current"], now["active_bytes.all.current"]) == (0, 30 * MIB)
    assert segments(allocator)[0].blocks[0].state == "active_pending_free"
    other = allocator.malloc(30 * MIB)
    assert allocator.reserved == 60 * MIB
    allocator.synchronize(2)  # not the one
    allocator.free(allocator.malloc(1))
    assert stats(allocator)["active_bytes.all.current"] == 60 * MIB
    allocator.synchronize(1)
    assert allocator.malloc(30 * MIB).address == block.address != other.address


def test_its_own_stream_is_no_reason_to_wait():
    allocator, (block,) = made(30)
    allocator.record_stream(block, 0)
    allocator.free(block)
    assert stats(allocator)["active_bytes.all.current"] == 0


def test_a_retry_waits_for_all_streams():
    allocator, (block,) = made(30, capacity=40 * MIB)
    allocator.record_stream(block, 1)
    allocator.free(block)
    allocator.malloc(36 * MIB)
    assert allocator.reserved == 36 * MIB


# Private pools

GRAPH = (0, 1)


def test_a_graph_keeps_its_high_water_mark():
    allocator, _ = made()
    allocator.begin_pool(GRAPH)
    block = allocator.malloc(30 * MIB)
    allocator.end_pool(GRAPH)
    allocator.free(block)
    allocator.malloc(30 * MIB)
    assert allocator.reserved == 60 * MIB  # not served from the graph's memory
    allocator.empty_cache()
    assert allocator.reserved == 60 * MIB
    assert stats(allocator)["reserved_bytes_by_private_pools.0_1.all.current"] == 30 * MIB
    allocator.release_pool(GRAPH)
    allocator.empty_cache()
    assert allocator.reserved == 30 * MIB
    assert GRAPH not in allocator.captures.pools


def test_two_graphs_may_share_a_pool():
    allocator, _ = made()
    for _ in range(2):
        allocator.begin_pool(GRAPH)
        allocator.free(allocator.malloc(30 * MIB))
        allocator.end_pool(GRAPH)
    assert allocator.reserved == 30 * MIB
    allocator.release_pool(GRAPH)
    allocator.empty_cache()
    assert allocator.reserved == 30 * MIB  # the other one is alive


def test_other_streams_go_on_while_one_is_captured():
    allocator, (block,) = made(30)
    allocator.free(block)
    allocator.begin_pool(GRAPH, frozenset({1}))
    assert allocator.malloc(30 * MIB).address == block.address
    assert allocator.malloc(30 * MIB, stream=1).pool.owner == GRAPH


def test_nothing_goes_back_during_a_capture():
    allocator, (block,) = made(30, capacity=40 * MIB)
    allocator.free(block)
    allocator.begin_pool(GRAPH)
    with pytest.raises(OutOfMemoryError):
        allocator.malloc(20 * MIB)
    allocator.end_pool(GRAPH)
    allocator.begin_pool(GRAPH, capture=False)  # use_mem_pool
    allocator.malloc(20 * MIB)
    assert allocator.reserved == 20 * MIB


def test_what_a_capture_releases_waits_until_it_ends():
    allocator, (block,) = made(30)
    allocator.begin_pool(GRAPH)
    allocator.record_stream(block, 1)  # within the capture: over when it ends
    allocator.free(block)
    allocator.free(allocator.malloc(512))
    assert stats(allocator)["active_bytes.all.current"] == 30 * MIB
    allocator.end_pool(GRAPH)
    allocator.free(allocator.malloc(512))
    assert stats(allocator)["active_bytes.all.current"] == 0


def test_memory_that_a_graph_caches_is_out_of_reach():
    allocator, _ = made(capacity=40 * MIB)
    allocator.begin_pool(GRAPH)
    allocator.free(allocator.malloc(30 * MIB))
    allocator.end_pool(GRAPH)
    with pytest.raises(OutOfMemoryError, match=r"with 30\.00 MiB allocated in private pools"):
        allocator.malloc(20 * MIB)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda a: a.end_pool(GRAPH), "serves no requests"),
        (lambda a: a.release_pool(GRAPH), "no graph uses"),
        (lambda a: a.begin_pool((0, 0)), "the shared pool"),
        (lambda a: [a.begin_pool(GRAPH), a.begin_pool(GRAPH)], "serves requests already"),
    ],
)
def test_captures_out_of_order(wrong, said):
    with pytest.raises(UsageError, match=said):
        wrong(Allocator())


# Counters


def test_resets():
    allocator, (block,) = made(30)
    allocator.free(block)
    allocator.reset_peak()
    assert (allocator.peak_allocated, allocator.peak_reserved) == (0, 30 * MIB)
    assert stats(allocator)["allocated_bytes.all.peak"] == 0
    assert stats(allocator)["allocated_bytes.all.freed"] == 30 * MIB


def test_options_may_change_on_the_way():
    allocator, _ = made(30, options=EXPANDABLE)
    allocator.configure(AllocatorOptions())
    allocator.malloc(10 * MIB)  # the rest of the page, 10 MiB, is expandable: passed over
    assert allocator.reserved == (40 + 10) * MIB
    assert [s.expandable for s in segments(allocator)] == [False, True]  # by address

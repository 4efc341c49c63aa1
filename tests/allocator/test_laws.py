"""Laws of the replay, and a second allocator that is slow and simple: it keeps bytes in a list of
runs, looks at all of them for each request, and knows nothing of the replay's structures."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.allocator.programs import memory_stats
from weighbridge.base.units import MIB, align_up
from weighbridge.machines.allocator import (
    Allocator,
    AllocatorOptions,
    Journal,
    OutOfMemoryError,
    every,
)
from weighbridge.machines.allocator.snapshot import segments

pytestmark = pytest.mark.slow

STREAMS = 3


class Naive:
    """Segments are lists of [size, in use]. Default segments, one pool of small and of large."""

    def __init__(self, *, capacity=None, max_split=1 << 62, rounding=20 * MIB):
        self.segments = []  # [stream, small, runs]
        self.capacity = capacity
        self.max_split = max_split
        self.rounding = rounding

    @property
    def reserved(self):
        return sum(size for _, _, runs in self.segments for size, _ in runs)

    @property
    def allocated(self):
        return sum(size for _, _, runs in self.segments for size, used in runs if used)

    def malloc(self, nbytes, stream):
        """The run that is handed out, or None when there is no more memory."""
        size = max(512, align_up(nbytes, 512))
        small = size <= MIB
        where = self.fit(size, stream, small) or self.new(size, stream, small)
        if where is None:
            return None
        segment, at = where
        runs = segment[2]
        left = runs[at][0] - size
        if left >= 512 if small else (left > MIB and size < self.max_split):
            runs[at : at + 1] = [[size, True], [left, False]]
        else:
            runs[at][1] = True
        return runs[at]

    def fit(self, size, stream, small):
        free = [
            (run[0], n, at)
            for n, (its_stream, its_small, runs) in enumerate(self.segments)
            for at, run in enumerate(runs)
            if (its_stream, its_small, run[1]) == (stream, small, False) and run[0] >= size
        ]
        if not free:
            return None
        found, n, at = min(free)
        limit = self.max_split if size < self.max_split else size + self.rounding
        return (self.segments[n], at) if found < limit else None

    def new(self, size, stream, small):
        asked = 2 * MIB if small else 20 * MIB if size < 10 * MIB else align_up(size, 2 * MIB)
        for give_back in (
            lambda: True,
            lambda: self.release_oversize(size, stream, small),
            self.empty_cache,
        ):
            if give_back() and (self.capacity is None or self.reserved + asked <= self.capacity):
                self.segments.append([stream, small, [[asked, False]]])
                return self.segments[-1], 0
        return None

    def release_oversize(self, size, stream, small):
        wanted = max(size, self.max_split)
        cached = sorted(
            (
                s
                for s in self.segments
                if (s[0], s[1]) == (stream, small)
                and len(s[2]) == 1
                and not s[2][0][1]
                and s[2][0][0] >= self.max_split
            ),
            key=lambda s: s[2][0][0],
        )
        large_enough = [s for s in cached if s[2][0][0] >= wanted]
        gone = large_enough[:1]
        while not large_enough and cached and sum(s[2][0][0] for s in gone) < wanted:
            gone.append(cached.pop())
        self.segments = [s for s in self.segments if not any(s is g for g in gone)]
        return sum(s[2][0][0] for s in gone) >= wanted

    def empty_cache(self):
        self.segments = [s for s in self.segments if any(used for _, used in s[2])]
        return True

    def free(self, run):
        run[1] = False
        for _, _, runs in self.segments:
            for at in range(len(runs) - 2, -1, -1):
                if not runs[at][1] and not runs[at + 1][1]:
                    runs[at][0] += runs.pop(at + 1)[0]


sizes = st.one_of(
    st.integers(1, 4096),
    st.integers(1, 2 * MIB),
    st.integers(MIB, 12 * MIB),
    st.integers(1, 70 * MIB),
)
requests = st.tuples(st.just("malloc"), sizes, st.integers(0, STREAMS - 1))
releases = st.tuples(st.just("free"), st.integers(0, 1 << 16))
programs = st.lists(st.one_of(requests, requests, releases, st.just(("empty_cache",))), max_size=80)
bends = st.builds(
    AllocatorOptions,
    expandable_segments=st.booleans(),
    max_split_size_mb=st.none() | st.just(20) | st.just(40),
    max_non_split_rounding_mb=st.none(),
    roundup_power2_divisions=st.sampled_from([0, 2, 8]).map(every),
    large_segment_size_mb=st.sampled_from([12, 20]),
    garbage_collection_threshold=st.sampled_from([0.0, 0.5]),
    per_process_memory_fraction=st.sampled_from([0.6, 1.0]),
)


def steps(program, allocator):
    """Runs it; after each operation the blocks that live, and whether a request was refused."""
    live = []
    for name, *arguments in program:
        refused = False
        if name == "malloc":
            try:
                live.append(allocator.malloc(*arguments))
            except OutOfMemoryError:
                refused = True
        elif name == "empty_cache":
            allocator.empty_cache()
        elif live:
            allocator.free(live.pop(arguments[0] % len(live)))
        yield live, refused


def finished(program, allocator):
    live = []
    for live, _ in steps(program, allocator):  # noqa: B007
        pass
    return live


# The slow one as oracle


@settings(max_examples=300)
@given(programs, st.none() | st.integers(40, 300), st.none() | st.sampled_from([20, 40]))
def test_as_the_simple_allocator_does(program, capacity, limit):
    capacity = None if capacity is None else capacity * MIB
    fast = Allocator(AllocatorOptions(max_split_size_mb=limit), capacity=capacity)
    slow = Naive(capacity=capacity, max_split=1 << 62 if limit is None else limit * MIB)
    runs = []
    for op, (_, refused) in zip(program, steps(program, fast), strict=True):
        name, *arguments = op
        if name == "malloc":
            run = slow.malloc(*arguments)
            assert refused == (run is None)
            runs += [] if run is None else [run]
        elif name == "empty_cache":
            slow.empty_cache()
        elif runs:
            slow.free(runs.pop(arguments[0] % len(runs)))
        assert (fast.allocated, fast.reserved) == (slow.allocated, slow.reserved)


def test_the_oracle_can_disagree():
    fast, slow = Allocator(), Naive(rounding=20 * MIB, max_split=20 * MIB)
    for n in (30 * MIB, 12 * MIB):
        fast.free(fast.malloc(n))
        slow.free(slow.malloc(n, 0))
    assert fast.reserved != slow.reserved


# Laws


@given(programs, bends)
def test_live_blocks_never_overlap_and_hold_what_was_asked(program, options):
    allocator = Allocator(options, capacity=300 * MIB)
    for live, _ in steps(program, allocator):
        runs = sorted((b.address, b.address + b.size) for b in live)
        assert all(end <= start for (_, end), (start, _) in pairwise(runs))
        assert all(b.size >= b.requested for b in live)
        assert sum(b.size for b in live) == allocator.allocated <= allocator.reserved
        assert allocator.reserved <= allocator.reserve.capacity


@given(programs, bends)
def test_segments_are_without_gaps_and_add_up(program, options):
    allocator = Allocator(options, capacity=300 * MIB)
    finished(program, allocator)
    found = segments(allocator)
    assert sum(s.size for s in found) == allocator.reserved
    assert (
        sum(b.size for s in found for b in s.blocks if b.state != "inactive") == allocator.allocated
    )
    for segment in found:
        at = segment.address
        for block in segment.blocks:
            assert block.address == at
            at += block.size
        assert at == segment.address + segment.size
        # what is free lies between what is not: neighbours have merged
        states = [b.state for b in segment.blocks]
        assert all("active_allocated" in pair for pair in pairwise(states))


@given(programs, bends, st.randoms(use_true_random=False))
def test_all_goes_back_in_the_end(program, options, random):
    allocator = Allocator(options, capacity=300 * MIB, journal=Journal())
    live = finished(program, allocator)
    random.shuffle(live)
    for block in live:
        allocator.free(block)
    assert allocator.allocated == 0
    allocator.empty_cache()
    assert allocator.reserved == 0
    stats = memory_stats(allocator.journal)
    current = {k: v for k, v in stats.items() if k.endswith(".current")}
    assert len(current) > 20
    assert set(current.values()) == {0}
    assert stats["allocated_bytes.all.peak"] == allocator.peak_allocated
    assert stats["reserved_bytes.all.peak"] == allocator.peak_reserved


@given(programs, st.booleans(), st.integers(40, 200), st.integers(0, 200))
def test_a_larger_card_does_not_run_short_earlier(program, expandable, capacity, more):
    """Until the smaller one first flushes its cache both do the same. No more is true: a flush
    also clears fragments, and what is cached longer can be cut in a worse place."""

    def first(event, capacity):
        journal = Journal()
        options = AllocatorOptions(expandable_segments=expandable)
        allocator = Allocator(options, capacity=capacity * MIB, card=1 << 40, journal=journal)
        for n, _ in enumerate(steps(program, allocator)):
            if journal.happened[event]:
                return n
        return len(program)

    assert first("num_alloc_retries", capacity) <= first("num_alloc_retries", capacity + more)
    assert first("num_alloc_retries", capacity) <= first("num_ooms", capacity + more)


@given(programs, bends)
def test_a_card_that_holds_the_peak_is_as_good_as_none(program, options):
    options = options._replace(per_process_memory_fraction=1.0)
    free = Allocator(options, card=1 << 30)
    finished(program, free)
    enough = Allocator(options, capacity=free.peak_reserved, card=1 << 30)
    finished(program, enough)
    assert (enough.peak_allocated, enough.peak_reserved) == (
        free.peak_allocated,
        free.peak_reserved,
    )


@given(programs, bends)
def test_counting_changes_nothing(program, options):
    plain = Allocator(options, capacity=300 * MIB)
    counted = Allocator(options, capacity=300 * MIB, journal=Journal(history=True))
    for (ours, refused), (theirs, too) in zip(
        steps(program, plain), steps(program, counted), strict=True
    ):
        assert refused == too
        assert [b.address for b in ours] == [b.address for b in theirs]


@pytest.mark.parametrize("expandable", [False, True])
@given(sizes)
def test_one_request_alone_never_needs_more_than_its_segment(expandable, nbytes):
    options = AllocatorOptions(expandable_segments=expandable)
    allocator = Allocator(options)
    allocator.malloc(nbytes)
    asked = options.segment_size(options.round_size(nbytes))
    page = 2 * MIB if nbytes <= MIB else 20 * MIB
    assert allocator.reserved == (align_up(nbytes, page) if expandable else asked)

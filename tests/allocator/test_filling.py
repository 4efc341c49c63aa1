"""The allocator that only fills is the allocator, as long as nothing is given back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.base.units import KIB, MIB
from weighbridge.machines.allocator import Allocator
from weighbridge.machines.allocator.filling import Filling
from weighbridge.machines.allocator.options import AllocatorOptions

SIZES = st.one_of(
    st.integers(0, 4096),
    st.integers(500 * KIB, 3 * MIB),
    st.integers(9 * MIB, 45 * MIB),
    st.sampled_from([512, 3584, MIB, MIB + 1, 2 * MIB, 10 * MIB - 512, 10 * MIB, 14 * MIB]),
)
RUNS = st.lists(st.tuples(st.lists(SIZES, min_size=1, max_size=4), st.integers(1, 40)), max_size=6)


@pytest.mark.slow
@given(runs=RUNS, freed=st.one_of(st.just(0), st.integers(1, 200 * MIB)))
def test_filling_is_the_replay_of_requests_alone(runs, freed):
    full, filled = Allocator(), Filling(freed=freed)
    full.free(full.malloc(freed))
    for sizes, times in runs:
        filled.place(sizes, times)
        for _ in range(times):
            for nbytes in sizes:
                full.malloc(nbytes)
    assert (filled.allocated, filled.reserved) == (full.allocated, full.reserved)


def test_256_matrices_of_3_mib_are_cut_from_43_segments():
    """Six of 3 MiB fit 20 MiB, and the 2 MiB that are left serve none of them."""
    filled = Filling()
    filled.place([3 * MIB], 256)
    assert (filled.allocated, filled.reserved) == (768 * MIB, 43 * 20 * MIB)


def test_a_rest_too_small_to_split_is_the_last_one_s():
    """19.5 MiB of a segment of 20: half a MiB stays with it."""
    filled = Filling()
    filled.place([6 * MIB + 512 * KIB], 3)
    assert (filled.allocated, filled.reserved) == (20 * MIB, 20 * MIB)


def test_experts_of_two_sizes_are_placed_in_turn():
    """A scale of 1.5 KiB behind each of 512 B: 2 MiB hold 1,024 such pairs."""
    filled = Filling()
    filled.place([512, 1536], 1025)
    assert (filled.allocated, filled.reserved) == (1025 * 2048, 4 * MIB)


@pytest.mark.parametrize(("freed", "times"), [(40, 7), (41, 8), (43, 8), (58, 12)])
def test_layers_that_are_cut_from_one_free_block(freed, times):
    """Layers of 3 and 2 MiB: eight take 40 MiB, of which a rest of 1 MiB would stay with the
    last."""
    full, filled = Allocator(), Filling(freed=freed * MIB)
    full.free(full.malloc(freed * MIB))
    filled.place([3 * MIB, 2 * MIB], times)
    for _ in range(times):
        full.malloc(3 * MIB)
        full.malloc(2 * MIB)
    assert (filled.allocated, filled.reserved) == (full.allocated, full.reserved)


@pytest.mark.slow
@given(runs=RUNS, mib=st.integers(20, 40))
def test_filling_where_large_blocks_are_never_split(runs, mib):
    options = AllocatorOptions(max_split_size_mb=mib)
    full, filled = Allocator(options=options), Filling(options=options)
    for sizes, times in runs:
        filled.place(sizes, times)
        for _ in range(times):
            for nbytes in sizes:
                full.malloc(nbytes)
    assert (filled.allocated, filled.reserved) == (full.allocated, full.reserved)


def test_a_tensor_from_20_mib_on_keeps_its_rest():
    """20.1 MiB takes 22, and what is below shares segments as before."""
    filled = Filling(options=AllocatorOptions(max_split_size_mb=20))
    filled.place([20 * MIB + 100 * KIB, 3 * MIB, 3 * MIB], 1)
    assert (filled.allocated, filled.reserved) == (28 * MIB, 42 * MIB)


def test_what_was_freed_serves_sizes_of_its_kind():
    """A block of 1 MiB is the largest of the small ones, which lie in segments of 2 MiB."""
    for freed, size, reserved in ((MIB, 512, 2), (MIB + 512, 512, 22), (MIB + 512, 2 * MIB, 20)):
        filled = Filling(freed=freed)
        filled.place([size])
        assert (filled.allocated, filled.reserved) == (size, reserved * MIB)

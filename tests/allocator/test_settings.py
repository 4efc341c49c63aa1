"""PYTORCH_ALLOC_CONF: what torch reads, what it refuses, and what the numbers mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.machines.allocator import AllocatorOptions, every, from_environment, parse
from weighbridge.machines.allocator.options import INTERVALS, UNLIMITED
from weighbridge.machines.allocator.settings import LATEST, READ, WITHOUT_EFFECT, text


def test_the_example_of_the_documentation():
    found = parse(
        "expandable_segments:True,max_split_size_mb:128,roundup_power2_divisions:[256:1,512:2,>:4]"
    )
    assert (found.expandable_segments, found.max_split_size) == (True, 128 * MIB)
    # the first interval, 256, is index 8 and speaks for all below it too; ">" for those above 512
    assert found.roundup_power2_divisions == (1,) * 9 + (2,) + (4,) * 6


def test_nothing_set():
    assert parse("") == AllocatorOptions() == from_environment({})
    assert AllocatorOptions().max_split_size == UNLIMITED


def test_one_number_for_all_sizes():
    assert parse("roundup_power2_divisions:8").roundup_power2_divisions == every(8) == (8,) * 16


def test_intervals_keep_zero_where_nothing_speaks_for_them():
    # torch 2.15 reports {..., '8': 2, '16': 0, ...} for this in a snapshot's allocator_settings
    table = parse("roundup_power2_divisions:[8:2,64:4]").roundup_power2_divisions
    assert table == (2, 2, 2, 2, 0, 0, 4) + (0,) * 9


# Sizes. The example in roundup_power2_next_division: 1200 with 4 divisions is 1280


def test_divisions_between_powers_of_two():
    four = AllocatorOptions(roundup_power2_divisions=every(4))
    assert four.round_size(1200 * KIB) == 1280 * KIB
    assert four.round_size(1024 * KIB) == 1024 * KIB
    assert four.round_size(2047 * KIB) == 2048 * KIB
    assert four.round_size(1200) == 1536  # not above 512 x 4: steps of 512 stay


def test_intervals_choose_by_the_power_below():
    options = parse("roundup_power2_divisions:[1:0,2:8,>:1]")
    assert options.round_size(2 * MIB - 1) == 2 * MIB  # below 2 MiB is the interval 1: 512 bytes
    assert options.round_size(2 * MIB + 1) == 2 * MIB + 256 * KIB
    assert options.round_size(40 * GIB + 1) == 40 * GIB + 512


def test_the_size_of_large_segments():
    options = parse("large_segment_size_mb:32")
    assert [options.segment_size(n * MIB) for n in (1, 2, 9, 10, 33)] == [
        n * MIB for n in (2, 32, 32, 10, 34)
    ]
    assert options.max_non_split_rounding == 32 * MIB  # torch 2.15 follows the segment's size


# What torch refuses: its own words (torch._C._accelerator_setAllocatorSettings, 2.13)


@all_of(
    ("wrong", "said"),
    [
        (
            "max_split_size_mb:10",
            "CachingAllocator option max_split_size_mb too small, must be >= 20",
        ),
        ("max_split_size_mb:25,large_segment_size_mb:30", "too small, must be >= 30"),
        ("max_non_split_rounding_mb:19", "max_non_split_rounding_mb too small, must be >= 20"),
        ("large_segment_size_mb:10", "large_segment_size_mb must be > 10 MB"),
        ("roundup_power2_divisions:3", "the divisions has to be power of 2"),
        ("roundup_power2_divisions:0", "the divisions has to be power of 2"),
        ("roundup_power2_divisions:[256:1,512:3]", "power of 2 or 0 to disable roundup"),
        ("roundup_power2_divisions:[3:4]", "the intervals have to be power of 2"),
        ("roundup_power2_divisions:[256:1", "Index out of bounds"),
        (
            "garbage_collection_threshold:1.5",
            "garbage_collect_threshold is invalid, set it in (0.0, 1.0)",
        ),
        ("garbage_collection_threshold:0", "is invalid, set it in (0.0, 1.0)"),
        ("garbage_collection_threshold:x", "stod"),
        (
            "per_process_memory_fraction:2",
            "per_process_memory_fraction is invalid, set it in [0.0, 1.0]",
        ),
        ("expandable_segments:true", "Expected 'True' or 'False' at index 2"),
        ("max_split_size_mb:abc", "stoull"),
        ("max_split_size_mb:99999999999999999999999", "stoull"),
        ("max_split_size_mb", "Index out of bounds"),
        (
            "max_split_size_mb=20",
            "Unrecognized key 'max_split_size_mb=20' in CUDA allocator config",
        ),
        ("foo:1", "Unrecognized key 'foo' in CUDA allocator config"),
        ("backend:foo", "Unknown allocator backend"),
    ],
)
def test_refused_in_one_line_that_says_where(wrong, said):
    if "=" in wrong:
        wrong += ":1"
    with pytest.raises(UsageError) as error:
        parse(wrong)
    assert str(error.value).startswith("PYTORCH_ALLOC_CONF: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@all_of(
    ("odd", "read"),
    [  # torch takes each of these
        ("max_split_size_mb: 20 MB", AllocatorOptions(max_split_size_mb=20)),
        ("max_split_size_mb:+25,", AllocatorOptions(max_split_size_mb=25)),
        ("max_split_size_mb,21", AllocatorOptions(max_split_size_mb=21)),
        ("roundup_power2_divisions:[]", AllocatorOptions()),
        (
            "roundup_power2_divisions:[256:1,]",
            AllocatorOptions(roundup_power2_divisions=(1,) * 9 + (0,) * 7),
        ),
        (
            "large_segment_size_mb:15,max_split_size_mb:16",
            AllocatorOptions(large_segment_size_mb=15, max_split_size_mb=16),
        ),
        ("garbage_collection_threshold:5e-1x", AllocatorOptions(garbage_collection_threshold=0.5)),
        ("pinned_use_background_threads:True", AllocatorOptions()),
    ],
)
def test_read_as_generously_as_torch(odd, read):
    assert parse(odd) == read


def test_a_negative_size_wraps_to_no_limit_in_practice():
    assert parse("max_split_size_mb:-1").max_split_size > 1 << 60


def test_another_backend_is_another_allocator():
    with pytest.raises(UnsupportedError, match="cudaMallocAsync"):
        parse("backend:cudaMallocAsync")
    assert parse("backend:native") == AllocatorOptions()


# Versions


@all_of(
    ("key", "value", "since"),
    [
        ("expandable_segments", "True", (2, 1)),  # 2.0: Unrecognized CachingAllocator option
        ("max_non_split_rounding_mb", "30", (2, 6)),
        ("per_process_memory_fraction", "0.5", (2, 10)),
        ("large_segment_size_mb", "32", (2, 11)),
        ("throw_on_cudamalloc_oom", "True", (2, 12)),
    ],
)
def test_a_key_is_unknown_before_its_version(key, value, since):
    parse(f"{key}:{value}", since)
    with pytest.raises(UsageError, match=f"Unrecognized key '{key}'"):
        parse(f"{key}:{value}", (since[0], since[1] - 1))


def test_20_mb_was_too_small_before_2_9():
    assert parse("max_split_size_mb:20", (2, 9)).max_split_size_mb == 20
    with pytest.raises(UsageError, match="must be > 20"):
        parse("max_split_size_mb:20", (2, 8))


def test_the_older_name_wins_and_the_newer_is_read_since_2_9():
    both = {
        "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:200",
        "PYTORCH_ALLOC_CONF": "max_split_size_mb:100",
    }
    assert from_environment(both).max_split_size_mb == 200  # as torch 2.15 does
    newer = {"PYTORCH_ALLOC_CONF": "max_split_size_mb:100"}
    assert from_environment(newer, (2, 9)).max_split_size_mb == 100
    assert from_environment(newer, (2, 8)) == AllocatorOptions()


# First release of each key: the headers of the wheels (c10/core/AllocatorConfig.h, c10/cuda/
# CUDAAllocatorConfig.h) and, before 2.1, the release notes
SINCE = {
    (1, 10): ("max_split_size_mb",),
    (1, 12): ("garbage_collection_threshold", "roundup_power2_divisions"),
    (2, 1): ("expandable_segments",),
    (2, 2): (
        *("release_lock_on_cudamalloc", "release_lock_on_hipmalloc"),
        *("pinned_use_cuda_host_register", "pinned_use_hip_host_register"),
        "pinned_num_register_threads",
    ),
    (2, 6): ("max_non_split_rounding_mb", "pinned_use_background_threads"),
    (2, 10): ("per_process_memory_fraction", "pinned_reserve_segment_size_mb"),
    (2, 11): ("large_segment_size_mb",),
    (2, 12): ("pinned_free_catch_all", "throw_on_cudamalloc_oom"),
    (2, 13): ("pinned_max_round_threshold_mb", "pinned_max_cached_size_mb"),
    (2, 15): ("expandable_segments_reserve", "expandable_segments_reserve_by_class"),
}


def test_every_key_is_there_from_its_first_release_on():
    found = {key: since for key, (since, _) in READ.items()} | WITHOUT_EFFECT
    assert found == {key: since for since, keys in SINCE.items() for key in keys}


def test_ends_of_shares_and_thresholds():
    """A share of 0 or 1 is taken; a threshold is between them. Its error counts words from 0."""
    for value in (0, 1):
        text_ = f"per_process_memory_fraction:{value}"
        assert parse(text_).per_process_memory_fraction == value
        with pytest.raises(UsageError, match="is invalid"):
            parse(f"garbage_collection_threshold:{value}")
    with pytest.raises(UsageError, match="is invalid"):
        parse("per_process_memory_fraction:-0.1")
    with pytest.raises(UsageError, match="at index 6, but got 'yes'"):
        parse("backend:native,expandable_segments:yes")


def test_the_largest_sizes():
    """64 bits without a sign: 2^64 - 1 is read, 2^64 is not; no more megabytes than they hold."""
    most = (1 << 64) - 1
    assert parse(f"max_split_size_mb:{most}").max_split_size_mb == most // MIB
    assert parse("max_split_size_mb:-1").max_split_size_mb == most // MIB
    with pytest.raises(UsageError, match="stoull"):
        parse(f"max_split_size_mb:{most + 1}")


def test_intervals_by_hand():
    """ ">" is for all above the last that was named; beyond the sixteenth is the sixteenth."""
    read = lambda told: parse(f"roundup_power2_divisions:[{told}]").roundup_power2_divisions  # noqa: E731
    assert read(">:4") == (0, *(4,) * 15)
    assert read("1:2,>:4") == (2, *(4,) * 15)
    assert read("32768:2") == (2,) * 16
    assert read("65536:2") == (2,) * 16
    assert read("2:1,1:8") == (8, 1, *(0,) * 14)
    assert read("2:0,>:0") == (0,) * 16


def test_every_key_has_a_version_that_exists():
    assert all(since <= LATEST for since, _ in READ.values())
    assert all(since <= LATEST for since in WITHOUT_EFFECT.values())


# Laws

options = st.builds(
    AllocatorOptions,
    expandable_segments=st.booleans(),
    max_split_size_mb=st.none() | st.integers(40, 1 << 20),
    max_non_split_rounding_mb=st.none() | st.integers(40, 1 << 20),
    roundup_power2_divisions=st.tuples(*[st.sampled_from([0, 1, 2, 4, 8, 16])] * INTERVALS),
    garbage_collection_threshold=st.floats(0.001, 0.999) | st.just(0.0),
    large_segment_size_mb=st.integers(11, 40),
    per_process_memory_fraction=st.floats(0, 1),
)


@pytest.mark.slow
@given(options)
def test_options_survive_their_text(given_options):
    assert parse(text(given_options)) == given_options


@pytest.mark.slow
@given(options, st.integers(1, 1 << 40))
def test_rounding_holds_the_request_and_rounds_no_further(given_options, nbytes):
    size = given_options.round_size(nbytes)
    assert nbytes <= size < 2 * nbytes + 512
    assert size % 512 == 0
    assert given_options.round_size(size) == size
    assert size <= given_options.segment_size(size)

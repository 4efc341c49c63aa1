"""torch as the oracle of the allocator's settings, and torch's viewer as the reader of a replay."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.cuda import _memory_viz as viz  # noqa: E402

from weighbridge.base.errors import UsageError  # noqa: E402
from weighbridge.base.units import MIB  # noqa: E402
from weighbridge.machines.allocator import Allocator, AllocatorOptions, Journal, parse  # noqa: E402
from weighbridge.machines.allocator.snapshot import RequestOrigin, snapshot  # noqa: E402

WORDS = [
    *("max_split_size_mb", "max_non_split_rounding_mb", "large_segment_size_mb"),
    *("garbage_collection_threshold", "roundup_power2_divisions", "expandable_segments"),
    *(":", ":", ":", ",", ",", "[", "]", ">", " "),
    *("True", "False", "true", "0", "1", "2", "8", "3", "15", "20", "25", "64", "-1", "+30", "0.5"),
    *("1e-3", ".5", "20MB", "x", "256", "16384", "65536"),
]
VALUES = {
    "max_split_size_mb": ["19", "20", "64", "20MB", "-1", "x", ""],
    "max_non_split_rounding_mb": ["19", "20", "41"],
    "large_segment_size_mb": ["10", "11", "20", "40"],
    "garbage_collection_threshold": ["0", "0.5", "1", ".9x", "1e-3", "nan"],
    "roundup_power2_divisions": [
        "4",
        "3",
        "[256:1,512:2,>:4]",
        "[>:8]",
        "[1:0",
        "[3:4]",
        "[4:8,2:1]",
    ],
    "expandable_segments": ["True", "False", "true", "[True]"],
}
key_values = st.lists(
    st.sampled_from([f"{key}:{value}" for key, values in VALUES.items() for value in values]),
    max_size=4,
).map(",".join)


def torch_takes(text):
    settings = torch._C._accelerator_setAllocatorSettings
    settings("large_segment_size_mb:20")  # the one that is not reset
    try:
        settings(text)
    except (ValueError, RuntimeError, IndexError):
        return False
    finally:
        settings("large_segment_size_mb:20")
    return True


def we_take(text):
    try:
        parse(text)
    except UsageError as error:
        # without CUDA, torch skips what it does not know
        return None if "Unrecognized key" in str(error) else False
    return True


@pytest.fixture(autouse=True, scope="module")
def _settings_stay_as_they_are():
    before = torch._C._accelerator_getAllocatorSettings()
    yield
    torch._C._accelerator_setAllocatorSettings("large_segment_size_mb:20")
    torch._C._accelerator_setAllocatorSettings(before)


@given(key_values | st.lists(st.sampled_from(WORDS), max_size=8).map("".join))
def test_what_torch_refuses_we_refuse(text):
    ours = we_take(text)
    if ours is not None:
        assert ours == torch_takes(text), text


# The viewer


def used(options=AllocatorOptions()):  # noqa: B008
    allocator = Allocator(options, capacity=256 * MIB, journal=Journal(history=True))
    weights = [allocator.malloc(n) for n in (9 * MIB, 30 * MIB, 700, 5000)]
    allocator.record_stream(weights[1], 7)
    for block in weights[:3]:
        allocator.free(block)
    with pytest.raises(Exception, match="CUDA out of memory"):
        allocator.malloc(1 << 30)
    return allocator


ORIGINS = {
    0: RequestOrigin(("linear", "model.layers.0"), "weight"),
    3: RequestOrigin(("relu",), "temporary"),
}


@pytest.mark.parametrize("expandable", [False, True])
def test_torchs_tools_read_a_replay(expandable):
    allocator = used(AllocatorOptions(expandable_segments=expandable))
    made = snapshot(allocator, ORIGINS)
    assert "total_allocated: 4.9KiB" in viz.segsum(made)
    listing = viz.trace(made)
    assert "raise OutOfMemoryError # 1.0GiB requested" in listing
    assert listing.count("del ") == 3
    for plot in (viz.trace_plot, viz.segment_plot):
        assert "MemoryViz.js" in plot(copy.deepcopy(made))
    flame = viz.memory(made, format_flamegraph=lambda lines: lines)
    assert ":0:relu 5000" in flame
    assert viz.filter_alloc_free_pairs(copy.deepcopy(made))["device_traces"][0] != []

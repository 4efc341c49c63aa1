"""A replay as torch's memory snapshot, which torch's viewer reads; sizes as torch writes them."""

import pickletools

import pytest

from tests.allocator.programs import PROGRAMS, snapshot_of
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.machines.allocator import Allocator, AllocatorOptions, Journal
from weighbridge.machines.allocator.journal import format_size
from weighbridge.machines.allocator.snapshot import RequestOrigin, pickled, snapshot

# What the unpickler of MemoryViz.js knows (torch/utils/viz, the cases of its switch)
VIEWER = {
    *(
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "MEMOIZE",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
    ),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "SHORT_BINUNICODE", "BINUNICODE", "LIST", "DICT"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE"),
}


def used(options=None, **more):
    allocator = Allocator(options or AllocatorOptions(), journal=Journal(history=True), **more)
    first, second = allocator.malloc(9 * MIB), allocator.malloc(3000)
    allocator.free(first)
    return allocator, second


def test_only_what_the_viewer_can_unpickle():
    allocator, block = used(AllocatorOptions(garbage_collection_threshold=0.5), device=1)
    allocator.free(block)
    data = pickled(allocator, {0: RequestOrigin(("layer", "model") * 200, "weight")})
    assert {code.name for code, _, _ in pickletools.genops(data)} <= VIEWER
    assert 2 <= data[1] <= 4  # the protocols that it takes
    addresses = [e["addr"] for e in snapshot(allocator)["device_traces"][1]]
    assert max(addresses) < 1 << 53  # a number in JavaScript


def test_keys_are_those_of_torch():
    theirs = snapshot_of(PROGRAMS[0])
    ours = snapshot(used()[0])
    assert ours.keys() <= theirs.keys()
    for level in ("segments", "blocks", "device_traces"):
        left, right = (
            (
                s["segments"][0]
                if level == "segments"
                else s["segments"][0]["blocks"][0]
                if level == "blocks"
                else s["device_traces"][0][0]
            )
            for s in (ours, theirs)
        )
        assert right.keys() <= left.keys()
        assert left.keys() - right.keys() <= {"frames"}  # recorded without them
    assert ours["allocator_settings"].keys() <= theirs["allocator_settings"].keys()


def test_names_of_requests_become_frames_and_categories():
    allocator, _ = used()
    made = snapshot(allocator, {1: RequestOrigin(("relu", "layers.0"), "temporary")})
    alloc = [e for e in made["device_traces"][0] if e["action"] == "alloc"]
    assert [e.get("category") for e in alloc] == [None, "temporary"]
    assert [f["name"] for f in alloc[1]["frames"]] == ["relu", "layers.0"]
    active = [b for s in made["segments"] for b in s["blocks"] if b["state"] != "inactive"]
    assert [[f["name"] for f in b["frames"]] for b in active] == [["relu", "layers.0"]]


def test_a_snapshot_needs_a_history():
    with pytest.raises(UsageError, match="history=True"):
        snapshot(Allocator(journal=Journal()))


def told(options=None, device=0, **more):
    allocator = Allocator(
        options or AllocatorOptions(), journal=Journal(history=True), device=device
    )
    first, second = allocator.malloc(3000), allocator.malloc(5000)
    allocator.free(first)
    return snapshot(allocator, more.get("origins")), allocator, second


def test_blocks_of_a_segment():
    """3,072 bytes are free again, 5,120 in use: 5,000 were asked for."""
    found, _, _second = told()
    (segment,) = found["segments"]
    assert (segment["total_size"], segment["segment_type"]) == (2 * MIB, "small")
    assert segment["allocated_size"] == segment["active_size"] == 5120
    assert segment["requested_size"] == 5000
    states = [(b["size"], b["state"], b["requested_size"]) for b in segment["blocks"]]
    assert states == [
        (3072, "inactive", 0),
        (5120, "active_allocated", 5000),
        (2 * MIB - 8192, "inactive", 0),
    ]


def test_where_requests_came_from():
    origins = {1: RequestOrigin(frames=("a", "b"), category="weights", line=("x/y.py", 7))}
    found, _, _second = told(origins=origins)
    frames = [
        (f["filename"], f["line"], f["name"]) for f in found["segments"][0]["blocks"][1]["frames"]
    ]
    assert frames == [("", 0, "a"), ("", 0, "b"), ("x/y.py", 7, "y.py")]
    assert next(b["frames"] for b in found["segments"][0]["blocks"]) == []
    events = found["device_traces"][0]
    named = [e for e in events if e.get("category") == "weights"]
    assert [e["action"] for e in named] == ["alloc"]
    assert [e["time_us"] for e in events] == list(range(len(events)))


def test_traces_stand_at_their_device():
    found, *_ = told(device=2)
    assert [bool(t) for t in found["device_traces"]] == [False, False, True]


def test_settings():
    assert told()[0]["allocator_settings"]["max_split_size"] == -1
    split = AllocatorOptions(max_split_size_mb=100)
    found = told(split)[0]["allocator_settings"]
    assert (found["max_split_size"], found["PYTORCH_CUDA_ALLOC_CONF"]) == (
        100 * MIB,
        "max_split_size_mb:100",
    )
    assert list(found["roundup_power2_divisions"])[:3] == ["1", "2", "4"]


def test_the_protocol_is_the_fourth():
    """MemoryViz.js reads 2 to 4: a pickle begins with 0x80 and its number."""
    assert pickled(told()[1])[:2] == bytes((0x80, 4))


@all_of(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (KIB, "1024 bytes"),
        (KIB + 1, "1.00 KiB"),
        (MIB, "1024.00 KiB"),
        (MIB + 1, "1.00 MiB"),
        (GIB, "1024.00 MiB"),
        (5 * GIB // 2, "2.50 GiB"),
    ],
)
def test_sizes_as_torch_writes_them(nbytes, text):
    """format_size, c10/core/CachingDeviceAllocator.cpp: up to 1,024 of a unit are in that unit."""
    assert format_size(nbytes) == text

"""Snapshots: torch's are read without running anything in them, ours are what torch's viewer reads."""

import os
import pickle
import pickletools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.allocator.programs import PROGRAMS, snapshot_bytes
from weighbridge.allocator import SHARED, Allocator, AllocatorOptions, Journal, JournalEvent
from weighbridge.allocator.history import replay
from weighbridge.allocator.layout import segments
from weighbridge.allocator.snapshot import read
from weighbridge.allocator.viewer import RequestOrigin, pickled, snapshot
from weighbridge.errors import BadFileError, UnsupportedError, UsageError
from weighbridge.units import MIB

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


# Real ones


def test_a_snapshot_of_torch():
    found = read(snapshot_bytes(PROGRAMS[0]))
    counts = Counter(event.action for event in found.histories[0])
    assert counts["alloc"] == PROGRAMS[0]["stats"]["allocation.all.allocated"]
    assert counts["oom"] == PROGRAMS[0]["stats"]["num_ooms"]
    assert sum(s.size for s in found.segments) == PROGRAMS[0]["stats"]["reserved_bytes.all.current"]
    active = [b for s in found.segments for b in s.blocks if b.state == "active_allocated"]
    assert sum(b.size for b in active) == PROGRAMS[0]["stats"]["allocated_bytes.all.current"]
    assert found.options == AllocatorOptions()


def test_its_settings_are_read():
    program = next(p for p in PROGRAMS if "max_non_split" in p["settings"])
    found = read(snapshot_bytes(program)).options
    assert (found.max_split_size_mb, found.max_non_split_rounding_mb) == (64, 30)


# Older ones: fewer keys


def test_segments_alone_as_before_2_0():
    block = {"size": 2 * MIB, "state": "inactive"}
    old = [
        {
            "device": 0,
            "address": 4096,
            "total_size": 2 * MIB,
            "stream": 0,
            "segment_type": "small",
            "blocks": [block],
        }
    ]
    found = read(pickle.dumps(old))
    assert (found.histories, len(found.segments)) == ((), 1)
    assert found.segments[0].pool == SHARED
    assert not found.segments[0].expandable


def test_events_without_a_pool_as_before_2_13():
    event = {"action": "segment_alloc", "addr": 4096, "size": 2 * MIB, "stream": 0}
    found = read(pickle.dumps({"segments": [], "device_traces": [[event]]}))
    assert found.histories == ((JournalEvent("segment_alloc", 4096, 2 * MIB),),)


# Hostile and broken ones


class Runs:
    def __reduce__(self):
        return os.system, ("echo it ran > /dev/stderr; exit 1",)


def test_nothing_in_it_is_run(capfd):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(BadFileError, match=r"wants to import (posix|nt)\.system"):
            read(pickle.dumps({"segments": [Runs()]}, protocol=protocol))
    assert "it ran" not in capfd.readouterr().err


def test_data_from_elsewhere_is_refused():
    with pytest.raises(BadFileError, match="outside"):
        read(b"\x80\x02U\x01xQ.")


@pytest.mark.slow
@given(st.integers(0, 10_000))
def test_a_cut_snapshot_is_refused(length):
    data = pickled(used()[0])
    if length < len(data):
        with pytest.raises(BadFileError):
            read(data[:length])


GOOD = {
    "device": 0,
    "address": 4096,
    "total_size": MIB,
    "stream": 0,
    "segment_type": "large",
    "blocks": [],
}
EVENT = {"action": "alloc", "addr": 4096, "size": 512, "stream": 0}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (3, "no list of segments"),
        ({}, "no list of segments"),
        ({"segments": {}}, "the snapshot.segments is missing or a dict"),
        ({"segments": [3]}, r"segments\[0\] is a int"),
        (
            {"segments": [GOOD, {**GOOD, "address": "x"}]},
            r"segments\[1\].address is missing or a str",
        ),
        ({"segments": [{**GOOD, "stream": True}]}, r"segments\[0\].stream is missing or a bool"),
        (
            {"segments": [{**GOOD, "blocks": [{"size": 1, "state": "odd"}]}]},
            "state is 'odd'; known: active_allocated",
        ),
        ({"segments": [], "device_traces": [3]}, "device_traces holds a int"),
        (
            {"segments": [], "device_traces": [[{**EVENT, "action": "odd"}]]},
            r"device_traces\[0\]\[0\].action is 'odd'",
        ),
        (
            {"segments": [], "device_traces": [[{**EVENT, "pool_id": (1,)}]]},
            "pool_id is not a pair",
        ),
        (
            {"segments": [], "device_traces": [[{"action": "oom", "size": 1, "stream": 0}]]},
            "device_free is missing",
        ),
    ],
)
def test_what_is_wrong_is_named(found, said):
    with pytest.raises(BadFileError, match=said):
        read(pickle.dumps(found))


def test_a_history_that_lost_its_beginning():
    lost = {**EVENT, "action": "free_requested"}
    with pytest.raises(UnsupportedError, match="never allocated: record from the start"):
        replay(read(pickle.dumps({"segments": [], "device_traces": [[lost]]})))


# Ours


@pytest.mark.parametrize("expandable", [False, True])
def test_what_is_written_is_read(expandable):
    allocator, _ = used(AllocatorOptions(expandable_segments=expandable, max_split_size_mb=40))
    found = read(pickled(allocator))
    assert found.segments == segments(allocator)
    assert found.histories == (tuple(e._replace(request=-1) for e in allocator.journal.events),)
    assert found.options == allocator.options
    assert replay(found).differences == ()


def test_only_what_the_viewer_can_unpickle():
    allocator, block = used(AllocatorOptions(garbage_collection_threshold=0.5), device=1)
    allocator.free(block)
    data = pickled(allocator, {0: RequestOrigin(("layer", "model") * 200, "weight")})
    assert {code.name for code, _, _ in pickletools.genops(data)} <= VIEWER
    assert 2 <= data[1] <= 4  # the protocols that it takes
    addresses = [e["addr"] for e in snapshot(allocator)["device_traces"][1]]
    assert max(addresses) < 1 << 53  # a number in JavaScript


def test_keys_are_those_of_torch():
    theirs = pickle.loads(snapshot_bytes(PROGRAMS[0]))
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

"""The replay against torch's own allocator: what libc10_cuda of PyTorch 2.15 did, call by call.

Each of these numbers is torch's, not ours (tests/allocator/programs.py).
"""

import pytest

from tests.allocator.programs import PROGRAMS, machine, memory_stats, moved, snapshot_of
from weighbridge.machines.allocator import Journal, JournalEvent
from weighbridge.machines.allocator.snapshot import segments

FREED = ("free_completed", "segment_free", "segment_unmap")
by_settings = pytest.mark.parametrize(
    "program", PROGRAMS, ids=[p["settings"] or "default" for p in PROGRAMS]
)


def same_order_of_frees(events):
    """torch frees in the order of a hash table where several blocks become free at once."""
    found, run = [], []
    for event in [*events, None]:
        if event is not None and event.action in FREED:
            run.append(event)
        else:
            found += [*sorted(run), event]
            run = []
    return found[:-1]


@by_settings
def test_every_call_returns_and_counts_as_torch_did(program):
    ours = machine(program)
    for op, (returned, allocated, reserved) in zip(program["ops"], program["steps"], strict=True):
        got = ours.run(op)
        if isinstance(returned, str):
            assert returned.startswith(got)  # torch goes on with advice
        elif returned is not None:
            assert (op, got + moved(program)) == (op, returned)
        assert (op, ours.allocator.allocated, ours.allocator.reserved) == (op, allocated, reserved)


@by_settings
def test_the_counters_end_as_torch_counted(program):
    journal = Journal()
    ours = machine(program, journal=journal)
    for op in program["ops"]:
        ours.run(op)
    assert memory_stats(journal) == program["stats"]


@by_settings
def test_the_history_is_the_one_that_torch_recorded(program):
    journal = Journal(history=True)
    ours = machine(program, journal=journal)
    for op in program["ops"]:
        ours.run(op)
    mine = [
        e._replace(address=e.address + moved(program) * (e.action != "oom"), request=-1)
        for e in journal.events
    ]
    theirs = [event(e) for e in snapshot_of(program)["device_traces"][0]]
    theirs = [e for e in theirs if e.action != "snapshot"]
    assert same_order_of_frees(mine) == same_order_of_frees(theirs)


def event(entry):
    where = entry["device_free" if entry["action"] == "oom" else "addr"]
    pool = tuple(entry["pool_id"])
    return JournalEvent(entry["action"], where, entry["size"], entry["stream"], pool)


@by_settings
def test_segments_are_those_of_torchs_snapshot(program):
    ours = machine(program)
    for op in program["ops"]:
        ours.run(op)
    theirs = sorted(snapshot_of(program)["segments"], key=lambda s: s["address"])
    assert [
        (s.address + moved(program), s.size, s.stream, s.small, s.expandable, s.pool)
        for s in segments(ours.allocator)
    ] == [
        (
            s["address"],
            s["total_size"],
            s["stream"],
            s["segment_type"] == "small",
            s["is_expandable"],
            tuple(s["segment_pool_id"]),
        )
        for s in theirs
    ]
    assert [[(b.size, b.state) for b in s.blocks] for s in segments(ours.allocator)] == [
        [(b["size"], b["state"].replace("awaiting", "pending")) for b in s["blocks"]]
        for s in theirs
    ]


def test_the_recorded_programs_reach_what_they_should():
    """Retries, refusals, waiting blocks and pools are in the records, or they prove little."""
    stats = [p["stats"] for p in PROGRAMS]
    assert sum(s["num_ooms"] for s in stats) > 20
    assert sum(s["num_alloc_retries"] for s in stats) > 20
    assert sum(s["oversize_allocations.peak"] for s in stats) > 5
    assert sum(s["num_sync_all_streams"] for s in stats) > sum(
        s["num_alloc_retries"] for s in stats
    )
    names = {op[0] for p in PROGRAMS for op in p["ops"]}
    assert {"record_stream", "synchronize", "begin_pool", "release_pool", "empty_cache"} <= names

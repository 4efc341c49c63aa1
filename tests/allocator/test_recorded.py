"""The replay against torch's own allocator: what libc10_cuda of PyTorch 2.15 did, call by call.

Each of these numbers is torch's, not ours (tests/allocator/programs.py).
"""

import pytest

from tests.allocator.programs import PROGRAMS, machine, moved, snapshot_of
from weighbridge.allocator import Allocator, AllocatorOptions, Journal, OutOfMemoryError
from weighbridge.allocator.history import replay, rerun
from weighbridge.allocator.layout import differences, segments

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
    assert journal.memory_stats() == program["stats"]


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
    theirs = [e for e in snapshot_of(program).histories[0] if e.action != "snapshot"]
    assert same_order_of_frees(mine) == same_order_of_frees(theirs)


@by_settings
def test_a_snapshot_of_torch_replays_to_itself(program):
    found = replay(snapshot_of(program), card=program["total"])
    assert found.differences == ()
    assert found.followed == len(snapshot_of(program).histories[0])
    assert found.allocator.reserved == program["steps"][-1][2]


def test_a_replay_under_other_options_differs_and_says_where():
    program = next(p for p in PROGRAMS if p["settings"] == "roundup_power2_divisions:4")
    found = replay(snapshot_of(program), options=AllocatorOptions())
    assert len(found.differences) == 1
    assert found.differences[0].startswith(f"event {found.followed}, alloc of ")


def test_the_same_requests_elsewhere():
    program = PROGRAMS[0]
    history = snapshot_of(program).histories[0]
    large = Allocator()
    rerun(history, large)
    assert large.peak_reserved > program["total"]  # it ran out of memory where it was recorded
    with pytest.raises(OutOfMemoryError) as died:
        rerun(history, Allocator(capacity=large.peak_allocated // 2))
    assert 0 < died.value.report.request < large.requests


def test_segments_are_those_of_torchs_snapshot():
    program = PROGRAMS[0]
    ours = machine(program)
    for op in program["ops"]:
        ours.run(op)
    theirs = snapshot_of(program).of(0)
    mine = segments(ours.allocator)
    assert [(s.size, s.stream, s.small, len(s.blocks)) for s in mine] == [
        (s.size, s.stream, s.small, len(s.blocks)) for s in theirs
    ]
    assert differences(theirs, theirs) == []
    assert len(differences(theirs[1:], theirs)) == 1


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

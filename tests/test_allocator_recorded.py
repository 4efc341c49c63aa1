"""The replay against torch's own allocator: what libc10_cuda of PyTorch 2.15 did, call by call.

tools/torch_allocator/record.py let it run over a stand-in for the driver and wrote down what it
returned, counted and kept. So each of these numbers is torch's, not ours.
"""

import base64
import gzip
import json
from pathlib import Path

import pytest

from weighbridge.allocator import Allocator, Journal, Options, OutOfMemoryError, parse
from weighbridge.allocator.history import replay, rerun
from weighbridge.allocator.layout import differences, segments
from weighbridge.allocator.reserve import FIRST_ADDRESS
from weighbridge.allocator.snapshot import read

FILE = Path(__file__).parent / "allocator_recorded.json.gz"
PROGRAMS = json.loads(gzip.decompress(FILE.read_bytes()))["programs"]
SEGMENTS, RANGES = 0x7F0000000000, 0x700000000000  # where the stand-in begins
FREED = ("free_completed", "segment_free", "segment_unmap")
by_settings = pytest.mark.parametrize(
    "program", PROGRAMS, ids=[p["settings"] or "default" for p in PROGRAMS]
)


class Machine:
    """Runs a program on a replay; the operations have the recorder's names."""

    def __init__(self, allocator, streams):
        self.allocator = allocator
        self.streams = {int(number): stream for number, stream in streams.items()}
        self.live = {}

    def malloc(self, key, nbytes, stream=0):
        try:
            self.live[key] = self.allocator.malloc(nbytes, self.streams[stream])
        except OutOfMemoryError as error:
            return str(error)
        return self.live[key].address

    def free(self, key):
        self.allocator.free(self.live.pop(key, None))

    def record_stream(self, key, stream):
        if key in self.live:
            self.allocator.record_stream(self.live[key], self.streams.get(stream, -1))

    def begin_pool(self, pool, capture):
        self.allocator.begin_pool((0, pool), capture=capture)

    def end_pool(self, pool):
        self.allocator.end_pool((0, pool))

    def release_pool(self, pool):
        self.allocator.release_pool((0, pool))

    def synchronize(self):
        self.allocator.synchronize()

    def empty_cache(self):
        self.allocator.empty_cache()

    def reset_peak(self):
        self.allocator.reset_peak()

    def run(self, op):
        name, *arguments = op
        return getattr(self, name)(*arguments)


def machine(program, **more):
    allocator = Allocator(parse(program["settings"]), capacity=program["total"], **more)
    return Machine(allocator, program["streams"])


def moved(program):
    """How far torch's addresses lie from ours."""
    return (RANGES if "expandable" in program["settings"] else SEGMENTS) - FIRST_ADDRESS


def snapshot_of(program):
    return read(base64.b64decode(program["snapshot"]))


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
    found = replay(snapshot_of(program), options=Options())
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
    assert sum(s["num_sync_all_streams"] for s in stats) > sum(s["num_alloc_retries"] for s in stats)
    names = {op[0] for p in PROGRAMS for op in p["ops"]}
    assert {"record_stream", "synchronize", "begin_pool", "release_pool", "empty_cache"} <= names

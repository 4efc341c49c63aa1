"""Tries that were refused and given up: a run that goes on with less is judged by what went on.

    course(tape) -> {event: bytes that the allocator held after it}

A script that catches the error tries a smaller batch (by halves, as accelerate's and Lightning's
searches do), or leaves that batch out (fairseq's). Of its events those of refused tries do not
count, nor those of a batch as large as one that was refused. Nor does what the allocator has cached
of one when the next begins: it gives that back before it refuses; and nothing is more than the card
held at that moment. Torch-free.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import NamedTuple

from weighbridge.machines.allocator import Allocator, Block, OutOfMemoryError
from weighbridge_lab.trace.tape import Tape, TapePeak, TracedStorage

CALLED = "forward", "eval"


class Try(NamedTuple):
    """One batch: events from `first` to before `end`, and the first storage that a module made."""

    first: int
    end: int
    opening: TracedStorage
    refused: bool

    def as_large_as(self, other: "Try") -> bool:
        mine, theirs = self.opening, other.opening
        alike = (mine.phase, mine.module, mine.op) == (theirs.phase, theirs.module, theirs.op)
        return alike and mine.nbytes >= theirs.nbytes


def course(tape: Tape) -> Mapping[int, int]:
    """Return the bytes that the allocator held, by event, for each event that counts."""
    if not tape.recovered:
        return dict(enumerate(tape.reserves))
    tries = list(_tries(tape))
    refused = [one for one in tries if one.refused]
    given_up = [one for one in tries if any(map(one.as_large_as, refused))]
    windows = {event: one for one in given_up for event in range(one.first, one.end)}
    return _replayed(tape, windows, {one.first for one in tries})


def _replayed(tape: Tape, windows: Mapping[int, Try], beginnings: Set[int]) -> Mapping[int, int]:
    """Return reserved bytes by event of a tape without the storages that lived only in `windows`;
    the cache is emptied at `beginnings`."""
    allocator = Allocator(tape.allocator.options, capacity=tape.allocator.reserve.capacity)
    blocks: dict[int, Block | None] = {}
    reserves: dict[int, int] = {}
    for event, signed in enumerate(tape.events):
        if event in beginnings:
            allocator.empty_cache()
        number, window = abs(signed) - 1, windows.get(event)
        if signed < 0:
            allocator.free(blocks.pop(number, None))
        elif window is None or not _within(tape.storages[number], window):
            blocks[number] = _malloc(allocator, tape.storages[number].nbytes)
        if window is None:
            reserves[event] = min(allocator.reserved, tape.reserves[event])  # that was observed
    return reserves


def _malloc(allocator: Allocator, nbytes: int) -> Block | None:
    """Return a block; if the replayed order fragments the card more than the real one did, without
    the card's limits."""
    try:
        return allocator.malloc(nbytes)
    except OutOfMemoryError:
        allocator.unbounded()
        return allocator.malloc(nbytes)


def events(tape: Tape) -> Iterable[tuple[int, int]]:
    """Return (event, reserved bytes) of the events that count; without a copy if all of them do."""
    return course(tape).items() if tape.recovered else enumerate(tape.reserves)


def peaks(tape: Tape) -> tuple[TapePeak, TapePeak]:
    """Return the peaks (allocated, reserved) over the events that count."""
    if not tape.recovered:
        return tape.allocated, tape.reserved
    reserves = course(tape)
    allocated = max(reserves, key=tape.levels.__getitem__, default=0)
    reserved = max(reserves, key=reserves.__getitem__, default=0)
    return TapePeak(allocated, tape.levels[allocated]), TapePeak(reserved, reserves[reserved])


def _within(storage: TracedStorage, one: Try) -> bool:
    """Return whether a storage did not outlive the batch that made it."""
    return storage.died is not None and storage.died < one.end


def _tries(tape: Tape) -> Iterator[Try]:
    """Yield the batches. One begins if a module is called after a step of training, or after a
    refusal; what is made between a refusal and that call belongs to the batch before."""
    refusals = {refused.event for refused in tape.refused}
    first, opening, over = 0, None, True
    refused = False
    for storage in sorted(tape.storages, key=lambda one: one.born):
        if storage.phase in CALLED and over:
            if opening is not None:
                yield Try(first, storage.born, opening, refused)
            first, opening, over, refused = storage.born, storage, False, False
        if not storage.lived and storage.born in refusals:
            over = refused = True
        over |= storage.phase == "step"
    if opening is not None:
        yield Try(first, len(tape.events), opening, refused)

"""Tries that were refused and given up: a run that goes on with less is judged by what went on.

    course(tape) -> {event: bytes that the allocator held after it}

A script that catches the error tries a smaller batch (by halves, as accelerate's and Lightning's
searches do), or leaves that batch out (fairseq's). Of its events those of refused tries do not
count, nor those of a batch as large as one that was refused. Nor does what the allocator has cached
of one when the next begins: it gives that back before it refuses. Torch-free.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from weighbridge.machines.allocator import Allocator, Block, OutOfMemoryError
from weighbridge_lab.trace.tape import Tape, TapePeak, TracedStorage

CALLED = "forward", "eval"


class Try(NamedTuple):
    """One batch: the events from `first` to before `end`, and what the first module made of it."""

    first: int
    end: int
    made: TracedStorage
    refused: bool

    def as_large_as(self, other: "Try") -> bool:
        mine, theirs = self.made, other.made
        alike = (mine.phase, mine.module, mine.op) == (theirs.phase, theirs.module, theirs.op)
        return alike and mine.nbytes >= theirs.nbytes


def course(tape: Tape) -> Mapping[int, int]:
    """Return what the allocator held after each event that counts."""
    if not tape.recovered:
        return dict(enumerate(tape.reserves))
    tries = list(_tries(tape))
    refused = [one for one in tries if one.refused]
    given_up = [one for one in tries if any(map(one.as_large_as, refused))]
    window = {event: one for one in given_up for event in range(one.first, one.end)}
    allocator = Allocator(tape.allocator.options, capacity=tape.allocator.reserve.capacity)
    beginnings = {one.first for one in tries}
    blocks: dict[int, Block | None] = {}
    reserves: dict[int, int] = {}
    for event, signed in enumerate(tape.events):
        if event in beginnings:
            allocator.empty_cache()
        number, one = abs(signed) - 1, window.get(event)
        if signed < 0:
            allocator.free(blocks.pop(number, None))
        elif one is None or not _within(tape.storages[number], one):
            blocks[number] = _malloc(allocator, tape.storages[number].nbytes)
        if one is None:
            reserves[event] = allocator.reserved
    return reserves


def _malloc(allocator: Allocator, nbytes: int) -> Block | None:
    """Ask for what was served in another order, on a card that may then be cut in other pieces."""
    try:
        return allocator.malloc(nbytes)
    except OutOfMemoryError:
        allocator.unbounded()
        return allocator.malloc(nbytes)


def peaks(tape: Tape) -> tuple[TapePeak, TapePeak]:
    """Return the peaks of what was allocated and of what was reserved, of the events that count."""
    if not tape.recovered:
        return tape.allocated, tape.reserved
    reserves = course(tape)
    allocated = max(reserves, key=tape.levels.__getitem__, default=0)
    reserved = max(reserves, key=reserves.__getitem__, default=0)
    return TapePeak(allocated, tape.levels[allocated]), TapePeak(reserved, reserves[reserved])


def _within(storage: TracedStorage, one: Try) -> bool:
    """Tell whether a storage did not outlive the try that made it."""
    return storage.died is not None and storage.died < one.end


def _tries(tape: Tape) -> Iterator[Try]:
    """Yield the batches. One begins where a module is called after a step of training, or after a
    refusal; what is made between a refusal and that call is of the batch before."""
    refusals = {refused.event for refused in tape.refused}
    first, made, over = 0, None, True
    refused = False
    for storage in sorted(tape.storages, key=lambda one: one.born):
        if storage.phase in CALLED and over:
            if made is not None:
                yield Try(first, storage.born, made, refused)
            first, made, over, refused = storage.born, storage, False, False
        if not storage.lived and storage.born in refusals:
            over = refused = True
        over |= storage.phase == "step"
    if made is not None:
        yield Try(first, len(tape.events), made, refused)

"""Every allocation in order, from a real run's history or from a tape, compared to the byte.

n > 0    a request of n bytes          -n    the release of what the n-th request got
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, takewhile
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.sentences import sentence
from weighbridge.machines.allocator import Allocator, Block
from weighbridge_lab.trace.tape import TracedStorage

Events = tuple[int, ...]
SCHEMA = "weighbridge.events/1"
SHOWN = 20  # sizes that only one side asks for, by their bytes


def of_snapshot(entries: Iterable[Mapping[str, Any]]) -> Events:
    """Return the events in `torch.cuda.memory._snapshot()["device_traces"][0]`, with sizes as
    requested. What was allocated before the history began is left out."""
    events: list[int] = []
    living: dict[int, int] = {}  # address -> number of the request
    requests = 0
    for entry in entries:
        if entry["action"] == "alloc":
            requests += 1
            living[entry["addr"]] = requests
            events.append(entry["size"])
        elif entry["action"] == "free_completed" and entry["addr"] in living:
            events.append(-living.pop(entry["addr"]))
    return tuple(events)


def of_tape(marks: Iterable[int], storages: Sequence[TracedStorage]) -> Events:
    """Return the events of a tape."""
    events: list[int] = []
    requests: dict[int, int] = {}
    for mark in marks:
        if mark > 0:
            requests[mark - 1] = len(requests) + 1
            events.append(storages[mark - 1].nbytes)
        else:
            events.append(-requests[-mark - 1])
    return tuple(events)


def compare(measured: Events, predicted: Events) -> dict[str, Any]:
    """Compare two histories: return whether they are equal, where they diverge, and the requests
    that only one of them makes."""
    measured, predicted = _ordered(measured), _ordered(predicted)
    same = sum(1 for _ in takewhile(lambda p: p[0] == p[1], zip(measured, predicted, strict=False)))
    ours, theirs = (Counter(e for e in side if e > 0) for side in (predicted, measured))
    return {
        "equal": measured == predicted,
        "measured_events": len(measured),
        "predicted_events": len(predicted),
        "same_until": same,
        "only_measured": _largest(theirs - ours),
        "only_predicted": _largest(ours - theirs),
    }


def _ordered(events: Events) -> Events:
    """Return the events, with releases of the same moment sorted by the age of what they
    release."""
    runs = (list(run) for _, run in groupby(events, lambda e: e < 0))
    return tuple(e for run in runs for e in (sorted(run, reverse=True) if run[0] < 0 else run))


def _largest(sizes: Counter[int]) -> list[list[int]]:
    """Return [bytes, count], most bytes first."""
    ordered = sorted(sizes.items(), key=lambda item: -item[0] * item[1])
    return [list(item) for item in ordered[:SHOWN]]


def replay(events: Events) -> tuple[int, int]:
    """Return our allocator's peaks (allocated, reserved) for a history. They equal torch's if the
    allocator is right, whatever the prediction is."""
    allocator = Allocator()
    blocks: list[Block | None] = []
    for event in events:
        if event > 0:
            blocks.append(allocator.malloc(event))
        else:
            allocator.free(blocks[-event - 1])
    return allocator.peak_allocated, allocator.peak_reserved


def write(path: str, events: Events) -> None:
    body = json.dumps({"schema": SCHEMA, "events": events}, separators=(",", ":"))
    with open(path, "wb") as file:  # the same bytes each time
        file.write(gzip.compress(body.encode(), mtime=0))


def read(path: str) -> Events:
    with gzip.open(path) as file:
        body = json.load(file)
    if body.get("schema") != SCHEMA:
        line = sentence("file.schema", schema=body.get("schema"), known=SCHEMA)
        raise BadFileError(line, where=path)
    return tuple(body["events"])

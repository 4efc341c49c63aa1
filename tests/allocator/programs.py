"""Programs that torch's own allocator ran, and a machine that runs them on the replay.

tools/torch_allocator/record.py let libc10_cuda of PyTorch 2.15 run over a stand-in for the driver,
and wrote down what it returned, counted and kept.
"""

import base64
import gzip
import json
import pickle
from pathlib import Path

from weighbridge.machines.allocator import Allocator, OutOfMemoryError, parse
from weighbridge.machines.allocator.reserve import FIRST_ADDRESS

FILE = Path(__file__).parent / "recorded.json.gz"
PROGRAMS = json.loads(gzip.decompress(FILE.read_bytes()))["programs"]
SEGMENTS, RANGES = 0x7F0000000000, 0x700000000000  # where the stand-in begins


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
    allocator.reserve.upwards = True  # as the stand-in for the driver has it, which torch ran on
    return Machine(allocator, program["streams"])


def moved(program):
    """How far torch's addresses lie from ours."""
    return (RANGES if "expandable" in program["settings"] else SEGMENTS) - FIRST_ADDRESS


def snapshot_of(program):
    """What torch.cuda.memory._snapshot() returned in the end."""
    return pickle.loads(base64.b64decode(program["snapshot"]))


def memory_stats(journal):
    """torch.cuda.memory_stats(): the nested counters under names with dots."""
    return dict(flat("", journal.nested()))


def flat(prefix, value):
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, inner in value.items():
        name = "_".join(map(str, key)) if isinstance(key, tuple) else key
        yield from flat(f"{prefix}.{name}" if prefix else name, inner)

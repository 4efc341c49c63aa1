"""Published programs re-run on the fake GPU: the peaks of each, in processes of their own.

    peaks(records, workers=2) -> {Run: Peaks or Failure}

What is allocated is a count. What is reserved beyond it is free room inside segments: that depends
on the order of releases and on workspaces that cuDNN picks, so it may be nothing or twice as much.

A worker is `python -m weighbridge_lab.evidence.traced`: a line of JSON a run in, a line of peaks
out. It imports torch once for many runs; one that dies or takes too long is started anew.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any

from weighbridge.answers import bounds
from weighbridge.base.memory import LEVELS, Bytes
from weighbridge.base.records import dataclass
from weighbridge.machines.accelerators.budget import budget
from weighbridge.memory.components.device import context
from weighbridge_lab.evidence.programs import PROGRAMS
from weighbridge_lab.evidence.records import PublishedFigure
from weighbridge_lab.trace import levels

CARD = "a100-80gb"  # where none is printed


@dataclass(frozen=True, slots=True)
class TracedRun:
    """One run of a program on a card, as a key: `setting` is JSON."""

    program: str
    gpu: str
    version: str | None  # of torch, whose rules hold
    setting: str


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peaks in bytes since the last reset of torch's counters; `context`: the card's CUDA
    context."""

    allocated: int
    reserved: int
    context: Bytes

    def at(
        self, level: str, like: bounds.RunForm, table: bounds.MarginTable | None = None
    ) -> Bytes:
        """Return the bytes of a level with its margin, as in a trace's report."""
        known = next(one for one in LEVELS if one == level)
        return levels.peak(self.allocated, self.reserved, self.context, like, table).at(known)

    def growth(self) -> Bytes:
        """Return the growth at driver level. The context may have been there before, or not."""
        reserved = self.at("reserved", levels.runs(), bounds.NOTHING)
        return Bytes(reserved.low, reserved.expected, reserved.high + self.context.high)

    def beyond(self, less: "Peaks", level: str) -> Bytes:
        """Return how much these peaks exceed a smaller run's. Both have the context, which cancels;
        so does most of what the smaller run leaves open."""
        mine, other = (one.at(level, levels.runs(), bounds.NOTHING) for one in (self, less))
        return Bytes(*(bound - other.expected for bound in mine))


@dataclass(frozen=True, slots=True)
class Failure:
    reason: str
    detail: str


Found = Mapping[TracedRun, Peaks | Failure]


def run(record: PublishedFigure, less: Mapping[str, Any] | None = None) -> TracedRun:
    """Return the run whose peak a record's figure is; with `less`, the run to subtract."""
    assert record.program is not None
    setting = json.dumps({**record.setting, **(less or {})}, sort_keys=True)
    return TracedRun(record.program, record.accelerator or CARD, record.version, setting)


def runs(record: PublishedFigure) -> Iterator[TracedRun]:
    yield run(record)
    if record.less:
        yield run(record, record.less)


def wanted(records: Iterable[PublishedFigure]) -> list[TracedRun]:
    """Return the runs of all records, each once."""
    unique = {r for record in records if _traced(record) for r in runs(record)}
    return sorted(unique, key=str)


def peaks(records: Iterable[PublishedFigure], *, workers: int = 2) -> Found:
    keys = wanted(records)
    idle: SimpleQueue[ProgramWorker] = SimpleQueue()
    crew = [ProgramWorker() for _ in range(min(workers, len(keys)))]
    for worker in crew:
        idle.put(worker)

    def done(one: TracedRun) -> Peaks | Failure:
        worker = idle.get()
        try:
            return worker.peaks(one)
        finally:
            idle.put(worker)

    try:
        with ThreadPoolExecutor(max(1, len(crew))) as threads:
            return dict(zip(keys, threads.map(done, keys), strict=True))
    finally:
        for worker in crew:
            worker.stop()


def peaks_of(one: TracedRun, allocated: int, reserved: int) -> Peaks:
    chosen = budget(one.gpu, None, None)
    assert chosen
    return Peaks(allocated, reserved, context(chosen.choice.part).bytes)


def _traced(record: PublishedFigure) -> bool:
    return record.task == "trace" and record.skip is None


class ProgramWorker:
    """A process that runs programs, one after the other."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def peaks(self, one: TracedRun) -> Peaks | Failure:
        program = PROGRAMS[one.program]
        if program.missing:
            packages = ", ".join(program.missing)
            return Failure("needs a package that is not installed", packages)
        answer = self._ask([one.program, one.gpu, one.version, one.setting], program.seconds)
        if "error" in answer:
            return Failure("the program failed", answer["error"])
        return peaks_of(one, answer["allocated"], answer["reserved"])

    def _ask(self, request: Sequence[str | None], seconds: int) -> dict[str, Any]:
        process = self._started()
        assert process.stdin
        assert process.stdout
        limit = threading.Timer(seconds, process.kill)
        limit.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            limit.cancel()
        if not line:
            self.stop()
            return {"error": f"its process ended, or took more than {seconds} s"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [sys.executable, "-m", __name__]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def serve() -> None:
    """Answer requests from stdin on stdout; programs and their libraries print to stderr
    instead."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = measure(*json.loads(line))
        except Exception as error:  # whatever a program raises is its answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def measure(name: str, gpu: str, version: str | None, setting: str) -> dict[str, Any]:
    """Return the peaks of one run, in this process. Imports torch."""
    import gc

    import torch

    from weighbridge_lab.trace.gpu import FakeGPU

    program = PROGRAMS[name].load(json.loads(setting))
    with FakeGPU(gpu, torch_version=version):
        program("cuda")
        allocated = torch.cuda.max_memory_allocated()
        reserved = torch.cuda.max_memory_reserved()
    gc.collect()
    return {"allocated": allocated, "reserved": reserved}


if __name__ == "__main__":
    serve()


# Peaks in a file, one line per run, for machines without torch: {"program", "gpu", "version", ...}

UNKNOWN = Failure("needs torch: --trace", "not in the file")


def read(path: str) -> dict[TracedRun, Peaks]:
    """Return the peaks of runs in a file."""
    with open(path, encoding="utf-8") as lines:
        return dict(_peaks(**json.loads(line)) for line in lines)


def _peaks(
    *, allocated: int, reserved: int, setting: object, **run: str
) -> tuple[TracedRun, Peaks]:
    one = TracedRun(**run, setting=json.dumps(setting, sort_keys=True))
    return one, peaks_of(one, allocated, reserved)


def write(path: str, runs: Found) -> None:
    """Write the peaks of runs to a file; failures are left out."""
    with open(path, "w", encoding="utf-8") as lines:
        for one in sorted(runs, key=str):
            peaks = runs[one]
            if isinstance(peaks, Peaks):
                facts = {**asdict(one), "setting": json.loads(one.setting)}
                bytes_by_level = {"allocated": peaks.allocated, "reserved": peaks.reserved}
                lines.write(json.dumps({**facts, **bytes_by_level}) + "\n")


def complete(runs: Found, records: Iterable[PublishedFigure]) -> Found:
    """Return `runs` with a failure for each run that is missing."""
    return {one: runs.get(one, UNKNOWN) for one in wanted(records)}

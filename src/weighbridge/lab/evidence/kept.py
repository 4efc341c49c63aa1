"""Peaks of runs in a file, a line a run: what a re-run found, for machines without torch.

{"program", "gpu", "version", "setting", "allocated", "reserved"}
"""

import json
from collections.abc import Iterable
from dataclasses import asdict

from weighbridge.lab.evidence.records import PublishedFigure
from weighbridge.lab.evidence.traced import Failure, Found, Peaks, TracedRun, peaks_of, wanted

UNKNOWN = Failure("needs torch: --trace", "not in the file")


def read(path: str) -> dict[TracedRun, Peaks]:
    """Read the peaks of runs from a file."""
    with open(path, encoding="utf-8") as lines:
        return dict(_peaks(**json.loads(line)) for line in lines)


def _peaks(
    *, allocated: int, reserved: int, setting: object, **run: str
) -> tuple[TracedRun, Peaks]:
    one = TracedRun(**run, setting=json.dumps(setting, sort_keys=True))
    return one, peaks_of(one, allocated, reserved)


def write(path: str, runs: Found) -> None:
    """Write the peaks of runs; failures are left out."""
    with open(path, "w", encoding="utf-8") as lines:
        for one in sorted(runs, key=str):
            peaks = runs[one]
            if isinstance(peaks, Peaks):
                facts = {**asdict(one), "setting": json.loads(one.setting)}
                bytes_by_level = {"allocated": peaks.allocated, "reserved": peaks.reserved}
                lines.write(json.dumps({**facts, **bytes_by_level}) + "\n")


def complete(runs: Found, records: Iterable[PublishedFigure]) -> Found:
    """Add a failure for each run that is missing."""
    return {one: runs.get(one, UNKNOWN) for one in wanted(records)}

"""What a callback says: the prediction before the first step, and the peaks after some."""

import sys
from collections.abc import Callable, Iterator

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.units import human
from weighbridge.files.runfiles.live.peaks import NO_CARD, Seen, peaks, predicted
from weighbridge.memory.report import Report


class Teller:
    """Says each thing once; `log` is called with each line, and None writes to
    stderr."""

    def __init__(self, steps: int, log: Callable[[str], None] | None) -> None:
        self.steps, self.log = steps, log or _printed
        self.report: Report | None = None
        self.measured: Seen | None = None

    def predict(self, weigh: Callable[[], Report]) -> None:
        """Say what is predicted, or in one line why it cannot be."""
        try:
            self.report = weigh()
        except WeighbridgeError as error:
            self.log(f"weighbridge: not weighed: {error}")
            return
        except Exception as error:  # a training goes on, whatever its objects hold
            problem = " ".join(str(error).split())
            self.log(f"weighbridge: not weighed: {type(error).__name__}: {problem:.200}")
            return
        for line in (*predicted(self.report), *_short(self.report), *self.report.warnings):
            self.log(f"weighbridge: {line}")

    def step(self, number: int) -> None:
        """Say what was measured, once `steps` were made."""
        if self.measured is not None or number < self.steps:
            return
        self.measured = Seen(self.report)
        self.measured.peaks = peaks()
        if not self.measured.peaks:
            self.log(f"weighbridge: {NO_CARD}")
            return
        for line in str(self.measured).splitlines():
            self.log(f"weighbridge: after step {number}: {line}")


def _printed(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _short(report: Report) -> Iterator[str]:
    """Yield why a run may not fit, and what would help; nothing where it does."""
    verdict = report.verdict
    if verdict is None or verdict.fits == "yes":
        return
    says = "this will run out of memory" if verdict.fits == "no" else "this may not fit"
    yield f"{says}: {verdict.reason}"
    for remedy in report.remedies[:2]:
        change = ", ".join(f"{name} {value}" for name, value in remedy.change.items())
        yield f"{human(remedy.peak_bytes)} with {change}"

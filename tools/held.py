"""Cases that were collected to be asked before they were read: how well they are met.

    python -m tools.held             what we say of each engine's, and where that lies
    python -m tools.held --each      every case, too
    python -m tools.held --bin PATH  the same of another weighbridge

held.jsonl has a case a line: how it is asked, as anybody would type it, what was measured or how it
ended, and where that stands. Nothing is fitted to them and no rule was read off them, so that they
say what an answer is worth that nobody has checked. A minute or two.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from weighbridge_lab.evidence.accuracy import percentile
from weighbridge_lab.evidence.records import ABOVE, HERE

FILE = Path(HERE) / "held.jsonl"
BIN = (sys.executable, "-m", "weighbridge")
PARTS = {  # components of a device, and their detail
    "weights": ("weights", ""),  # without a projector
    "cuda_graphs": ("cuda_graphs", None),
    "kv_target": ("kv_cache", ""),
    "states": ("recurrent_state", None),
    "compute": ("activations", "compute buffer"),
}
COUNTS = {  # numbers of a report, and the interval that they stand in
    ("vllm", "weights"): ("model_loading_bytes", "model_loading_interval"),
    ("vllm", "kv_available"): ("available_kv_cache_bytes", "available_kv_cache_interval"),
    ("vllm", "kv_tokens"): ("kv_cache_tokens", "available_kv_cache_interval"),
    ("sglang", "kv_tokens"): ("kv_cache_tokens", "max_total_num_tokens_interval"),
    ("ollama", "ps"): ("ollama_ps_bytes", "ollama_ps_interval"),
}
EXPECTED = {"runs": "yes", "out of memory": "no"}
Bounds = tuple[int, int, int]


class HeldCase(NamedTuple):
    """A figure has a quantity and what was measured, an outcome how it ended."""

    id: str
    date: str
    engine: str
    line: tuple[str, ...]
    citation: Mapping[str, Any]
    quantity: str = ""
    level: str = ""
    measured: int = 0
    resolution: int = 0
    outcome: str = ""
    caveat: str = ""


class Told(NamedTuple):
    """What we say of a case: an interval, a verdict, or neither where it is refused."""

    case: HeldCase
    bounds: Bounds | None = None
    fits: str = ""
    refused: str = ""

    @property
    def error(self) -> float:
        assert self.bounds is not None
        return abs(self.bounds[1] / self.case.measured - 1)

    @property
    def inside(self) -> bool:
        assert self.bounds is not None
        low, _, high = self.bounds
        return low - self.case.resolution <= self.case.measured <= high + self.case.resolution

    @property
    def above(self) -> bool:
        assert self.bounds is not None
        return self.case.measured - self.case.resolution > self.bounds[2] * ABOVE

    @property
    def ending(self) -> str:
        if not self.fits or self.fits == "unknown":
            return self.fits or "refused"
        return "right" if self.fits == EXPECTED[self.case.outcome] else f"false {self.fits}"


def held() -> tuple[HeldCase, ...]:
    lines = map(json.loads, FILE.read_text("utf-8").splitlines())
    return tuple(HeldCase(**{**line, "line": tuple(line["line"])}) for line in lines)


@cache
def reported(program: tuple[str, ...], line: tuple[str, ...]) -> Any:
    """Return the report that a program writes, or the words of its refusal."""
    asked = [*program, *line, "--offline", "--json"]
    ended = subprocess.run(asked, capture_output=True, text=True, check=False)
    return json.loads(ended.stdout) if ended.stdout.startswith("{") else ended.stderr.strip()


def told(case: HeldCase, program: tuple[str, ...] = BIN) -> Told:
    report = reported(program, case.line)
    if isinstance(report, str):
        return Told(case, refused=report)
    if case.outcome:
        return Told(case, fits=report["verdict"]["fits"])
    return Told(case, bounds=_read(report, case))


def _read(report: Mapping[str, Any], case: HeldCase) -> Bounds:
    if (case.engine, case.quantity) in COUNTS:
        count, interval = COUNTS[case.engine, case.quantity]
        return _scaled(report["derived"][count], report["derived"].get(interval))
    device = next(one for one in report["devices"] if one["kind"] == "gpu")
    if case.quantity == "peak":
        return _bounds(device["peak"][case.level])
    if case.engine == "sglang":  # what the driver shows more of after loading
        loading = {**device, "phases": device["phases"][:1]}
        return _most(loading, lambda c: c["level"] != "driver")
    name, detail = PARTS[case.quantity]
    return _most(device, lambda c: c["name"] == name and detail in (None, c.get("detail", "")))


def _scaled(count: int, interval: Sequence[int] | None) -> Bounds:
    low, expected, high = interval or (1, 1, 1)
    return count * low // expected, count, count * high // expected


def _most(device: Mapping[str, Any], counts: Any) -> Bounds:
    """Return the largest sum of a phase's components that count."""
    phases = ([c["bytes"] for c in p["components"] if counts(c)] for p in device["phases"])
    return max((_sum(map(_bounds, sizes)) for sizes in phases), key=lambda b: b[1])


def _bounds(size: Any) -> Bounds:
    return (size["low"], size["expected"], size["high"]) if isinstance(size, dict) else (size,) * 3


def _sum(sizes: Iterable[Bounds]) -> Bounds:
    low, expected, high = zip((0, 0, 0), *sizes, strict=True)
    return sum(low), sum(expected), sum(high)


def figures(name: str, found: Sequence[Told]) -> str:
    """Tell how far figures lie from what was measured, and how many intervals hold them."""
    answered = [one for one in found if one.bounds is not None]
    errors = sorted(one.error for one in answered)
    shares = (sum(getattr(one, of) for one in answered) for of in ("inside", "above"))
    inside, above = (share / max(1, len(answered)) for share in shares)
    median, most = (percentile(errors, at) if errors else 0.0 for at in (50, 95))
    start = f"{name:13} {len(answered):3} of {len(found):3}  median {median:7.2%}"
    return f"{start}  95 % {most:7.1%}  inside {inside:4.0%}  above {above:4.0%}"


def endings(name: str, found: Sequence[Told]) -> str:
    counted = Counter(one.ending for one in found)
    return f"{name:13} {len(found):3}  " + ", ".join(f"{n} {k}" for k, n in sorted(counted.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", action="store_true", help="every case, too")
    parser.add_argument("--bin", help="another weighbridge")
    asked = parser.parse_args()
    program = (asked.bin,) if asked.bin else BIN
    found = list(map(partial(told, program=program), held()))
    for one in found if asked.each else ():
        print(one.case.id, one.bounds or one.fits or one.refused, one.case.measured or one.ending)
    for shown, chosen in (
        (figures, [one for one in found if not one.case.outcome]),
        (endings, [one for one in found if one.case.outcome]),
    ):
        for engine in sorted({one.case.engine for one in chosen}):
            print(shown(engine, [one for one in chosen if one.case.engine == engine]))
        print(shown("all", chosen))


if __name__ == "__main__":
    main()

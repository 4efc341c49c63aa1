"""Write every file that the repository generates from itself: `make records`.

    python -m tools.records             write what is stale; print what changed, and seconds
    python -m tools.records --check     change nothing; exit 1 if a file is stale
    python -m tools.records --only docs screens
    python -m tools.records --all       also those that take minutes
    python -m tools.records --list      files, and the command that writes them

Nobody edits a generated file, and no branch commits one: a branch holds code and tests, and whoever
lands it writes the records once (.gitattributes; `make merge BRANCH=...`).
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tools import screens

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable


class Record(NamedTuple):
    """Files that one command writes."""

    name: str
    files: tuple[str, ...]  # from the root; a folder stands for the files in it
    command: tuple[str, ...]
    seconds: int  # of one core, about: the longest of a rank starts first
    rank: int = 0  # records of a lower rank are written before
    environment: tuple[tuple[str, str], ...] = ()


def _module(*words: str) -> tuple[str, ...]:
    return (PYTHON, "-m", *words)


WRITE_SCREENS = ("pytest", "-q", "-n", "0", "-m", "slow or not slow")
QUICK = (
    Record("types", ("src/weighbridge/models/arch/types.json",), _module("tools.model_types"), 3),
    Record(
        "docs",
        (
            "docs/commands.md",
            "docs/architectures.md",
            "docs/formats.md",
            "docs/models.md",
            "docs/gpus.md",
            "src/weighbridge/models/catalogue/parameters.json",
            "skills/weighbridge/SKILL.md",
        ),
        (PYTHON, "tools/docs.py"),
        20,
        1,
    ),
    Record("refusals", ("docs/refusals.md",), _module("tools.refusals", "--write"), 2, 1),
    Record("house", ("docs/architecture.md",), _module("tools.house", "--write"), 12, 1),
    Record("budgets", ("tools/house.toml",), _module("tools.budgets", "--lower"), 12, 1),
    Record("screens", screens.PAGES, _module("tools.screens"), 30, 1),
    Record("gallery", ("docs/gallery",), _module("tools.gallery"), 10, 1),
    Record(
        "golden",
        ("tests/screens",),
        _module(*WRITE_SCREENS, "tests/view/test_golden_screens.py"),
        15,
        1,
        (("WRITE_SCREENS", "1"),),
    ),
    Record(
        "corners",
        ("tests/corners.jsonl", "tests/sentences.txt"),
        _module("tools.replay", "--corners", "--accept", "--jobs", "1"),
        60,
        1,
    ),
    Record("texts", ("tests/texts.jsonl",), _module("tools.replay", "--texts", "--accept"), 90, 1),
)
SLOW = (  # minutes each: `make records-all`
    Record(
        "margins",
        tuple(
            f"src/weighbridge/answers/bounds/{name}"
            for name in ("margins.jsonl", "seen.json", "novelty.jsonl", "forward.json")
        ),
        (PYTHON, "tools/fit_intervals.py"),
        240,
    ),
    Record("replay", ("tests/replay.jsonl",), _module("tools.replay", "--accept"), 900, 1),
    Record(
        "accuracy",
        ("tests/accuracy.json", "src/weighbridge/answers/bounds/accuracy.json"),
        (PYTHON, "tools/pin_accuracy.py"),
        90,
        1,
    ),
    Record(
        "evidence",
        ("docs/accuracy.md", "docs/accuracy-scatter.svg", "docs/accuracy-coverage.svg"),
        _module("tools.evidence"),
        240,
        2,
    ),
)


def _contents(files: Sequence[str]) -> dict[Path, bytes]:
    """Return the bytes of each file, also of those in folders."""
    paths = [ROOT / file for file in files]
    inner = [path for folder in paths if folder.is_dir() for path in folder.glob("*")]
    return {path: path.read_bytes() for path in (*paths, *inner) if path.is_file()}


def _write(record: Record) -> tuple[float, str]:
    """Run a record's command; return its seconds, and the end of its output if it failed."""
    began = time.monotonic()
    done = subprocess.run(
        record.command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **dict(record.environment)},
    )
    failed = done.returncode not in (0, 1)  # 1: something changed
    return time.monotonic() - began, (done.stdout + done.stderr)[-2000:] if failed else ""


def _ranks(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Yield the records that may be written at the same time, the longest first."""
    for rank in sorted({record.rank for record in records}):
        yield sorted((r for r in records if r.rank == rank), key=lambda r: -r.seconds)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", nargs="+", default=(), metavar="RECORD")
    parser.add_argument("--all", action="store_true", help="also those that take minutes")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def main() -> int:
    options = _parse_options()
    every = (*QUICK, *SLOW)
    if options.list:
        for record in every:
            files = " ".join(record.files)
            print(f"{record.name:10} {record.seconds:4} s  {files} <-", *record.command[1:])
        return 0
    asked = every if options.all or options.only else QUICK
    records = [record for record in asked if not options.only or record.name in options.only]
    before = {record.name: _contents(record.files) for record in records}
    began, errors, stale = time.monotonic(), [], {}
    with ThreadPoolExecutor(options.jobs) as pool:
        for some in _ranks(records):
            for record, (seconds, error) in zip(some, pool.map(_write, some), strict=True):
                now, was = _contents(record.files), before[record.name]
                new = {
                    path: was.get(path) for path in {**was, **now} if was.get(path) != now.get(path)
                }
                names = ", ".join(sorted(str(path.relative_to(ROOT)) for path in new))
                verdict = "FAILED" if error else f"wrote {names}" if new else "as it was"
                print(f"{record.name:10} {seconds:6.1f} s  {verdict}", flush=True)
                errors += [error] if error else []
                stale |= new
    print(f"records: {time.monotonic() - began:.0f} s; {len(stale)} files changed")
    print(*errors, sep="\n", end="")
    if options.check:
        _restore(stale)
    return int(bool(errors) or (options.check and bool(stale)))


def _restore(contents: dict[Path, bytes | None]) -> None:
    """Give files the bytes that they had; None for one that was not there."""
    for path, content in contents.items():
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)


if __name__ == "__main__":
    raise SystemExit(main())

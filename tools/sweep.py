"""Trace a training step of many models on the fake GPU, and write docs/sweep.md.

    python -m tools.sweep [timm|transformers ...] [--out FILE] [--rows FILE] [--jobs N]

Each model runs in a worker process, which is used again. What fails there is tried with real
tensors on the CPU: where that fails as well, it is the class's own matter. What `--rows` has from
before is not done again, but for what failed.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic

from tools import sweep_worker

OUT = Path(__file__).parent.parent / "docs" / "sweep.md"
LIMIT = 300  # seconds for one model
PACKAGES = ("torch", "transformers", "timm")
STUCK, DIED = "no answer within {:.0f} seconds", "the process ended with status {}"
HEAD = """# Training steps that were traced

<!-- written by tools/sweep.py (make sweep) -->

You need this page if you want to know whether `weighbridge trace train.py` gets through a training
step of your model. The table says it for timm's models and for transformers' classes.

Each model ran one step on a fake A100 80GB with batch 2: forward, loss, backward, optimizer.
timm's models have their default sizes, and SGD with momentum. transformers' classes are built
from tiny configs, and have AdamW. *Peak* is what is allocated, in MiB. *Seconds* were taken on
two busy cores; imports count for the model that came first. A failure that also comes with real
tensors on the CPU is the class's *own* matter, and is not counted.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model. `failed` names what stopped it."""

    suite: str
    name: str
    seconds: float
    parameters: int = 0
    peak: int = 0
    failed: str = ""
    own: bool = False  # the CPU fails as well


class Worker:
    """A process that is asked one model after another, and replaced where it is stuck or dead."""

    def __init__(self) -> None:
        self.job: tuple[str, str] | None = None
        self.began = 0.0
        self.start()

    def start(self) -> None:
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=sweep_worker.serve, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def end(self) -> None:
        self.process.kill()
        self.process.join()

    def ask(self, job: tuple[str, str]) -> None:
        self.job, self.began = job, monotonic()
        self.connection.send(job)

    def answer(self, limit: float) -> Row | None:
        """Return the model's row once it is here; a row of failure if the process died or took
        longer than `limit` seconds; else None."""
        seconds, last = monotonic() - self.began, True
        if self.connection.poll():
            try:
                found, last = self.connection.recv()
            except EOFError:
                self.process.join()
                found = {"seconds": seconds, "failed": DIED.format(self.process.exitcode)}
        elif seconds > limit:
            found = {"seconds": seconds, "failed": STUCK.format(limit)}
        else:
            return None
        assert self.job is not None
        suite, name = self.job
        self.job = None
        if last:
            self.end()
            self.start()
        return Row(suite=suite, name=name, **found)


def sweep(jobs: list[tuple[str, str]], count: int, limit: float) -> Iterator[Row]:
    waiting = jobs[::-1]
    workers = [Worker() for _ in range(min(count, len(jobs)))]
    while waiting or any(worker.job for worker in workers):
        for worker in workers:
            if worker.job is None and waiting:
                worker.ask(waiting.pop())
        busy = [worker for worker in workers if worker.job]
        wait([worker.connection for worker in busy], timeout=1)
        yield from filter(None, [worker.answer(limit) for worker in busy])
    for worker in workers:
        worker.end()


def document(rows: list[Row]) -> str:
    """The page: figures first, then what failed, then all that was traced."""
    names = dict.fromkeys(row.suite for row in rows)
    suites = {name: [row for row in rows if row.suite == name] for name in names}
    lines = [HEAD, f"Versions: {versions()}.\n"]
    lines += [
        "| suite | models | traced | failed | its own |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [figures(name, mine) for name, mine in suites.items()]
    failures = [row for row in rows if row.failed]
    if failures:
        lines += [
            "\n## What was not\n",
            "| suite | model | what stopped it |",
            "| --- | --- | --- |",
        ]
        for row in failures:
            own = "(its own) " if row.own else ""
            lines.append(f"| {row.suite} | {row.name} | {own}{row.failed.replace('|', '/')} |")
    for suite, mine in suites.items():
        lines += [f"\n## {suite}\n", "| model | parameters (M) | peak (MiB) | seconds |"]
        lines += ["| --- |" + " ---: |" * 3, *(told(row) for row in mine if not row.failed)]
    return "\n".join(lines) + "\n"


def figures(suite: str, rows: list[Row]) -> str:
    own = sum(row.own for row in rows)
    failed = sum(bool(row.failed) and not row.own for row in rows)
    done = len(rows) - own - failed
    share = done / max(1, done + failed)
    return f"| {suite} | {len(rows)} | {done} ({share:.1%}) | {failed} | {own} |"


def told(row: Row) -> str:
    parameters, peak = row.parameters / 1e6, row.peak / 2**20
    return f"| {row.name} | {parameters:.2f} | {peak:.1f} | {row.seconds:.1f} |"


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help="timm, transformers, or names of models")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rows", type=Path, help="a line of JSON for each model, kept")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=LIMIT)
    given = parser.parse_args()
    jobs = [job for job in sweep_worker.jobs() if not given.what or set(job) & set(given.what)]
    done = kept(given.rows)
    waiting = [job for job in jobs if job not in done]
    for count, row in enumerate(sweep(waiting, given.jobs, given.limit), 1):
        done[row.suite, row.name] = row
        said = row.failed or f"{row.peak / 2**20:.1f} MiB"
        print(f"{count}/{len(waiting)} {row.name} {row.seconds:.1f} s {said}", file=sys.stderr)
        if given.rows:
            with given.rows.open("a", encoding="utf-8") as file:
                print(json.dumps(asdict(row)), file=file)
    given.out.write_text(document([done[job] for job in jobs]), encoding="utf-8")


def kept(path: Path | None) -> dict[tuple[str, str], Row]:
    """What was traced before."""
    if path is None or not path.exists():
        return {}
    rows = [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(row.suite, row.name): row for row in rows if not row.failed}


if __name__ == "__main__":
    main()

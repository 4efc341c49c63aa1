"""Throw what a stranger may make at the command line: it may only answer, or refuse in one line.

    python -m tests.fuzz --minutes 60 --seed 7             all targets, in turns
    python -m tests.fuzz config gguf --minutes 5
    python -m tests.fuzz --case "config 7:123"             one case again, with its traceback

Each case runs in a process of its own kind (tests/hostile/worker.py), its memory and its time
measured. A finding is what the command line calls a defect of its own, a traceback, more than
MOST_BYTES, at night more than MOST_SECONDS, an error of more than 300 characters or of several lines, one
that does not name its input, a control character, a password, or a report that breaks a law.
"""

import argparse
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

MOST_BYTES = 1 << 30
MOST_SECONDS = 10.0
ENDS = 120.0  # seconds after which a worker is ended, and the case with it
SHOWN = 12  # findings of one kind and target that are printed
LARGEST = 1 << 20  # bytes of a mutated file
TURNS = {"bomb": 10, "hub": 3}  # those that take seconds to make have a turn of so many

INTERESTING = [0, 1, 2, 3, 4, 7, 8, 31, 32, 64, 127, 128, 255, 256, 4096, 65535, 65536]
INTERESTING += [(1 << n) + d for n in (31, 32, 40, 62, 63, 64) for d in (-1, 0, 1)]


def flip(rng, file):
    for _ in range(rng.choice((1, 1, 2, 8))):
        file[rng.randrange(len(file))] ^= 1 << rng.randrange(8)


def put_byte(rng, file):
    file[rng.randrange(len(file))] = rng.randrange(256)


def put_number(rng, file):
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice(INTERESTING) % (1 << 8 * width)
    at = rng.randrange(len(file))
    file[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))


def put_digits(rng, file):
    at = rng.randrange(len(file))
    while at < len(file) and not 48 <= file[at] <= 57:
        at += 1
    end = at
    while end < len(file) and 48 <= file[end] <= 57:
        end += 1
    file[at:end] = str(rng.choice(INTERESTING)).encode()


def cut(rng, file):
    at = rng.randrange(len(file))
    del file[at : at + rng.choice((1, 2, 8, 64, len(file)))]


def repeat(rng, file):
    at = rng.randrange(len(file))
    piece = file[at : at + rng.choice((1, 2, 8, 64, 512))]
    to = rng.randrange(len(file))
    file[to:to] = piece * rng.choice((1, 1, 2, 100))


def swap(rng, file):
    a, b, n = rng.randrange(len(file)), rng.randrange(len(file)), rng.choice((1, 4, 16))
    file[a : a + n], file[b : b + n] = file[b : b + n], file[a : a + n]


def insert_token(tokens):
    def insert(rng, file):
        at = rng.randrange(len(file) + 1)
        file[at : at + rng.choice((0, 0, 1, 4))] = rng.choice(tokens)

    return insert


MUTATIONS = [flip, flip, put_byte, put_number, put_number, put_digits, cut, repeat, swap]


def mutate(rng, seed, mutations):
    file = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not file:
            break
        rng.choice(mutations)(rng, file)
    return bytes(file[:LARGEST])


class Worker:
    """A process that answers cases, started anew where one has ended it."""

    def __init__(self):
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def result(self, case):
        """What came of it; that the process ended, where it did."""
        if self.process is None:
            self.start()
        self.process.stdin.write(f"{case}\n".encode())
        self.process.stdin.flush()
        end, held = time.monotonic() + ENDS, b""
        while not held.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            piece = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            if not piece:
                self.stop()
                wrong = "the process died" if ready else "no end"
                return {"code": None, "seconds": ENDS, "bytes": 0, "wrong": [wrong], "said": ""}
            held += piece
        return json.loads(held)


@dataclass
class Tally:
    """What was found, by target."""

    cases: Counter = field(default_factory=Counter)
    answered: Counter = field(default_factory=Counter)
    wrong: dict = field(default_factory=dict)  # (target, what) -> cases
    slowest: dict = field(default_factory=dict)  # target -> (seconds, case)
    largest: dict = field(default_factory=dict)  # target -> (bytes, case)
    most_seconds: float = float("inf")  # of the processor

    def add(self, target, case, result):
        wrong = list(result["wrong"])
        wrong += ["over 10 s"] if result["seconds"] > self.most_seconds else []
        wrong += ["over 1 GiB"] if result["bytes"] > MOST_BYTES else []
        self.cases[target] += 1
        self.answered[target] += result["code"] in (0, 1, 4)
        for held, key in ((self.slowest, "seconds"), (self.largest, "bytes")):
            held[target] = max(held.get(target, (0, "")), (result[key], case))
        for what in wrong:
            found = self.wrong.setdefault((target, what), [])
            found.append(case)
            if len(found) <= SHOWN:
                cost = f"{result['seconds']:.1f} s, {result['bytes'] >> 20} MiB"
                print(f"FINDING {case}: {what}; {cost}; {result['said'][:300]!r}", flush=True)

    def report(self, seed):
        for target, count in self.cases.items():
            found = {what: len(c) for (t, what), c in self.wrong.items() if t == target}
            print(
                f"{target}: {count:,} cases, {self.answered[target]:,} answered, slowest"
                f" {self.slowest[target][0]:.1f} s ({self.slowest[target][1]}), most"
                f" {self.largest[target][0] >> 20} MiB ({self.largest[target][1]}):"
                f" {found or 'nothing found'}"
            )
        total = sum(len(found) for found in self.wrong.values())
        print(f"{sum(self.cases.values()):,} cases, {total:,} findings, seed {seed}", flush=True)
        return total


def fuzz(targets, *, seconds=None, cases=None, seed=0, most_seconds=float("inf")):
    """Cases of `targets` in turns, until the time is over or each target has had so many."""
    tally, worker = Tally(most_seconds=most_seconds), Worker()
    end, turn = time.monotonic() + (seconds or float("inf")), 0
    try:
        while time.monotonic() < end and (cases is None or turn < cases):
            for target in targets:
                if turn % TURNS.get(target, 1):
                    continue
                case = f"{target} {seed}:{turn}"
                tally.add(target, case, worker.result(case))
            turn += 1
    finally:
        worker.stop()
    return tally


def kept():
    """Cases that once found something: a line each."""
    lines = (Path(__file__).parent / "hostile" / "seeds.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def of_kept():
    tally, worker = Tally(), Worker()
    try:
        for case in kept():
            tally.add(case.partition(" ")[0], case, worker.result(case))
    finally:
        worker.stop()
    return tally


def again(case):
    """One case in this process, with the traceback of what was not foreseen."""
    import random
    import tempfile

    from tests.hostile.cases import Place, targets
    from tests.hostile.worker import run

    target = case.partition(" ")[0]
    with tempfile.TemporaryDirectory() as folder, Place(Path(folder)) as place:
        made = targets()[target](random.Random(case), place)
        print(*made.arguments, (made.stdin or b"")[:1000], sep="\n  ")
        for path in sorted(place.folder.glob("case*/**/*")):
            if path.is_file():
                print(f"{path} ({path.stat().st_size:,} bytes)\n  {path.read_bytes()[:3000]}")
        print(*place.hub.faults, sep="\n")
        os.environ["WEIGHBRIDGE_DEBUG"] = "1"
        print(run(made))


def main():
    from tests.hostile.cases import targets as every

    known = every()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(known)}")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kept", action="store_true", help="those of tests/hostile/seeds.txt")
    parser.add_argument("--case", help='one case again: "config 7:123"')
    options = parser.parse_args()
    if options.case:
        return again(options.case)
    if options.kept:
        tally = of_kept()
        return sys.exit(1 if tally.report("kept") else 0)
    targets = options.targets or list(known)
    if unknown := set(targets) - known.keys():
        parser.error(f"no such target: {', '.join(unknown)}; known: {', '.join(known)}")
    tally = fuzz(
        targets, seconds=60 * options.minutes, seed=options.seed, most_seconds=MOST_SECONDS
    )
    return sys.exit(1 if tally.report(options.seed) else 0)


if __name__ == "__main__":
    main()

"""Throw mutated files at a parser: it may only answer, or raise one of our own errors.

    python -m tests.fuzz safetensors --seconds 600
    python -m tests.fuzz all --seconds 60 --seed 7

Memory is bounded by a limit on the address space, which turns greed into a MemoryError; a parser
that takes longer than SLOW seconds for one file is a finding as well.
"""

import argparse
import random
import resource
import sys
import time
import traceback

from tests.formats import corpus
from tests.formats.drive import drive
from weighbridge.errors import WeighbridgeError

SLOW = 5.0
ADDRESS_SPACE = 3 << 30
LARGEST = 1 << 20  # bytes of a mutated file

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


def one(target, file, rng):
    """The name of what happened; our own errors are fine, all others are findings."""
    size = rng.choice((None, len(file)))
    start = time.perf_counter()
    try:
        drive(target.plan(size), file)
        outcome = "read"
    except WeighbridgeError as error:
        message = str(error)
        outcome = (
            "refused"
            if "\n" not in message and len(message) < 1000
            else f"message: {message[:200]!r}"
        )
    except (Exception, RecursionError, MemoryError) as error:
        outcome = "".join(traceback.format_exception(error, limit=-3))
    seconds = time.perf_counter() - start
    return (outcome if seconds < SLOW else f"took {seconds:.1f} s"), seconds


def fuzz(name, seconds, seed):
    target, rng = corpus.TARGETS[name], random.Random(seed)
    seeds = list(target.seeds())
    mutations = [*MUTATIONS, insert_token(target.tokens)] if target.tokens else MUTATIONS
    counts, findings, slowest = {"read": 0, "refused": 0}, {}, 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        file = mutate(rng, rng.choice(seeds), mutations)
        outcome, took = one(target, file, rng)
        slowest = max(slowest, took)
        if outcome in counts:
            counts[outcome] += 1
        elif outcome not in findings and len(findings) < 20:
            findings[outcome] = file
            print(f"FINDING {outcome}\n  {len(file)} bytes: {file[:300].hex()}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{name}: {sum(counts.values()):,} files in {seconds} s ({counts['read']:,} read,"
        f" {counts['refused']:,} refused), {len(findings)} findings,"
        f" slowest {slowest:.2f} s, peak {peak} MiB, seed {seed}",
        flush=True,
    )
    return len(findings)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=[*corpus.TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    names = corpus.TARGETS if options.target == "all" else [options.target]
    sys.exit(1 if sum([fuzz(name, options.seconds, options.seed) for name in names]) else 0)


if __name__ == "__main__":
    main()

"""100,000 requests and releases on the replayed allocator, in a fresh interpreter each time."""

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.measure import side_by_side, table, verdict, wall

COUNT = 100_000
CODE = """
import random, sys
from weighbridge.machines.allocator import Allocator, Journal, parse
settings, kept, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
journal = Journal(history=kept == "history") if kept else None
allocator, live, turn = Allocator(parse(settings), journal=journal), [], random.Random(0)
ranges = ((1, 1 << 12), (1 << 12, 1 << 20), (1 << 20, 10 << 20), (10 << 20, 200 << 20))
sizes = [turn.randint(*turn.choice(ranges)) for _ in range(200)]
for _ in range(count):
    if live and (len(live) > 400 or turn.random() < 0.48):
        allocator.free(live.pop(max(0, len(live) - turn.randint(1, 40))))
    else:
        live.append(allocator.malloc(turn.choice(sizes)))
print(allocator.requests, allocator.peak_reserved)
"""
KINDS = {  # settings, and what is written down
    "allocator": ("", ""),
    "allocator, expandable segments": ("expandable_segments:True", ""),
    "allocator, max_split_size_mb:128": ("max_split_size_mb:128", ""),
    "allocator, memory_stats": ("", "counters"),
    "allocator, memory_stats and history": ("", "history"),
}


def run(bench: Bench) -> Iterator[str]:
    commands = [bench.python(name, CODE, *kind, str(COUNT)) for name, kind in KINDS.items()]
    found = side_by_side(commands, bench.rounds)
    yield table(found)
    yield ""
    for name in found:
        target = 0.75 if "history" in name else 0.5
        yield verdict(f"`{name}`, {COUNT:,} events and the start, s", wall(found[name]), target)

"""Many requests through one `weighbridge run`: one model 1,000 times, and the catalogue once."""

import json
from collections.abc import Iterable, Iterator
from itertools import cycle, repeat

from benchmarks.bench import Bench
from benchmarks.measure import side_by_side, table, verdict, wall
from weighbridge.models.catalogue import names

COUNT = 1000
DTYPES = ("bfloat16", "float16", "float32")
ONE, ALL = "run: 1,000 x load llama-3.1-8b", f"run: load each of {len(names())} catalogue models"


def requests(models: Iterable[str]) -> str:
    """Lines of JSON; dtypes alternate."""
    asked = zip(models, cycle(DTYPES), strict=False)
    return "\n".join(
        json.dumps({"task": "load", "model": model, "workload": {"dtype": dtype}})
        for model, dtype in asked
    )


def run(bench: Bench) -> Iterator[str]:
    one, every = bench.folder / "one.jsonl", bench.folder / "all.jsonl"
    one.write_text(requests(repeat("llama-3.1-8b", COUNT)))
    every.write_text(requests(names()))
    found = side_by_side(
        [
            bench.weighbridge(ONE, "run", str(one), expect="8030261248"),
            bench.weighbridge(ALL, "run", str(every), expect="8030261248"),
        ],
        bench.rounds,
    )
    yield table(found)
    yield ""
    yield verdict(f"`{ONE}`, s", wall(found[ONE]), 10)
    each, average = COUNT / wall(found[ONE]), len(names()) / wall(found[ALL])
    yield f"- {each:.0f} requests a second; of the catalogue in turn {average:.0f}"

"""1,000 requests through one `weighbridge run`: one model, and the catalogue over and over."""

import json
from collections.abc import Iterable, Iterator
from itertools import cycle, islice

from benchmarks.bench import Bench
from benchmarks.measure import side_by_side, table, verdict, wall
from weighbridge.catalogue import names

COUNT = 1000
DTYPES = ("bfloat16", "float16", "float32")
ONE, ALL = "run: 1,000 x load llama-3.1-8b", f"run: 1,000 x load, {len(names())} models in turn"


def requests(models: Iterable[str]) -> Iterator[str]:
    for model, dtype in islice(zip(cycle(models), cycle(DTYPES), strict=False), COUNT):
        yield json.dumps({"task": "load", "model": model, "workload": {"dtype": dtype}})


def run(bench: Bench) -> Iterator[str]:
    one, every = bench.folder / "one.jsonl", bench.folder / "all.jsonl"
    one.write_text("\n".join(requests(["llama-3.1-8b"])))
    every.write_text("\n".join(requests(names())))
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
    yield f"- the catalogue in turn: {COUNT / wall(found[ALL]):.0f} requests a second"

"""A whole `weighbridge infer` by each engine, and 1,000 requests of them through one `run`."""

import json
from collections.abc import Iterator
from itertools import cycle

from benchmarks.bench import Bench
from benchmarks.measure import side_by_side, table, verdict, wall

MODELS = ("llama-3.1-8b", "gemma-3-27b", "deepseek-v3")
ENGINES = ("transformers", "vllm", "sglang", "llama.cpp")
WITH_GPU = ("--gpu", "h100")
COUNT = 1000
RUN = f"run: {COUNT:,} x infer, every engine and context its own"


def requests() -> str:
    """Lines of JSON: models, engines and contexts alternate."""
    contexts = (2048, 4096, 8192, 32768, 65536)
    asked = zip(cycle(MODELS), cycle(ENGINES), cycle(contexts), range(COUNT), strict=False)
    return "\n".join(
        json.dumps({"task": "infer", "model": m, "workload": {"engine": e, "context": c}})
        for m, e, c, _ in asked
    )


def run(bench: Bench) -> Iterator[str]:
    many = bench.folder / "infer.jsonl"
    many.write_text(requests())
    commands = [
        bench.weighbridge(
            f"infer {MODELS[0]} --engine {name} {' '.join(more)}".strip(),
            *("infer", MODELS[0], "--engine", name, *more),
            expect="prefill",
        )
        for name in ENGINES
        for more in ((), WITH_GPU)
    ]
    commands += [
        bench.weighbridge(f"infer {name}", "infer", name, expect="prefill") for name in MODELS[1:]
    ]
    found = side_by_side(
        [*commands, bench.weighbridge(RUN, "run", str(many), expect="prefill")], bench.rounds
    )
    yield table(found)
    yield ""
    for name in found:
        yield verdict(f"`{name}`, s", wall(found[name]), 10 if name == RUN else 0.3)

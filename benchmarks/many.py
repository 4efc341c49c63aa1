"""Many questions about many models: mixed in one `run`, and the whole catalogue for one card."""

import json
import random
from collections.abc import Iterator
from typing import Any

from benchmarks.bench import BASE, Bench
from benchmarks.measure import side_by_side, table, verdict, wall
from weighbridge.models.catalogue import names

COUNT, MODELS = 1000, 30
CARD = {"gpu": "4090"}
FIVE: list[tuple[str, dict[str, Any]]] = [  # what people ask of a card
    ("load", CARD),
    ("infer", CARD),
    ("train", {**CARD, "method": "lora"}),
    ("train", {**CARD, "method": "qlora"}),
    ("train", CARD),
]
MIXED = f"run: {COUNT:,} requests over {MODELS} models"
PARALLEL = f"{MIXED}, --jobs 2"
WHOLE = f"run: 5 questions about each of {len(names())} models"
ROUNDS = 3  # each takes many seconds
LIMITS = {MIXED: 10, WHOLE: 15}


def mixed() -> list[dict[str, Any]]:
    """Models, tasks and sizes in random order, always the same."""
    turn = random.Random(12)
    models = turn.sample(names(), MODELS)
    engines = ("transformers", "vllm", "sglang", "llama.cpp")
    kinds = [
        lambda: ("load", {"dtype": turn.choice(("bfloat16", "float16"))}),
        lambda: ("infer", {"engine": turn.choice(engines), "context": turn.randrange(64, 500)}),
        lambda: ("infer", {"engine": turn.choice(engines), "gpu": "h100", "context": 256}),
        lambda: ("train", {"seq_len": turn.randrange(64, 500)}),
    ]
    found = []
    for _ in range(COUNT):
        task, workload = turn.choice(kinds)()
        found.append({"task": task, "model": turn.choice(models), "workload": workload})
    return found


def run(bench: Bench) -> Iterator[str]:
    some, every = bench.folder / "mixed.jsonl", bench.folder / "every.jsonl"
    some.write_text("\n".join(map(json.dumps, mixed())))
    asked = (
        {"task": t, "model": n, "workload": w, "remedies": False} for n in names() for t, w in FIVE
    )
    every.write_text("\n".join(map(json.dumps, asked)))
    commands = [
        bench.weighbridge(MIXED, "run", str(some), expect="parameters"),
        bench.weighbridge(WHOLE, "run", str(every), expect="8030261248"),
    ]
    parallel = bench.weighbridge(PARALLEL, "run", str(some), "--jobs", "2", expect="parameters")
    rounds = min(bench.rounds, ROUNDS)
    found = side_by_side([*bench.beside_base(*commands), parallel], rounds)
    yield table(found)
    yield ""
    for name, limit in LIMITS.items():
        before = BASE.format(name)
        beside = f"; base {wall(found[before]):.1f}" if before in found else ""
        yield verdict(f"`{name}`, s on one core", wall(found[name]), limit) + beside

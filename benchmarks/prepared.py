"""A model that was read once, asked again: milliseconds of CPU an answer, in one process.

Each question is asked with other numbers than before, so that no answer is one that was kept whole.
"""

import json
from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.bench import BASE, Bench
from benchmarks.measure import Turn, side_by_side, verdict

MODELS = ("llama-3.1-8b", "deepseek-v3")
LIMITS = {"load": 1, "infer": 1, "infer, card": 3, "train": 10}  # ms
CODE = """
import json, sys, time
from weighbridge import api
name, found = sys.argv[1], {}
if hasattr(api, "prepare"):
    model = api.prepare(name)
    ask = {task: getattr(model, task) for task in ("load", "infer", "train")}
else:
    kept = api.resolved(name)
    ask = {t: lambda t=t, **s: getattr(api, t)(kept, **s) for t in ("load", "infer", "train")}
cards = {"gpu": "h100:8", "tensor_parallel_size": 8}
numbers = range(1000, 2000, 64)
questions = {
    "load": [("load", {"gpu": "h100", "headroom": f"{n}MiB"}) for n in numbers],
    "infer": [("infer", {"engine": "vllm", "context": n}) for n in numbers],
    "infer, card": [("infer", {"engine": "vllm", "context": n, **cards}) for n in numbers],
    "train": [("train", {"seq_len": n}) for n in numbers],
}
for kind, asked in questions.items():
    times = []
    for task, settings in asked:
        begin = time.process_time()
        ask[task](**settings)
        times.append(1000 * (time.process_time() - begin))
    found[kind] = [times[0], sorted(times[1:])[len(times) // 2]]
print(json.dumps(found))
"""


def run(bench: Bench) -> Iterator[str]:
    asked = [bench.python(f"{name} asked again", CODE, name) for name in MODELS]
    found = side_by_side(bench.beside_base(*asked), bench.rounds)
    yield "| model | question | first, ms | again, ms |"
    yield "| --- | --- | ---: | ---: |"
    for name, turns in found.items():
        for kind in LIMITS:
            first, again = (_median(turns, kind, i) for i in (0, 1))
            yield f"| {name} | {kind} | {first:.1f} | {again:.2f} |"
    yield ""
    for one in asked:
        for kind, limit in LIMITS.items():
            before = found.get(BASE.format(one.name))
            beside = f"; base {_median(before, kind, 1):.2f}" if before else ""
            told = f"`{one.name}`: {kind}, ms of CPU"
            yield verdict(told, _median(found[one.name], kind, 1), limit) + beside


def _median(turns: Sequence[Turn], kind: str, place: int) -> float:
    return median(json.loads(turn.output)[kind][place] for turn in turns)

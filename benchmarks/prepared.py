"""A model that was read once, asked again: milliseconds of CPU an answer, in one process.

Each question is asked with other numbers than before, so that no answer is one that was kept whole.
Then vLLM is asked about each card of the catalogue, as a scan asks: how many cards it serves on,
how many launches were followed for them through kernels and graphs, and how many needs differ.
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
from weighbridge.faces import api
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

FOLLOWED = 66  # launches, for all cards that vLLM serves on
CARDS = """
import json, sys, time
from weighbridge import Infer, prepare
from weighbridge.machines.accelerators.parts import parts
from weighbridge.engines.vllm import cases, infer
from weighbridge.base.errors import WeighbridgeError
followed, follow = [], cases.standing_of
cases.standing_of = lambda *at: followed.append(at) or follow(*at)
def asked(model):
    needs, spent = [], 0.0
    for card in parts():
        begin = time.process_time()
        try:
            needs.append(tuple(model.briefly(Infer(engine="vllm", gpu=card, context=8192)).peak))
            spent += time.process_time() - begin
        except WeighbridgeError:
            pass
    return len(needs), len(set(needs)), 1000 * spent / len(needs)
asked(prepare("qwen3-0.6b"))  # modules, and tables of the house
model = prepare(sys.argv[1])
model.model()
followed.clear()
served, needs, first = asked(model)
print(json.dumps([served, len(followed), needs, first, asked(model)[2]]))
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
    yield from _each_card(bench)


def _each_card(bench: Bench) -> Iterator[str]:
    asked = [bench.python(f"{name} on each card", CARDS, name) for name in MODELS]
    found = side_by_side(bench.beside_base(*asked), bench.rounds)
    yield ""
    yield "| model | cards of vLLM | launches followed | needs | a card, ms | again, ms |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    rows = {name: [json.loads(turn.output) for turn in turns] for name, turns in found.items()}
    for name, told in rows.items():
        (served, followed, needs, *_), *_ = told
        first, again = (median(turn[place] for turn in told) for place in (3, 4))
        yield f"| {name} | {served} | {followed} | {needs} | {first:.2f} | {again:.2f} |"
    yield ""
    for one in asked:
        _, followed, *_ = rows[one.name][0]
        before = rows.get(BASE.format(one.name))
        beside = f"; base {before[0][1]}" if before else ""
        told_name = f"`{one.name}`: launches followed"
        yield verdict(told_name, followed, FOLLOWED) + beside


def _median(turns: Sequence[Turn], kind: str, place: int) -> float:
    return median(json.loads(turn.output)[kind][place] for turn in turns)

"""What each kind of answer may cost: CPU of whole processes, least of several turns.

Beside another weighbridge (`--base`) the two take turns, so that a busy moment of the machine meets
both. Other work only ever adds, so the least turn is the one that says most.
"""

import json
from collections.abc import Iterator, Sequence

from benchmarks.bench import BASE, Bench
from benchmarks.measure import Command, Turn, least_cpu, side_by_side, verdict

LLAMA, QWEN = "llama-3.1-8b", "qwen3-32b"
FULL = ("--method", "full", "--gpu", "4090")  # which does not fit
COLD = {  # the arguments, and the most seconds of CPU
    "load": (("load", LLAMA), 0.12),
    "infer, a card": (("infer", LLAMA, "--gpu", "4090"), 0.30),
    "train": (("train", LLAMA), 0.40),
    "train, a card and remedies": (("train", LLAMA, *FULL), 1.0),
}
SEARCHES = {
    "fit, 8B on a 3060": (("fit", LLAMA, "--gpu", "3060"), 0.9),
    "fit, 32B on a 4090": (("fit", QWEN, "--gpu", "4090"), 1.8),
    "fit, 70B on four": (("fit", "llama-3.1-70b", "--gpu", "h100:4"), 2.0),
    "fit, 671B on eight": (("fit", "deepseek-r1", "--gpu", "h100:8"), 2.0),
    "fit --all-gpus": (("fit", LLAMA, "--all-gpus"), 4.0),
    "models --gpu, every row": (("models", "--gpu", "3060"), 3.0),
}
SCREENS = {  # which show the first rows of many
    "models --gpu, a screen": (("models", "--gpu", "3060"), 3.0),
}
SCHEMA, MORE = '"schema"', "more: --json"  # what JSON and a cut list have
AGAIN = 10  # ms of CPU: a prepared model, asked for another card
SEARCH_TURNS = 3  # each takes seconds
CARDS = """
import json, sys, time
from weighbridge import prepare
model, found = prepare(sys.argv[1]), {}
cards = ("4090", "3090", "rtx 6000 ada", "a6000")  # of one class of workspaces, in pairs
questions = {
    "infer": {},
    "infer, vLLM": {"engine": "vllm", "context": 8192},
    "train": {},
    "train, QLoRA": {"method": "qlora"},
}
for name, settings in questions.items():
    ask, times = getattr(model, name.split(",")[0]), []
    for card in cards + tuple(reversed(cards)):
        begin = time.process_time()
        ask(gpu=card, remedies=False, **settings)
        times.append(1000 * (time.process_time() - begin))
    found[name] = min(times[1:])
print(json.dumps(found))
"""


def run(bench: Bench) -> Iterator[str]:
    yield from _whole(bench, COLD, bench.rounds)
    yield from _whole(bench, SEARCHES, min(bench.rounds, SEARCH_TURNS))
    yield from _whole(bench, SCREENS, min(bench.rounds, SEARCH_TURNS), MORE)
    yield from _again(bench)


def _whole(
    bench: Bench,
    asked: dict[str, tuple[tuple[str, ...], float]],
    rounds: int,
    expect: str = SCHEMA,
) -> Iterator[str]:
    """Commands as they are typed, each in a process of its own: as JSON where `expect` is its
    schema."""
    form = ("--json",) if expect == SCHEMA else ()
    commands = [
        bench.weighbridge(name, *arguments, *form, expect=expect)
        for name, (arguments, _) in asked.items()
    ]
    found = side_by_side(bench.beside_base(*commands), rounds)
    for name, (_, limit) in asked.items():
        before = found.get(BASE.format(name))
        beside = f"; base {least_cpu(before):.3f}" if before else ""
        yield verdict(f"{name}, CPU s", least_cpu(found[name]), limit) + beside


def _again(bench: Bench) -> Iterator[str]:
    """A model that is prepared, asked the same question for one card after the other."""
    asked: Command = bench.python("another card", CARDS, LLAMA)
    found = side_by_side(bench.beside_base(asked), bench.rounds)
    for name in json.loads(found[asked.name][0].output):
        before = found.get(BASE.format(asked.name))
        beside = f"; base {_least(before, name):.1f}" if before else ""
        value = _least(found[asked.name], name)
        yield verdict(f"{name}, another card, CPU ms", value, AGAIN) + beside


def _least(turns: Sequence[Turn], question: str) -> float:
    return min(json.loads(turn.output)[question] for turn in turns)

"""How many training steps `fit` runs: whole ones, on the replayed allocator, those of them within
the end of a card, and those in which bytes are counted alone."""

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.bench import BASE, Bench
from benchmarks.measure import cpu, side_by_side, table, verdict

ROUNDS = 1  # each takes seconds, and runs do not depend on the clock
MOST = 12  # whole runs of one `fit`
FITS = (
    *("qwen3-32b 4090", "llama-3.1-8b 3060", "llama-3.1-8b 4090", "llama-3.1-70b h100:4"),
    *("qwen3-14b 4090", "phi-4 3090", "gemma-2-9b 4070", "qwen2.5-7b 4060"),
)
# Each run is counted from outside, so that an older weighbridge can be asked the same
CODE = """
import json, sys, weighbridge
from weighbridge.training import run
told, honest = dict.fromkeys(("whole", "capped", "counted"), 0), run._run
def noted(plan, capacity, *rest, **named):
    counts = named.get("counts", False)
    told["counted" if counts else "whole"] += 1
    told["capped"] += capacity is not None
    return honest(plan, capacity, *rest, **named)
run._run = noted
answer = weighbridge.fit(sys.argv[1], gpu=sys.argv[2])
told["remedies"] = {q.name: [r.flags for r in q.remedies] for q in answer.questions if q.report}
print(json.dumps(told))
"""


def run(bench: Bench) -> Iterator[str]:
    commands = [bench.python(f"fit {fit}", CODE, *fit.split()) for fit in FITS]
    found = side_by_side(bench.beside_base(*commands), min(bench.rounds, ROUNDS))
    yield table(found)
    yield ""
    yield "| fit | whole runs | of them capped | counted runs | CPU, s |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    told = {name: json.loads(turns[-1].output) for name, turns in found.items()}
    for name, runs in told.items():
        figures = (runs[kind] for kind in ("whole", "capped", "counted"))
        yield f"| {name} | {' | '.join(map(str, figures))} | {cpu(found[name]):.2f} |"
    yield ""
    for fit in FITS:
        yield verdict(f"`fit {fit}`, whole runs", told[f"fit {fit}"]["whole"], MOST)
        yield from _changed(told, f"fit {fit}")


def _changed(told: dict[str, Any], name: str) -> Iterator[str]:
    """Yield the questions whose remedies are not those of the other weighbridge."""
    before = told.get(BASE.format(name))
    for question, flags in told[name]["remedies"].items() if before else ():
        was = before["remedies"].get(question, [])
        if flags != was:
            yield f"  - {question}: {'; '.join(flags) or 'none'} (base: {'; '.join(was) or 'none'})"

"""A pipeline that was read once, asked about another size: milliseconds of CPU an answer, as the
page asks while somebody drags a size. The model's own answer before it is not counted."""

import json
from collections.abc import Iterator
from statistics import median

from benchmarks.bench import BASE, Bench
from benchmarks.measure import side_by_side, verdict

PIPELINES = ("sd-1.5", "sdxl", "flux.1-dev", "qwen-image", "wan2.1-t2v-14b")
LIMIT = 20  # ms
CODE = """
import json, sys, time
from weighbridge.faces import api
model, times = api.prepare(sys.argv[1]), []
for side in range(512, 1024, 64):
    begin = time.process_time()
    model.picture(size=f"{side}x{side}", gpu="3060", offload="model", remedies=False)
    times.append(1000 * (time.process_time() - begin))
print(json.dumps([times[0], sorted(times[1:])[len(times) // 2]]))
"""


def run(bench: Bench) -> Iterator[str]:
    asked = [bench.python(f"{name}, another size", CODE, name) for name in PIPELINES]
    found = side_by_side(bench.beside_base(*asked), bench.rounds)
    times = {
        name: tuple(median(json.loads(turn.output)[place] for turn in turns) for place in (0, 1))
        for name, turns in found.items()
    }
    yield "| question | first, ms | again, ms |"
    yield "| --- | ---: | ---: |"
    for name, (first, again) in times.items():
        yield f"| {name} | {first:.0f} | {again:.1f} |"
    yield ""
    for one in asked:
        before = times.get(BASE.format(one.name))
        beside = f"; base {before[1]:.1f}" if before else ""
        yield verdict(f"`{one.name}`, ms of CPU", times[one.name][1], LIMIT) + beside

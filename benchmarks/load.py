"""A whole `weighbridge load` of Llama 3.1 70B, beside the tools that answer the same question.

accelerate and hf-mem ask the same stand-in Hub, without latency. accelerate reads the config and
builds the class; hf-mem reads the headers; we read the config and the headers.
"""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.bench import Bench
from benchmarks.measure import Turn, ratio, side_by_side, table, verdict, wall
from benchmarks.models import llama_70b
from benchmarks.standin import client_env, standin

REPO = "meta-llama/Llama-3.1-70B"
LOCAL, CATALOGUE, HUB = "load FOLDER", "load llama-3.1-70b", f"load {REPO}"
COUNT = "70,553,706,496"


def run(bench: Bench) -> Iterator[str]:
    root, home = bench.folder / "hub", bench.folder / "home"
    folder = llama_70b(root / REPO)
    peers = bench.peers
    with standin(root, home) as hub:
        commands = [
            bench.weighbridge(LOCAL, "load", str(folder), env=client_env(home), expect=COUNT),
            bench.weighbridge(
                CATALOGUE, "load", "llama-3.1-70b", env=client_env(home), expect=COUNT
            ),
            bench.weighbridge(HUB, "load", REPO, env=hub.env, expect=COUNT),
            *bench.peer(
                "hf-mem", peers.hf_mem_at(hub.endpoint, REPO), env=hub.env, expect="70.55B"
            ),
            *bench.peer("accelerate", peers.accelerate(REPO), env=hub.env, expect="float16"),
        ]
        found = side_by_side(commands, bench.rounds)
    yield table(found) + bench.missing("hf-mem", "accelerate")
    yield ""
    yield from _verdicts(found)


def _verdicts(found: Mapping[str, Sequence[Turn]]) -> Iterator[str]:
    for name in (LOCAL, CATALOGUE):
        yield verdict(f"`{name}`, s", wall(found[name]), 0.25)
    yield verdict("from the Hub, s", wall(found[HUB]), 0.7)
    accelerate = next((found[name] for name in found if name.startswith("accelerate")), None)
    hf_mem = next((found[name] for name in found if name.startswith("hf-mem")), None)
    if accelerate is not None:
        for name in (LOCAL, CATALOGUE):
            times = ratio(accelerate, found[name])
            yield verdict(f"accelerate / `{name}`", times.middle, 50, at_least=True)
            yield f"  - pair by pair {times}"
    if hf_mem is not None:
        times = ratio(found[HUB], hf_mem)
        yield verdict("from the Hub / hf-mem", times.middle, 2.5)
        yield f"  - pair by pair {times}"

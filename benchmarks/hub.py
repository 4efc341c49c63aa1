"""Small repositories on a Hub: one file and four shards, beside hf-mem, at once and at 50 ms.

A cold cache is one that was removed before; a warm one holds what the turns before it kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import BASE, Bench
from benchmarks.measure import Command, ratio, side_by_side, table, verdict
from benchmarks.models import llama
from benchmarks.standin import StandIn, standin

REPOS = {  # of the catalogue: how many shards, and what each tool prints
    "llama-3.2-1b": (1, "1,235,814,400", "1.24B"),
    "llama-3.1-8b": (4, "8,030,261,248", "8.03B"),
}
LATENCIES = (0.0, 0.05)
COLD, WARM = "load, {} shards, {:.0f} ms", "load again, {} shards, {:.0f} ms"
PEER = "hf-mem, {} shards, {:.0f} ms"


def run(bench: Bench) -> Iterator[str]:
    root, home = bench.folder / "hub_small", bench.folder / "home_small"
    for name, (shards, _, _) in REPOS.items():
        llama(root / "org" / name, name, shards=shards)
    for latency in LATENCIES:
        with standin(root, home, latency=latency) as hub:
            commands = [c for name in REPOS for c in _commands(bench, hub, name, latency)]
            found = side_by_side(commands, bench.rounds)
        yield table(found) + bench.missing("hf-mem")
        yield ""
        for shards, _, _ in REPOS.values():
            cold, peer = (text.format(shards, 1000 * latency) for text in (COLD, PEER))
            for other in (peer, BASE.format(cold)):
                if other in found:
                    times = ratio(found[cold], found[other])
                    yield verdict(f"`{cold}` / `{other}`", times.middle, 1)
                    yield f"  - pair by pair {times}"
        yield ""


def _commands(bench: Bench, hub: StandIn, name: str, latency: float) -> Sequence[Command]:
    shards, ours, theirs = REPOS[name]
    repo, title = f"org/{name}", (shards, 1000 * latency)
    home = Path(hub.env["HF_HOME"])
    cold = bench.weighbridge(
        COLD.format(*title),
        "load",
        repo,
        env=hub.env | {"HF_HOME": str(home / "cold")},
        expect=ours,
    )
    warm = replace(cold, name=WARM.format(*title), env=hub.env)
    argv = bench.peers.hf_mem_at(hub.endpoint, repo)
    peer = bench.peer("hf-mem", argv, env=hub.env, expect=theirs)
    return [
        *bench.beside_base(replace(cold, fresh=home / "cold" / "hub")),
        warm,
        *(replace(p, name=PEER.format(*title)) for p in peer),
    ]

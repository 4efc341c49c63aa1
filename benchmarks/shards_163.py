"""DeepSeek-V3 in 163 shards on a Hub that takes 50 ms to answer: time, requests, bytes."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from benchmarks.bench import Bench
from benchmarks.measure import ratio, side_by_side, table, take, verdict, wall
from benchmarks.models import deepseek_v3, headers_of
from benchmarks.standin import Asked, standin

REPO = "deepseek-ai/DeepSeek-V3"
LATENCY = 0.05
LOAD = f"load {REPO}"
REDIRECTS = (301, 302, 303, 307, 308)


def run(bench: Bench) -> Iterator[str]:
    root, home = bench.folder / "hub_163", bench.folder / "home"
    folder = deepseek_v3(root / REPO)
    with standin(root, home, latency=LATENCY) as hub:
        ours = bench.weighbridge(LOAD, "load", REPO, env=hub.env, expect="671.03 B parameters")
        ours = replace(ours, fresh=home / "hub")  # what is kept of the index would be 9 MB less
        take(ours)
        asked = hub.asked()
        argv = bench.peers.hf_mem_at(hub.endpoint, REPO)
        hf_mem = bench.peer("hf-mem", argv, env=hub.env, expect="684.53B")
        found = side_by_side([*bench.beside_base(ours), *hf_mem], bench.rounds)
    yield table(found) + bench.missing("hf-mem")
    yield ""
    yield verdict(f"163 shards, {LATENCY * 1000:.0f} ms a request, s", wall(found[LOAD]), 2)
    yield from _traffic(asked, sum(headers_of(folder)))
    for name in found.keys() - {LOAD}:
        cpu = median(a.cpu / b.cpu for a, b in zip(found[LOAD], found[name], strict=True))
        yield f"- ours / {name}: {ratio(found[LOAD], found[name])}; CPU {cpu:.2f}"


def _traffic(asked: Sequence[Asked], headers: int) -> Iterator[str]:
    answered = [a for a in asked if a.status not in REDIRECTS]
    shards = [a for a in answered if re.search(r"\.safetensors(\?|$)", a.path)]
    most = max(Counter(a.path for a in shards).values())
    sent = sum(a.sent for a in shards)
    yield verdict("most requests for one shard, redirects aside", most, 2)
    yield verdict("bytes fetched of shards / bytes of their headers", sent / headers, 1.5)
    others = ", ".join(
        f"{a.path.rpartition('/')[2]} {a.sent:,} B" for a in answered if a not in shards
    )
    yield f"- {len(asked):,} requests; {len(shards)} brought parts of shards, {sent:,} B"
    yield f"- beside them {others}"

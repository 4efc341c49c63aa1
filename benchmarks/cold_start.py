"""How long until anything happens: `--help`, and what an import adds to a bare interpreter."""

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.measure import added, side_by_side, table, verdict, wall

BARE, IMPORT, API = "python -c pass", "import weighbridge", "from weighbridge import load"
HELP = "weighbridge --help"


def run(bench: Bench) -> Iterator[str]:
    peers = bench.peers
    found = side_by_side(
        [
            bench.python(BARE, "pass"),
            bench.python(IMPORT, IMPORT),
            bench.python(API, API),
            bench.weighbridge(HELP, "--help", expect="estimate-memory"),
            *bench.peer("hf-mem", [peers.script("hf-mem"), "--help"], expect="--model-id"),
        ],
        bench.rounds,
    )
    yield table(found) + bench.missing("hf-mem")
    yield ""
    yield verdict("`weighbridge --help`, s", wall(found[HELP]), 0.15)
    yield verdict("`import weighbridge` adds, ms", 1000 * added(found[IMPORT], found[BARE]), 40)
    yield f"- `{API}`, all that a load needs, adds {1000 * added(found[API], found[BARE]):.0f} ms"

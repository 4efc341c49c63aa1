"""How long until anything happens: `--help`, what an import adds to a bare interpreter, and the
first answer, as a screen and as JSON.
"""

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.measure import added, cpu, side_by_side, table, verdict, wall

BARE, IMPORT, API = "python -c pass", "import weighbridge", "from weighbridge import load"
HELP = "weighbridge --help"
SCREEN, JSON = "load llama-3.1-8b", "load llama-3.1-8b --json"
COUNT = "8,030,261,248"


def run(bench: Bench) -> Iterator[str]:
    peers = bench.peers
    found = side_by_side(
        [
            bench.python(BARE, "pass"),
            bench.python(IMPORT, IMPORT),
            bench.python(API, API),
            bench.weighbridge(HELP, "--help", expect="estimate-memory"),
            *bench.beside_base(
                bench.weighbridge(SCREEN, *SCREEN.split(), expect=COUNT),
                bench.weighbridge(JSON, *JSON.split(), expect=COUNT.replace(",", "")),
            ),
            *bench.peer("hf-mem", [peers.script("hf-mem"), "--help"], expect="--model-id"),
        ],
        bench.rounds,
    )
    yield table(found) + bench.missing("hf-mem")
    yield ""
    yield verdict("`weighbridge --help`, s", wall(found[HELP]), 0.15)
    yield verdict("`import weighbridge` adds, ms", 1000 * added(found[IMPORT], found[BARE]), 40)
    yield verdict(f"`{SCREEN}`, CPU s", cpu(found[SCREEN]), 0.1)
    yield verdict(f"`{JSON}`, CPU s", cpu(found[JSON]), 0.1)
    yield f"- `{API}`, all that a load needs, adds {1000 * added(found[API], found[BARE]):.0f} ms"

"""python -m benchmarks [NAME...] [--rounds N] [--peers-python PATH] [--base PATH]"""

import argparse
import datetime
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import (
    agents,
    allocator,
    answers,
    budgets,
    cold_start,
    corpus,
    fit,
    header_100k,
    hub,
    infer,
    load,
    many,
    page,
    pictures,
    prepared,
    registry,
    remedies,
    requests,
    runs,
    scan,
    shards_163,
    space,
    trace,
)
from benchmarks.bench import Bench
from benchmarks.measure import ROUNDS
from benchmarks.peers import peers
from weighbridge.base._version import __version__

BENCHMARKS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "budgets": budgets.run,
    "cold_start": cold_start.run,
    "answers": answers.run,
    "remedies": remedies.run,
    "prepared": prepared.run,
    "pictures": pictures.run,
    "many": many.run,
    "fit": fit.run,
    "runs": runs.run,
    "load": load.run,
    "hub": hub.run,
    "infer": infer.run,
    "header_100k": header_100k.run,
    "shards_163": shards_163.run,
    "requests": requests.run,
    "corpus": corpus.run,
    "scan": scan.run,
    "allocator": allocator.run,
    "trace": trace.run,
    "agents": agents.run,
    "space": space.run,
    "page": page.run,
    "registry": registry.run,
}


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peers-python", default=sys.executable, metavar="PATH")
    parser.add_argument(
        "--base",
        default="",
        metavar="PATH",
        help="another weighbridge: its interpreter, or the root of its checkout",
    )
    typed = parser.parse_args()
    unknown = [name for name in typed.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    others = peers(typed.peers_python)
    versions = ", ".join(f"{name} {version}" for name, version in others.versions.items())
    print(f"{datetime.date.today()}, {machine()}, load average {os.getloadavg()[0]:.1f}")
    print(f"weighbridge {__version__}, Python {platform.python_version()}; {versions}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(rounds=typed.rounds, folder=Path(folder), peers=others, base=typed.base)
        for name in typed.names or BENCHMARKS:
            print(f"\n### {name}\n", flush=True)
            for line in BENCHMARKS[name](bench):
                print(line, flush=True)


if __name__ == "__main__":
    main()

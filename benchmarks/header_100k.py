"""100,000 tensors: a DeepSeek-V3 of 67 layers in one file, in 163 shards on a Hub, and alone."""

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.measure import side_by_side, table, verdict, wall
from benchmarks.models import deepseek_v3, headers_of
from benchmarks.standin import client_env, standin

LAYERS = 67
COUNT, BARE_COUNT = "740.07 B parameters", "753.53 B parameters"
REPO = "deepseek-ai/DeepSeek-V3"
ONE, BARE, HUB = "load FOLDER (one file)", "load FILE (no config)", f"load {REPO} (163 shards)"
PARSE, JSON = "the parser alone, in a process of its own", "json.loads of the same header"

# A process that reads the header and stops; the second is its floor.
PARSE_CODE = """
import sys
from weighbridge.models.formats.safetensors import header
from weighbridge.models.sources.base import read_plan
from weighbridge.models.sources.local import LocalSource
found = read_plan(header(), LocalSource(sys.argv[1]), "model.safetensors")
assert len(found.tensors) > 100_000
"""
JSON_CODE = """
import json, sys
with open(sys.argv[1] + "/model.safetensors", "rb") as file:
    size = int.from_bytes(file.read(8), "little")
    assert len(json.loads(file.read(size))) > 100_000
"""


def run(bench: Bench) -> Iterator[str]:
    home, root = bench.folder / "home", bench.folder / "hub_100k"
    folder = deepseek_v3(bench.folder / "one", shards=1, layers=LAYERS)
    deepseek_v3(root / REPO, layers=LAYERS)
    (bare := bench.folder / "bare").mkdir()
    file = bare / "model.safetensors"
    file.hardlink_to(folder / file.name)
    alone = client_env(home)
    with standin(root, home) as hub:
        found = side_by_side(
            [
                bench.weighbridge(ONE, "load", str(folder), env=alone, expect=COUNT),
                bench.weighbridge(BARE, "load", str(file), env=alone, expect=BARE_COUNT),
                bench.weighbridge(HUB, "load", REPO, env=hub.env, expect=COUNT),
                bench.python(PARSE, PARSE_CODE, str(folder)),
                bench.python(JSON, JSON_CODE, str(folder)),
            ],
            bench.rounds,
        )
    yield f"A header of {headers_of(folder)[0]:,} bytes."
    yield ""
    yield table(found)
    yield ""
    for name in (ONE, BARE, HUB):
        yield verdict(f"`{name}`, s", wall(found[name]), 1.5)

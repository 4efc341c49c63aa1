"""The first answer about a config that was never asked about: the catalogue's configs with random
edits through one `weighbridge run`, and what two million of them would take."""

import json
import random
from collections.abc import Iterator
from itertools import cycle, islice
from statistics import median
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measure import side_by_side, table, verdict
from weighbridge.models import catalogue

COUNT = 1000
ALL = 2_000_000  # configs: of that order are on the Hub
RUN = f"run: load each of {COUNT:,} configs, no two alike"
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers")
EDITS = {"vocab_size": 64, "intermediate_size": 256, "moe_intermediate_size": 256, "n_inner": 256}


def edited(config: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Other widths and words, and a few layers more; in the language model's part, too."""
    found = {k: edited(v, rng) if k == "text_config" and v else v for k, v in config.items()}
    for key, step in EDITS.items():
        if isinstance(found.get(key), int):
            found[key] += step * rng.randrange(100)
    if "layer_types" not in found:  # one for each layer
        for key in LAYERS:
            if isinstance(found.get(key), int):
                found[key] += rng.randrange(4)
    return found


def requests() -> Iterator[str]:
    """Lines of JSON."""
    rng = random.Random(0)
    for name in islice(cycle(catalogue.names()), COUNT):
        config = edited(dict(catalogue.find(name).config), rng)
        yield json.dumps({"task": "load", "model": {"config": config}})


def run(bench: Bench) -> Iterator[str]:
    many = bench.folder / "corpus.jsonl"
    many.write_text("\n".join(requests()))
    command = bench.weighbridge(RUN, "run", str(many), expect='"task": "load"')
    found = side_by_side(bench.beside_base(command), bench.rounds)
    yield table(found)
    yield ""
    answers = found[RUN][0].output.splitlines()
    refused = sum('"error"' in line[:20] for line in answers)
    yield f"- {refused} of {COUNT:,} are refused"
    for name, turns in found.items():
        seconds = median(turn.cpu for turn in turns) / COUNT
        yield f"- `{name}`: {1000 * seconds:.2f} ms of CPU a config"
        yield verdict(f"`{name}`, core-hours for {ALL:,}", ALL * seconds / 3600, 3)

"""Queries over a scan of Hub size: two million models, of forty thousand kinds to memory.

The answers are those about models of the catalogue, made to differ by a tenth; how many models
share a kind falls off as it does among the popular ones of the Hub. Files, parts and notes are
those that `weighbridge scan` writes. Needs the extra [scan].
"""

import json
import random
import re
import statistics
import time
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measure import verdict
from weighbridge.base.canonical import canonical_text
from weighbridge.models.catalogue import find, names

MODELS, KEYS = 2_000_000, 40_000
CARDS = ("4090", "h100")
EVERY = 16  # each so many models of the catalogue is really asked
FALL = 1.15  # of how many models share a kind: the first hundred have two thirds of all
PAGE = Path(__file__).parent.parent / "docs" / "scan.md"
LIMIT = 1.0  # seconds a query
NEEDS = ("need_low", "need", "need_high", "parameters")
Row = Mapping[str, Any]


def run(bench: Bench) -> Iterator[str]:
    from weighbridge.faces.scan.dataset import plan_of
    from weighbridge.faces.scan.query import ScanView

    out = bench.folder / "hub"
    made(out)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    yield f"{MODELS:,} models, {KEYS:,} keys: {size / 1e6:.0f} MB"
    plan = plan_of(out)
    yield ""
    yield "| query of the page | s | rows |\n| --- | ---: | ---: |"
    slowest = 0.0
    asked = [*_queries(), ("`weighbridge scan query DIR`", None)]
    for title, sql in asked:
        seconds, count = [], 0
        for _ in range(max(3, min(bench.rounds, 5))):
            begin = time.perf_counter()
            view = ScanView(out, plan)
            count = len(view.ask(sql).rows if sql else view.summary(plan, 50).lines)
            seconds.append(time.perf_counter() - begin)
        found = statistics.median(seconds)
        slowest = max(slowest, found)
        yield f"| {title} | {found:.2f} | {count:,} |"
    yield ""
    yield verdict("the slowest query, s with opening the dataset", slowest, LIMIT)


def _queries() -> Iterator[tuple[str, str]]:
    """Yield the queries of the page, each with the line before it."""
    for found in re.finditer(r"([^\n]+)\n\n```sql\n(.+?)```", PAGE.read_text(), re.S):
        yield found[1].rstrip(":"), found[2]


def made(out: Path) -> None:
    """Write a dataset of Hub size."""
    from weighbridge.faces.scan import asking
    from weighbridge.faces.scan.dataset import (
        CONFIGS,
        ScanPlan,
        checksum,
        configs_file,
        parquet,
        put_json,
    )
    from weighbridge.faces.scan.dataset import (
        MODELS as MODEL_COLUMNS,
    )
    from weighbridge.faces.scan.planning import KEYS_A_PART

    turn = random.Random(25)
    questions = asking.default(CARDS)
    parts = -(-KEYS // KEYS_A_PART)
    keys = sorted(f"{turn.getrandbits(128):032x}" for _ in range(KEYS))
    (out / "configs").mkdir(parents=True)
    (out / "models.parquet").write_bytes(parquet(list(_models(turn, keys)), MODEL_COLUMNS))
    empty = parquet([], CONFIGS)
    for number in range(parts):
        configs_file(out, number).write_bytes(empty)
    sums = (checksum(configs_file(out, 0)),) * parts
    counts = {"models": MODELS, "keys": KEYS, "unread": 0}
    plan = ScanPlan(parts=parts, questions=questions, source="hub", counts=counts, configs=sums)
    put_json(out / "plan.json", plan.to_dict())
    _answered(out, plan, turn, keys)


def _models(turn: random.Random, keys: list[str]) -> Iterator[Row]:
    """Yield models in the order of their keys, as a plan does."""
    shuffled = turn.sample(keys, len(keys))
    weights = list(accumulate((n + 1) ** -FALL for n in range(KEYS)))
    chosen = sorted([*keys, *turn.choices(shuffled, cum_weights=weights, k=MODELS - KEYS)])
    for number, key in enumerate(chosen):
        yield {
            "id": f"user{turn.randrange(300_000)}/model-{number}",
            "sha": f"{turn.getrandbits(160):040x}",
            "downloads": int(turn.paretovariate(0.7)),
            "key": key,
            "unread": None,
        }


def _answered(out: Path, plan: Any, turn: random.Random, keys: list[str]) -> None:
    from weighbridge.faces.scan.answers import rows, settled
    from weighbridge.faces.scan.dataset import ANSWERS, answers_file, note_file, parquet
    from weighbridge.faces.scan.packing import pack

    known = [
        list(settled(rows(canonical_text(find(name).config), plan.questions), plan.questions))
        for name in names()[::EVERY]
    ]
    for number in range(plan.parts):
        mine = keys[number :: plan.parts]
        told = [(key, turn.choice(known), turn.uniform(0.9, 1.1)) for key in mine]
        for family in plan.families:
            found = [
                {**_scaled(row, by), "key": key, "weighbridge": "1", "rules": "a" * 12}
                for key, answers, by in told
                for row in answers
                if row["family"] == family
            ]
            path, note = answers_file(out, family, number), note_file(out, family, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            note.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(parquet(found, ANSWERS))
            own = {"configs": plan.configs[number], "questions": plan.of(family)}
            note.write_text(json.dumps({"part": number, "family": family, **own}))
    pack(out, plan)


def _scaled(row: Row, by: float) -> dict[str, Any]:
    return {**row, **{name: int(row[name] * by) for name in NEEDS if row.get(name)}}

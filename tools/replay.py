"""Did any answer change? Asks the built-in catalogue a fixed list of questions and compares what
comes with tests/replay.jsonl, answer by answer and component by component.

    python -m tools.replay                     0 of N answers changed, or which did; exit 1 then
    python -m tools.replay --only 'infer vllm' questions whose name holds this text
    python -m tools.replay --models 'deepseek' models whose name holds this text
    python -m tools.replay --every 10          each tenth model
    python -m tools.replay --accept            write what came (of the questions asked); exit 0
    python -m tools.replay --show 'infer vllm, card' --models llama-3.1-8b    the whole report

An answer is kept as a hash of its JSON report, its peak, and a hash of each component: all phases
and devices in which that name stands. Sentences are left out (WORDS): numbers, names and bases are
what is held. An answer that is refused is kept as its message.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from weighbridge import Prepared, catalogue, prepare
from weighbridge.engines.table import FOLDERS
from weighbridge.errors import WeighbridgeError
from weighbridge.report import Report
from weighbridge.units import GIB

KEPT = Path(__file__).parent.parent / "tests" / "replay.jsonl"
MACS = {"4090": "m3-max-36gb", "h100": "m3-max-128gb", "h100:8": "m3-ultra-512gb"}  # MLX's cards
CARDS = ((8 * 10**9, "4090"), (36 * 10**9, "h100"))  # parameters up to which one such card is asked
LARGE = "h100:8"
SPREAD = ("vllm", "sglang")  # engines that are asked to cut a large model into eight
TRAININGS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "full, card": {"batch_size": 4, "seq_len": 512, "checkpointing": "full", "gpu": "h100"},
    "bf16, 8-bit adam, liger": {"precision": "bf16", "optimizer": "adamw_8bit", "loss": "liger"},
    "lora": {"method": "lora", "lora_r": 16, "gradient_accumulation": 4},
    "qlora": {"method": "qlora", "checkpointing": "full", "gpu": "4090"},
    "fsdp2": {"shard": "fsdp2", "gpu": "h100:8"},
    "zero3": {"shard": "zero3", "framework": "deepspeed", "gpu": "a100-80gb:8"},
    "pipeline": {
        "framework": "plain",
        "shard": "fsdp2",
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 2,
        "gpu": "h100:8",
    },
}
PRINTED = 40  # changes that are told one by one
WORDS = frozenset({"formula", "source", "reason", "warnings", "version"})


@dataclass(frozen=True, slots=True)
class Kept:
    """What is remembered of one answer."""

    report: str  # a hash of the whole report, or "refused"
    peak: int | None = None  # bytes
    parts: Mapping[str, str] | None = None  # a hash of each component
    message: str | None = None

    def to_list(self) -> list[Any]:
        if self.message is not None:
            return [self.message]
        assert self.parts is not None
        return [self.report, self.peak, " ".join(f"{k}:{v}" for k, v in self.parts.items())]


def from_list(told: list[Any]) -> Kept:
    """Reads one answer as the file has it."""
    if len(told) == 1:
        return Kept("refused", message=told[0])
    return Kept(told[0], told[1], dict(p.rsplit(":", 1) for p in told[2].split()))


def questions(model: Prepared) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The name, the task and the settings of each question that a model is asked."""
    parameters = model.model().parameters
    card = next((name for most, name in CARDS if parameters <= most), LARGE)
    yield "load", "load", {"gpu": card}
    for engine in FOLDERS:
        yield f"infer {engine}", "infer", {"engine": engine}
        cut = {"tensor_parallel_size": 8} if card == LARGE and engine in SPREAD else {}
        place = MACS[card] if engine == "mlx" else card
        asked = {"engine": engine, "gpu": place, "batch_size": 8, **cut}
        yield f"infer {engine}, card", "infer", asked
    for name, settings in TRAININGS.items():
        yield f"train {name}", "train", dict(settings)


def answer(model: Prepared, task: str, settings: Mapping[str, Any]) -> Report:
    ask = {"load": model.load, "infer": model.infer, "train": model.train}[task]
    return ask(**settings, remedies=False)


def kept(model: Prepared, task: str, settings: Mapping[str, Any]) -> Kept:
    try:
        report = answer(model, task, settings)
    except WeighbridgeError as error:
        return Kept("refused", message=str(error))
    told = numbers(report.to_dict())
    parts: dict[str, list[Any]] = {}
    for device in told["devices"]:
        for phase in device["phases"]:
            for component in phase["components"]:
                name = "-".join(component["name"].split())
                place = (device["kind"], device["index"], phase["name"])
                parts.setdefault(name, []).append((place, component))
    hashes = {name: digest(found)[:4] for name, found in parts.items()}
    return Kept(digest(told)[:12], report.peak.expected, hashes)


def numbers(told: Any) -> Any:
    """The JSON of a report without its sentences."""
    if isinstance(told, dict):
        return {key: numbers(value) for key, value in told.items() if key not in WORDS}
    return [numbers(one) for one in told] if isinstance(told, list | tuple) else told


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def asked(job: tuple[str, str]) -> tuple[str, dict[str, Kept]]:
    """What one model of the catalogue answers to the questions whose name holds a text."""
    name, only = job
    model = prepare(name)
    return name, {
        question: kept(model, task, settings)
        for question, task, settings in questions(model)
        if only in question
    }


def read() -> dict[str, dict[str, Kept]]:
    if not KEPT.exists():
        return {}
    with KEPT.open() as lines:
        found = map(json.loads, lines)
        return {
            one["model"]: {q: from_list(told) for q, told in one["answers"].items()}
            for one in found
        }


def write(found: Mapping[str, Mapping[str, Kept]]) -> None:
    order = [name for name, _, _ in questions(prepare("gpt2"))]
    with KEPT.open("w") as file:
        for name in catalogue.names():
            of_model = found.get(name, {})
            answers = {q: of_model[q].to_list() for q in order if q in of_model}
            if answers:
                file.write(json.dumps({"model": name, "answers": answers}) + "\n")


def difference(before: Kept | None, now: Kept) -> str:
    """What to say of an answer that is another one than before; "" where it is the same."""
    if before == now:
        return ""
    if before is None:
        return "was not asked before"
    if before.parts is None or now.parts is None:
        return f"{before.message or 'answered'} -> {now.message or 'answered'}"
    names = dict.fromkeys((*before.parts, *now.parts))
    changed = [name for name in names if before.parts.get(name) != now.parts.get(name)]
    same = list(before.parts) == list(now.parts)
    what = ", ".join(changed) or ("no component; the rest" if same else "order of components")
    peak = ""
    if before.peak != now.peak:
        assert before.peak is not None
        assert now.peak is not None
        peak = f"; peak {before.peak / GIB:.3f} -> {now.peak / GIB:.3f} GiB"
    return what + peak


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--models", default="", metavar="TEXT")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--accept", action="store_true")
    parser.add_argument("--show", metavar="QUESTION")
    typed = parser.parse_args()
    names = [name for name in catalogue.names() if typed.models in name][:: typed.every]
    if typed.show is not None:
        return shown(names, typed.show)
    before = read()
    with Pool(typed.jobs) as pool:
        now = dict(pool.imap_unordered(asked, [(name, typed.only) for name in names]))
    if typed.accept:
        write({n: {**before.get(n, {}), **now.get(n, {})} for n in catalogue.names()})
    changed = told(before, {name: now[name] for name in names})
    return 0 if typed.accept else changed


def shown(names: list[str], question: str) -> int:
    for name in names:
        model = prepare(name)
        for known, task, settings in questions(model):
            if known == question:
                print(json.dumps(answer(model, task, settings).to_dict(), indent=1))
    return 0


def told(before: Mapping[str, Mapping[str, Kept]], now: Mapping[str, Mapping[str, Kept]]) -> int:
    """Prints what changed; the exit status."""
    changes = [
        f"{name} | {question} | {what}"
        for name, answers in now.items()
        for question, one in answers.items()
        if (what := difference(before.get(name, {}).get(question), one))
    ]
    for line in changes[:PRINTED]:
        print(line)
    if len(changes) > PRINTED:
        print(f"... and {len(changes) - PRINTED} more")
    print(f"{len(changes)} of {sum(map(len, now.values()))} answers changed")
    return 1 if changes else 0


if __name__ == "__main__":
    sys.exit(main())

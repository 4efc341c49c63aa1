"""Did any answer change? Asks the built-in catalogue a list of questions, and then the corners, and
compares what comes with what is kept, answer by answer and component by component.

    python -m tools.replay                     0 of N answers changed, or which did; exit 1 then,
                                               and where a corner says another sentence
    python -m tools.replay --only 'infer vllm' questions whose name holds this text
    python -m tools.replay --models 'deepseek' models whose name holds this text
    python -m tools.replay --every 10          each tenth model, or text
    python -m tools.replay --accept            write what came (of the questions asked); exit 0
    python -m tools.replay --explained         a change that a file of changes/ explains is none
    python -m tools.replay --show 'infer vllm, card' --models llama-3.1-8b    the whole report
    python -m tools.replay --corners           the corners alone
    python -m tools.replay --texts [FOLDER]    run files, pastes and messages (replay_texts.py)

tests/replay.jsonl has the same questions for every model. tests/corners.jsonl has what those never
name (old releases, two ranks, images, adapters, optimizers, rare settings and families): requests
of `weighbridge run`, a line each, chosen so that together they feel as many changes of a sign, a
number or a comparison as a minute allows. To add one, write it with `"answer": null`, and --accept.

An answer is kept as a hash of its JSON report, its peak, and a hash of each component: all phases
and devices in which that name stands. Sentences are left out (WORDS): numbers, names and bases are
what is held. Of corners formulas, warnings and reasons are held, too, as a part named "words", and
as one named "tensors" each size that a program over the model makes on the way, at the peak or not.
An answer that is refused is kept as its message.

tests/sentences.txt has every formula, source, reason and warning of the corners once, with # in
place of numbers (a source keeps its own): a run prints those that are new, and those that are gone.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from tools import explained
from tools.replay_texts import ADDED, replayed, without

from weighbridge import Prepared, prepare
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.units import GIB
from weighbridge.engines.llama_cpp.ggml.graph import GgmlTensor
from weighbridge.engines.mlx import step
from weighbridge.engines.table import FOLDERS
from weighbridge.memory.components.activations import Heap, TensorHeap
from weighbridge.memory.report import Report
from weighbridge.models import catalogue

if TYPE_CHECKING:
    from weighbridge.memory.report.fit import Fit

KEPT = Path(__file__).parent.parent / "tests" / "replay.jsonl"
CORNERS = KEPT.with_name("corners.jsonl")
SENTENCES = KEPT.with_name("sentences.txt")
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
HELD_WORDS = frozenset({"formula", "reason", "warnings"})  # of corners
NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?!\w)")
PROGRAMS: tuple[tuple[Any, str, Callable[..., Any]], ...] = (  # what each call of theirs makes
    (Heap, "take", lambda made, heap, nbytes, *of: (nbytes, *of)),
    (Heap, "many", lambda made, heap, count, nbytes, *of: (count, nbytes, *of)),
    (GgmlTensor, "__init__", lambda made, tensor, op, dtype, ne, *of: (op, dtype.name, ne)),
    (step, "operations", lambda made, *of: [tuple(one) for one in made]),
)
Answers = Mapping[str, Mapping[str, "Kept"]]  # of each model to each question


@dataclass(frozen=True, slots=True)
class Kept:
    """What is remembered of one answer."""

    report: str  # a hash of the whole report, or "refused"
    peak: int | None = None  # bytes
    parts: Mapping[str, str] | None = None  # a hash of each component
    message: str | None = None
    sentences: frozenset[str] = field(default=frozenset(), compare=False)  # of a corner

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


class Corner(NamedTuple):
    """One request of tests/corners.jsonl."""

    request: dict[str, Any]
    kept: "Kept | None"

    @property
    def model(self) -> str:
        return str(self.request["model"])

    @property
    def question(self) -> str:
        """The request in words, as changes are told."""
        asked = dict(self.request.get("workload", {}))
        names = [self.request["task"], asked.pop("engine", ""), asked.pop("command", "")]
        helped = ["with remedies"] if self.request.get("remedies") else []
        return " ".join([*filter(None, names), *(f"{k}={v}" for k, v in asked.items()), *helped])


def answer(model: Prepared, task: str, settings: Mapping[str, Any]) -> Report:
    ask = {"load": model.load, "infer": model.infer, "train": model.train}[task]
    return ask(**settings, remedies=False)


def kept(ask: Callable[[], "Report | Fit"]) -> Kept:
    """What is remembered of the answer that `ask` gives."""
    try:
        report = ask()
    except WeighbridgeError as error:
        return Kept("refused", message=str(error))
    told = numbers(report.to_dict())
    if isinstance(report, Report):
        parts, peak = components(told), report.peak.expected
    else:  # several questions at once: a part each
        parts, peak = {name: [told[name]] for name in told}, 0
    hashes = {name: digest(found)[:4] for name, found in parts.items()}
    return Kept(digest(told)[:12], peak, hashes)


def kept_whole(request: Mapping[str, Any]) -> Kept:
    """What is remembered of a corner: its words, and all tensors on the way, too."""
    told: list[Any] = []
    said: set[str] = set()

    def ask() -> "Report | Fit":
        report = Requests(offline=True).report(dict(request))
        told.extend(sentences(report.to_dict()))
        said.update(forms(report.to_dict()))
        return report

    with tensors() as made:
        found = kept(ask)
    if found.parts is None:
        return found
    more = {"words": digest(told)[:4], "tensors": made.hexdigest()[:4]}
    return replace(found, parts={**found.parts, **more}, sentences=frozenset(said))


@contextmanager
def tensors() -> Iterator["hashlib._Hash"]:
    """A hash of each size that programs over a model make from now on."""
    made = hashlib.sha256()

    def noting(real: Callable[..., Any], told: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any, **named: Any) -> Any:
            result = real(*given, **named)
            made.update(repr(told(result, *given, **named)).encode())
            return result

        return noted

    with ExitStack() as all_of_them:
        for owner, name, told in PROGRAMS:
            found = noting(getattr(owner, name), told)
            all_of_them.enter_context(patch.object(owner, name, found))
        all_of_them.enter_context(patch.object(Heap, "row", TensorHeap.row))  # one by one
        yield made


def components(told: Mapping[str, Any]) -> dict[str, list[Any]]:
    """All places of each component, by its name."""
    parts: dict[str, list[Any]] = {}
    for device in told["devices"]:
        for phase in device["phases"]:
            for component in phase["components"]:
                name = "-".join(component["name"].split())
                place = (device["kind"], device["index"], phase["name"])
                parts.setdefault(name, []).append((place, component))
    return parts


def numbers(told: Any) -> Any:
    """The JSON of a report without its sentences, and without keys that came since."""
    return without(told, WORDS | ADDED)


def sentences(told: Any) -> Iterator[Any]:
    """Yield the formulas, warnings and reasons of a report, in its order."""
    if isinstance(told, dict):
        for key, value in told.items():
            yield from [value] if key in HELD_WORDS else sentences(value)
    elif isinstance(told, list | tuple):
        for one in told:
            yield from sentences(one)


def forms(told: Any) -> Iterator[str]:
    """Yield each sentence of a report behind its key, without its numbers."""
    if isinstance(told, dict):
        for key, value in told.items():
            if key not in WORDS:
                yield from forms(value)
            elif key != "version" and value:
                lines = [value] if isinstance(value, str) else value
                yield from (f"{key}: {form(key, line)}" for line in lines)
    elif isinstance(told, list | tuple):
        for one in told:
            yield from forms(one)


def form(key: str, sentence: str) -> str:
    """Return a sentence on one line, with # for each number; a source keeps its own."""
    line = " ".join(sentence.split())
    return line if key == "source" else NUMBER.sub("#", line)


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def asked(job: tuple[str, str]) -> tuple[str, dict[str, Kept]]:
    """What one model of the catalogue answers to the questions whose name holds a text."""
    name, only = job
    model = prepare(name)
    return name, {
        question: kept(partial(answer, model, task, settings))
        for question, task, settings in questions(model)
        if only in question
    }


def asked_again(found: list[Corner]) -> list[Corner]:
    """The corners of one model with what they are answered now."""
    return [one._replace(kept=kept_whole(one.request)) for one in found]


def by_model(found: Iterable[Corner]) -> dict[str, list[Corner]]:
    models: dict[str, list[Corner]] = {}
    for one in found:
        models.setdefault(one.model, []).append(one)
    return models


def answers(found: Iterable[Corner]) -> Answers:
    """What is kept of corners, by model and question."""
    return {
        model: {one.question: one.kept for one in some if one.kept is not None}
        for model, some in by_model(found).items()
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


def write(found: Answers) -> None:
    order = [name for name, _, _ in questions(prepare("gpt2"))]
    with KEPT.open("w") as file:
        for name in catalogue.names():
            of_model = found.get(name, {})
            told = {q: of_model[q].to_list() for q in order if q in of_model}
            if told:
                file.write(json.dumps({"model": name, "answers": told}) + "\n")


def read_corners() -> list[Corner]:
    """Return the corners, each request once: a merge may leave a line of each side."""
    with CORNERS.open() as lines:
        answers = {json.dumps(row["request"]): row["answer"] for row in map(json.loads, lines)}
    return [
        Corner(json.loads(request), answer and from_list(answer))
        for request, answer in answers.items()
    ]


def write_corners(found: Iterable[Corner]) -> None:
    with CORNERS.open("w") as file:
        for some in by_model(found).values():
            for one in some:
                told = one.kept and one.kept.to_list()
                file.write(json.dumps({"request": one.request, "answer": told}) + "\n")


def read_sentences() -> set[str]:
    return set(SENTENCES.read_text().splitlines()) if SENTENCES.exists() else set()


def told_sentences(corners: Iterable[Corner], *, every: bool, accept: bool) -> int:
    """Print the sentences that no corner said before; where every corner was asked, those that none
    says any more, too. Return how many changed."""
    before = read_sentences()
    now = {line for one in corners if one.kept is not None for line in one.kept.sentences}
    new, gone = sorted(now - before), sorted(before - now) if every else []
    for sign, lines in (("+", new), ("-", gone)):
        for line in lines[:PRINTED]:
            print(sign, line)
    if new or gone:
        print(f"{len(new)} sentences are new, {len(gone)} are gone ({SENTENCES.name})")
    if accept:
        SENTENCES.write_text("".join(f"{line}\n" for line in sorted({*before, *new} - {*gone})))
    return len(new) + len(gone)


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
    parser.add_argument("--corners", action="store_true")
    parser.add_argument("--texts", type=Path, nargs="*", metavar="FOLDER")
    parser.add_argument("--explained", action="store_true")
    typed = parser.parse_args()
    if typed.texts is not None:
        return replayed(typed.texts, typed.every, accept=typed.accept, forgiven=typed.explained)
    names = [name for name in catalogue.names() if typed.models in name][:: typed.every]
    if typed.show is not None:
        return shown(names, typed.show)
    before, corners = read(), read_corners()
    chosen = [c for c in corners if typed.models in c.model and typed.only in c.question]
    with Pool(typed.jobs) as pool:
        again = pool.imap_unordered(asked_again, by_model(chosen).values())
        jobs = [] if typed.corners else [(name, typed.only) for name in names]
        now = dict(pool.imap_unordered(asked, jobs))
        came = [one for some in again for one in some]
    if typed.accept:
        write({n: {**before.get(n, {}), **now.get(n, {})} for n in catalogue.names()})
        fresh = {(one.model, one.question): one for one in came}
        write_corners(fresh.get((c.model, c.question), c) for c in corners)
    changes = [
        *changed(before, {name: now[name] for name in names if name in now}),
        *changed(answers(corners), answers(came)),
    ]
    if typed.explained:
        changes = unexplained(changes, KEPT)
    every = not (typed.only or typed.models)
    changed_words = told_sentences(came, every=every, accept=typed.accept)
    told(changes, sum(map(len, now.values())) + len(came))
    if typed.explained:
        return int(bool(changes))  # sentences that are new are told, and written at the landing
    return 1 if (changes or changed_words) and not typed.accept else 0


def shown(names: list[str], question: str) -> int:
    for one in read_corners():
        if one.model in names and one.question == question:
            print(json.dumps(Requests(offline=True).report(one.request).to_dict(), indent=1))
    for name in names:
        model = prepare(name)
        for known, task, settings in questions(model):
            if known == question:
                print(json.dumps(answer(model, task, settings).to_dict(), indent=1))
    return 0


def changed(before: Answers, now: Answers) -> list[str]:
    """A line for each answer that is another one than before."""
    return [
        f"{name} | {question} | {what}"
        for name, found in now.items()
        for question, one in found.items()
        if (what := difference(before.get(name, {}).get(question), one))
    ]


PEAKS = re.compile(r"; peak ([\d.]+) -> ([\d.]+) GiB")


def unexplained(lines: Sequence[str], record: Path) -> list[str]:
    """Return the lines of `changed` that no file of changes/ explains; count the others by kind."""
    changes = [_parse_change(line) for line in lines]
    left = explained.unexplained(changes, record)
    kinds = Counter(
        f"{change.question}: {', '.join(change.components)}"
        for i, change in enumerate(changes)
        if i not in {*left}
    )
    if kinds:
        print(f"{len(lines) - len(left)} answers changed as changes/ says:")
        print(*(f"  {count:5} {kind}" for kind, count in kinds.most_common(PRINTED)), sep="\n")
    return [lines[i] for i in left]


def _parse_change(line: str) -> explained.Change:
    model, question, what = line.split(" | ", 2)
    components, _, _ = what.partition(";")
    refused = " -> " in PEAKS.sub("", what)  # whose message may have a semicolon
    names = ["refused"] if refused else components.split(", ")
    was, now = map(float, peaks.groups()) if (peaks := PEAKS.search(what)) else (1.0, 1.0)
    moved = abs(now - was) / was if was else float(now > 0)
    return explained.Change(model, question, [name for name in names if name != "words"], moved)


def told(changes: list[str], asked: int) -> None:
    """Prints what changed, of so many answers."""
    for line in changes[:PRINTED]:
        print(line)
    if len(changes) > PRINTED:
        print(f"... and {len(changes) - PRINTED} more")
    print(f"{len(changes)} of {asked} answers changed")


if __name__ == "__main__":
    sys.exit(main())

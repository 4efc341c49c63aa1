"""Changes that make it fit, or leave more room: the cheapest that a report has.

A row is the peak after the change, and the change with what it costs: in a few words on the first
screen, in sentences with `--details`, which end where one does. The words follow the price that the
change has (report/verdict.py). Where nothing helps, the question to ask next stands there.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from weighbridge.report.verdict import Remedy
from weighbridge.view.records import Cell, Column, Grid, Language, Note, Paste
from weighbridge.view.shown import ShownAnswer
from weighbridge.wording import printable
from weighbridge.words import Words

if TYPE_CHECKING:
    from weighbridge.quantization.quality import Finding
    from weighbridge.report import Report
    from weighbridge.report.verdict import Price

MOST = 3  # on the first screen
LONG = 72  # characters of a cost there
PYTHON = ("import ", "from ", "#")  # how a paste begins that is no shell's
LEAST = 0.4  # points of a price: below it nothing is told
QUALITY_LOSS = (  # points from which on, and the words (assumed: 3 a percent of perplexity)
    (60.0, "cost.quality.large"),
    (15.0, "cost.quality.some"),
    (2.0, "cost.quality.small"),
)
MUCH, LITTLE = 80.0, 8.0  # percent slower: beyond and below, no figure is told
ASSUMED = ("n_cpu_moe", "n_gpu_layers", "cpu_offload_gb", "offload")  # no figure is published
SCOPES: Mapping[str, str] = {  # the setting that was made smaller -> the words
    "context": "cost.context",
    "seq_len": "cost.seq_len",
    "method": "cost.adapters",
    "lora_r": "cost.lora_r",
    "lora_targets": "cost.lora_targets",
    "batch_size": "cost.batch_size",
}
MOST_COSTS = 2  # kinds of cost that are named
FIRST = "made first"  # in the note of a format that no loader makes and no file at hand is in
QUESTIONS: Mapping[str, str] = {  # task, or method of training -> as --for spells it
    "load": "load",
    "infer": "infer",
    "full": "train",
    "lora": "lora",
    "dora": "lora",
    "qlora": "qlora",
}


def found(s: ShownAnswer) -> tuple[Remedy, ...]:
    """The first of them: those that fit before those that may, in the order of the report."""
    usable = [r for r in s.report.remedies if r.fits != "no"]
    return tuple(sorted(usable, key=lambda r: r.fits != "yes")[:MOST])


def grid(s: ShownAnswer, remedies: Iterable[Remedy]) -> Grid | None:
    told = tuple(remedies)
    rows = tuple(_row(s, r) for r in told)
    key = "changes.fit" if any(r.fits == "yes" for r in told) else "changes.may"
    if s.report.verdict is not None and s.report.verdict.fits == "yes":
        key = "changes.room"
    if not rows:
        return None
    columns, actions = (Column(right=True), Column(folds=True)), tuple(r.change for r in told)
    return Grid(columns, rows, s.say(key), actions=actions)


def _row(s: ShownAnswer, r: Remedy) -> tuple[Cell, ...]:
    told = printable(r.flags or settings(r))
    cost = short(printable(r.cost)) if s.full or r.price is None else few(s.say, r)
    return Cell(s.sizes.of(held(r)), r.fits), Cell(f"{told}  ({cost})" if cost else told)


def held(r: Remedy) -> int:
    """Return the bytes that the fullest device holds after a change."""
    return r.peak_bytes if r.per_device is None else r.per_device.expected


def settings(r: Remedy) -> str:
    """The changed settings as options of ours."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in r.change.items())


def short(cost: str) -> str:
    """Shorten a cost to the clauses that there is room for, at least one."""
    first, *others = cost.split("; ")
    for clause in others:
        if len(first) + len(clause) > LONG:
            return f"{first}; …"
        first = f"{first}; {clause}"
    return first


def paste(s: ShownAnswer, r: Remedy) -> Paste | None:
    """The line that does it."""
    if not r.paste:
        return None
    text = "\n".join(printable(line) for line in r.paste.splitlines())
    language: Language = "python" if text.startswith(PYTHON) or "(" in text[:40] else "sh"
    return Paste(s.say("paste.change", flags=printable(r.flags or settings(r))), text, language)


# What it costs, in two to five words: "quality: small loss", "~30 % slower", "free"


def few(words: Words, r: "Remedy") -> str:
    """The dearest of it, "free" where it costs nothing; "" where no price is known."""
    if r.price is None:
        return ""
    found = sorted(_priced(r.price, r), key=lambda part: -part[0])
    told = [words(key, percent=f"{r.price.slower:.0f}") for _, key in found[:MOST_COSTS]]
    free = "cost.quality.least" if r.price.quality else "cost.free"
    cost = words("cost.and").join(told) or words(free)
    made = "quantization" in r.change and FIRST in r.note
    return words("cost.made", cost=cost) if made else cost


def _priced(p: "Price", r: "Remedy") -> Iterator[tuple[float, str]]:
    """(points, key) of each kind of cost."""
    if p.money:
        yield p.money, "cost.more" if r.kind == "more devices" else "cost.larger"
    if "engine" in r.change:
        yield p.effort, "cost.engine"
    if p.scope >= LEAST:
        key = next((SCOPES[n] for n in r.change if n in SCOPES), "cost.scope")
        yield p.scope + p.quality * (key == "cost.adapters"), key
    quality = next((key for least, key in QUALITY_LOSS if p.quality >= least), None)
    if quality is not None:
        yield p.quality, quality
    if p.slower >= 1:
        yield p.speed, _slower(p, r)


def _slower(p: "Price", r: "Remedy") -> str:
    if p.slower >= MUCH:
        return "cost.much_slower"
    if p.slower < LITTLE:
        return "cost.little_slower"
    return "cost.somewhat_slower" if r.change.keys() & set(ASSUMED) else "cost.slower"


def quality_cell(say: Words, found: "Finding | None") -> str:
    """Shorten a finding for a cell of a table. If it is about another model, it names that."""
    if found is None:
        return say("quality.none")
    told = say("quality.nothing")
    if found.change:
        told = say(f"quality.{found.metric}", amount=found.amount, task=printable(found.task))
    if found.least < found.change:
        told = say("quality.up_to", quality=told)
    if found.near == "model":
        return told
    return say("quality.of", quality=told, model=printable(found.measured_on))


# What to ask next


def asks(report: "Report", *, on: bool = True) -> str:
    """The command that asks `fit` about the same thing, as it is typed."""
    about = QUESTIONS[report.workload["method"] if report.task == "train" else report.task]
    v = report.verdict
    gpu = v.accelerator_id.partition("-")[2] if v is not None and v.marketed_gb else ""
    times = f":{v.count}" if v is not None and v.count > 1 else ""
    named = [f"--gpu {gpu}{times}"] if gpu and on else []
    model = printable(report.model.reference)
    wanted = [f"--for {about}"] if about != "infer" else []
    return " ".join(("weighbridge fit", model, *named, *wanted))


def unhelped(s: ShownAnswer) -> bool:
    """Tell whether a model does not fit, and a search has found no change."""
    v = s.report.verdict
    missing = v is not None and v.count > 0 and v.fits == "no" and not s.report.remedies
    return missing and s.sought


def smallest(s: ShownAnswer) -> Paste | Note:
    """The question that finds a card; on a page it is asked by its form."""
    if s.say.page:
        return Note(s.say("changes.none"))
    return Paste(s.say("changes.none"), f"{asks(s.report, on=False)} --smallest gpu")

"""Changes that make it fit, or leave more room: the cheapest of the report.

A row is the peak after the change, and the change with its cost: in a few words on the first
screen, in sentences with `--details`. The words follow the price of the change (report/verdict.py).
If nothing helps, the next question to ask is shown instead.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any

from weighbridge.base.units import GIB
from weighbridge.base.wording import printable, printable_lines
from weighbridge.base.words import Words
from weighbridge.faces.view import scripts
from weighbridge.faces.view.records import Block, Cell, Column, Grid, Language, Note, Paste
from weighbridge.faces.view.shown import ShownAnswer, sizes

if TYPE_CHECKING:
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.verdict import Price, Remedy, Verdict
    from weighbridge.models.quantization.quality import Finding

MOST = 3  # most changes on the first screen
LONG = 72  # most characters of a cost on the first screen
PYTHON = ("import ", "from ", "#")  # beginnings of a paste that is Python, not shell
BOUGHT: Mapping[str, str] = {"more devices": "cost.more", "more RAM": "cost.more_ram"}
LEAST = 0.4  # points of a price below which it is not shown
QUALITY_LOSS = (  # least points -> words (assumed: 3 points per percent of perplexity)
    (60.0, "cost.quality.large"),
    (15.0, "cost.quality.some"),
    (2.0, "cost.quality.small"),
)
MUCH, LITTLE = 80.0, 8.0  # percent slower: no number is shown above and below these
# Settings that move memory to RAM, whose cost is not published
ASSUMED = ("n_cpu_moe", "n_gpu_layers", "cpu_offload_gb", "offload")
SCOPES: Mapping[str, str] = {  # setting made smaller -> key of the words
    "context": "cost.context",
    "seq_len": "cost.seq_len",
    "method": "cost.adapters",
    "lora_r": "cost.lora_r",
    "lora_targets": "cost.lora_targets",
    "batch_size": "cost.batch_size",
}
MOST_COSTS = 2  # most kinds of cost that are shown
# Phrases in the note of a format that the loader cannot make, and of which there is no file
FIRST = ("the lines before the last make", "make one first")
QUESTIONS: Mapping[str, str] = {  # task, or method of training -> as --for spells it
    "load": "load",
    "infer": "infer",
    "full": "train",
    "lora": "lora",
    "qlora": "qlora",
}
ASKED_ANEW: Mapping[str, frozenset[str]] = {  # what `fit` solves for -> settings it finds
    "--max seq-len": frozenset(("seq_len",)),
    "--max batch": frozenset(("batch_size",)),
    "--smallest gpu": frozenset(("gpu", "gpu_memory")),
}


def found(answer: ShownAnswer) -> "tuple[Remedy, ...]":
    """Return the first changes of the report: those that surely fit, then those that may, each in
    its order."""
    usable = [r for r in answer.report.remedies if r.fits != "no"]
    return tuple(sorted(usable, key=lambda r: r.fits != "yes")[:MOST])


def grid(answer: ShownAnswer, remedies: "Iterable[Remedy]") -> Grid | None:
    changes = tuple(remedies)
    rows = tuple(_row(answer, r) for r in changes)
    key = "changes.fit" if any(r.fits == "yes" for r in changes) else "changes.may"
    if "layers_on_card" in answer.report.derived:
        key = "changes.whole"
    elif answer.report.verdict is not None and answer.report.verdict.fits == "yes":
        key = "changes.room"
    if not rows:
        return None
    columns, actions = (Column(right=True), Column(folds=True)), tuple(r.change for r in changes)
    return Grid(columns, rows, answer.say(key), actions=actions)


def _row(answer: ShownAnswer, remedy: "Remedy") -> tuple[Cell, ...]:
    flags = printable(remedy.flags or settings(remedy.change))
    cost = (
        short(printable(remedy.cost))
        if answer.full or remedy.price is None
        else few(answer.say, remedy)
    )
    verdict = answer.report.verdict
    cost = answer.say("cost.and").join(filter(None, (cost, moved(answer.say, verdict, remedy))))
    return Cell(_size_after(answer, remedy), remedy.fits), Cell(
        f"{flags}  ({cost})" if cost else flags
    )


def _size_after(answer: ShownAnswer, remedy: "Remedy") -> str:
    """Return the bytes after a change as text: of the fullest device, or of the host without a
    device."""
    verdict = answer.report.verdict
    alone = verdict is not None and not verdict.count and remedy.host is not None
    if alone and remedy.host is not None:
        return sizes(remedy.host.expected, answer.unit).of(remedy.host.expected)
    return answer.sizes.of(held(remedy))


def moved(words: Words, verdict: "Verdict | None", remedy: "Remedy") -> str:
    """Return the host memory that a machine needs after a change, as text, if the change moves
    memory there or needs at least 1 GiB more; else ""."""
    half = None if verdict is None else verdict.host
    if half is None or remedy.host is None:
        return ""
    moves = any(remedy.change.get(name) not in (None, "none", 0) for name in ASSUMED)
    if not moves and remedy.host.expected < half.needed.expected + GIB:
        return ""
    return words("cost.ram", ram=sizes(remedy.host.expected, words.unit).of(remedy.host.expected))


def held(remedy: "Remedy") -> int:
    """Return the bytes on the fullest device after a change."""
    return remedy.peak_bytes if remedy.per_device is None else remedy.per_device.expected


def settings(change: Mapping[str, Any]) -> str:
    """Return changed settings as options of weighbridge's command line."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in change.items())


def short(cost: str) -> str:
    """Return as many clauses of a cost as there is room for, at least one; "…" stands for the
    rest."""
    first, *others = cost.split("; ")
    for clause in others:
        if len(first) + len(clause) > LONG:
            return f"{first}; …"
        first = f"{first}; {clause}"
    return first


def paste(answer: ShownAnswer, remedy: "Remedy") -> tuple[Block, ...]:
    """Return blocks with the lines to paste for a change, or with a script and the command that
    writes it; () if the change has none."""
    if not remedy.paste:
        return ()
    flags = printable(remedy.flags or settings(remedy.change))
    heading = answer.say("paste.change", flags=flags)
    return pasted(answer, heading, remedy.paste, flags)


def pasted(answer: ShownAnswer, heading: str, text: str, flags: str = "") -> tuple[Block, ...]:
    """Return blocks with lines to paste, or with a script and the command that writes and starts
    it. `flags`: options of a change."""
    if scripts.is_script(text):
        return scripts.shown(answer.say, heading, text, flags)
    safe = printable_lines(text)
    return (Paste(heading, safe, language(safe)),)


def language(text: str) -> Language:
    """Return the language of a text to paste: "python" or "sh"."""
    return "python" if text.startswith(PYTHON) or "(" in text.split(" ")[0] else "sh"


# The cost in two to five words: "quality: small loss", "~30 % slower", "free"


def few(words: Words, remedy: "Remedy") -> str:
    """Return the largest costs of a change in a few words, "free" if there are none, "" without a
    known price."""
    if remedy.price is None:
        return ""
    if remedy.kind == "typed":
        return words("cost.typed")
    priced = sorted(_costs(remedy.price, remedy), key=lambda part: -part[0])
    costs = [words(key, percent=f"{remedy.price.slower:.0f}") for _, key in priced[:MOST_COSTS]]
    free = "cost.quality.least" if remedy.price.quality else "cost.free"
    cost = words("cost.and").join(costs) or words(free)
    converted = "quantization" in remedy.change and any(words in remedy.note for words in FIRST)
    return words("cost.made", cost=cost) if converted else cost


def _costs(price: "Price", remedy: "Remedy") -> Iterator[tuple[float, str]]:
    """Yield each kind of cost of a change as (points, key of its words)."""
    if price.money:
        yield price.money, BOUGHT.get(remedy.kind, "cost.larger")
    if not remedy.change.keys().isdisjoint(("engine", "framework")):
        yield price.effort, "cost.engine"
    elif "engine_version" in remedy.change:
        yield price.effort, "cost.release"
    if price.scope >= LEAST:
        key = next((SCOPES[n] for n in remedy.change if n in SCOPES), "cost.scope")
        yield price.scope + price.quality * (key == "cost.adapters"), key
    quality = next((key for least, key in QUALITY_LOSS if price.quality >= least), None)
    if quality is not None:
        yield price.quality, quality
    if price.slower >= 1:
        yield price.speed, _slowdown_key(price, remedy)


def _slowdown_key(price: "Price", remedy: "Remedy") -> str:
    if price.slower >= MUCH:
        return "cost.much_slower"
    if price.slower < LITTLE:
        return "cost.little_slower"
    return "cost.somewhat_slower" if remedy.change.keys() & set(ASSUMED) else "cost.slower"


def quality_cell(say: Words, finding: "Finding | None") -> str:
    """Return a published quality loss as text for a cell; with the model's name if another model
    was measured."""
    if finding is None:
        return say("quality.none")
    sentence = say("quality.nothing")
    if finding.change:
        sentence = say(
            f"quality.{finding.metric}", amount=finding.amount, task=printable(finding.task)
        )
    if finding.least < finding.change:
        sentence = say("quality.up_to", quality=sentence)
    if finding.near == "model":
        return sentence
    return say("quality.of", quality=sentence, model=printable(finding.measured_on))


# The question to ask next


def askable(report: "Report") -> bool:
    """Return whether `fit` can ask about the report's run: its model has a name, --for knows its
    method, and LoRA is not on quantized weights."""
    from weighbridge.models.checkpoint.gather import NAMELESS

    packed = _method_or_task(report) == "lora" and "quantization" in report.said
    return (
        report.model.reference != NAMELESS and _method_or_task(report) in QUESTIONS and not packed
    )


def asks(report: "Report", sought: str) -> str:
    """Return the command that asks `fit` to solve for `sought`, with all other settings of the
    report's question."""
    about = QUESTIONS[_method_or_task(report)]
    anew, v = ASKED_ANEW[sought], report.verdict
    words = [shlex.quote(printable(report.model.reference))]
    if v is not None and v.marketed_gb and "gpu" not in anew:
        words.append(f"--gpu {_typed_card(v.accelerator_id)}{f':{v.count}' if v.count > 1 else ''}")
    if about != "infer":
        words.append(f"--for {about}")
    words.append(_user_flags(report, anew))
    return " ".join(("weighbridge fit", *filter(None, words), sought))


def _method_or_task(report: "Report") -> str:
    """Return the training method, or the task of any other question."""
    method: str = report.workload["method"] if report.task == "train" else report.task
    return method


def _user_flags(report: "Report", anew: Set[str]) -> str:
    """Return the settings that the user set and `fit` takes, as flags, without those in `anew`."""
    from weighbridge.workload import FIT
    from weighbridge.workload.flags import flags

    known = {n: v for n, v in report.said.items() if n in FIT and n != "gpu"}
    return printable(flags({n: v for n, v in known.items() if n not in anew}, ""))


def _typed_card(accelerator_id: str) -> str:
    """Return a card's name as people type it; the id of a slice (MIG) of a card."""
    from weighbridge.machines.accelerators.names import spoken
    from weighbridge.machines.accelerators.parts import parts

    part = parts().get(accelerator_id)
    return accelerator_id.partition("-")[2] if part is None else spoken(part)


def unhelped(answer: ShownAnswer) -> bool:
    """Return whether the run does not fit, and a search found no change that helps."""
    v = answer.report.verdict
    missing = v is not None and v.count > 0 and v.fits == "no" and not answer.report.remedies
    return missing and answer.sought


def smallest(answer: ShownAnswer) -> Paste | Note:
    """Return the command that finds the smallest card; a note if no card helps or `fit` cannot ask
    it, or on a page, which has a form for it."""
    v = answer.report.verdict
    short_of_ram = v is not None and v.host is not None and v.host.fits == "no"
    if not askable(answer.report) or short_of_ram:  # a larger card adds no host memory
        return Note(answer.say("changes.nothing"))
    if answer.say.page:
        return Note(answer.say("changes.none"))
    return Paste(answer.say("changes.none"), asks(answer.report, "--smallest gpu"))

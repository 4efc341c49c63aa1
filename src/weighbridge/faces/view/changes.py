"""Changes that make it fit, or leave more room: the cheapest that a report has.

A row is the peak after the change, and the change with what it costs: in a few words on the first
screen, in sentences with `--details`, which end where one does. The words follow the price that the
change has (report/verdict.py). Where nothing helps, the question to ask next stands there.
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

MOST = 3  # on the first screen
LONG = 72  # characters of a cost there
PYTHON = ("import ", "from ", "#")  # how a paste begins that is no shell's
BOUGHT: Mapping[str, str] = {"more devices": "cost.more", "more RAM": "cost.more_ram"}
LEAST = 0.4  # points of a price: below it nothing is told
QUALITY_LOSS = (  # points from which on, and the words (assumed: 3 a percent of perplexity)
    (60.0, "cost.quality.large"),
    (15.0, "cost.quality.some"),
    (2.0, "cost.quality.small"),
)
MUCH, LITTLE = 80.0, 8.0  # percent slower: beyond and below, no figure is told
# Settings that move memory to RAM: no figure is published of what that costs
ASSUMED = ("n_cpu_moe", "n_gpu_layers", "cpu_offload_gb", "offload")
SCOPES: Mapping[str, str] = {  # the setting that was made smaller -> the words
    "context": "cost.context",
    "seq_len": "cost.seq_len",
    "method": "cost.adapters",
    "lora_r": "cost.lora_r",
    "lora_targets": "cost.lora_targets",
    "batch_size": "cost.batch_size",
}
MOST_COSTS = 2  # kinds of cost that are named
# In the note of a format that no loader makes, and that no file at hand is in
FIRST = ("the lines before the last make", "make one first")
QUESTIONS: Mapping[str, str] = {  # task, or method of training -> as --for spells it
    "load": "load",
    "infer": "infer",
    "full": "train",
    "lora": "lora",
    "qlora": "qlora",
}
ASKED_ANEW: Mapping[str, frozenset[str]] = {  # what `fit` solves for -> settings that it finds
    "--max seq-len": frozenset(("seq_len",)),
    "--max batch": frozenset(("batch_size",)),
    "--smallest gpu": frozenset(("gpu", "gpu_memory")),
}


def found(answer: ShownAnswer) -> "tuple[Remedy, ...]":
    """The first of them: those that fit before those that may, in the order of the report."""
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
    return Cell(_size(answer, remedy), remedy.fits), Cell(f"{flags}  ({cost})" if cost else flags)


def _size(answer: ShownAnswer, remedy: "Remedy") -> str:
    """Return the bytes of the fullest device after a change, of the host where none was named."""
    verdict = answer.report.verdict
    alone = verdict is not None and not verdict.count and remedy.host is not None
    if alone and remedy.host is not None:
        return sizes(remedy.host.expected, answer.unit).of(remedy.host.expected)
    return answer.sizes.of(held(remedy))


def moved(words: Words, verdict: "Verdict | None", remedy: "Remedy") -> str:
    """Return the RAM that a machine needs after a change that moves memory there or takes more of
    it, else ""."""
    half = None if verdict is None else verdict.host
    if half is None or remedy.host is None:
        return ""
    moves = any(remedy.change.get(name) not in (None, "none", 0) for name in ASSUMED)
    if not moves and remedy.host.expected < half.needed.expected + GIB:
        return ""
    return words("cost.ram", ram=sizes(remedy.host.expected, words.unit).of(remedy.host.expected))


def held(remedy: "Remedy") -> int:
    """Return the bytes that the fullest device holds after a change."""
    return remedy.peak_bytes if remedy.per_device is None else remedy.per_device.expected


def settings(change: Mapping[str, Any]) -> str:
    """Write changed settings as options of our own command line."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in change.items())


def short(cost: str) -> str:
    """Shorten a cost to the clauses that there is room for, at least one."""
    first, *others = cost.split("; ")
    for clause in others:
        if len(first) + len(clause) > LONG:
            return f"{first}; …"
        first = f"{first}; {clause}"
    return first


def paste(answer: ShownAnswer, remedy: "Remedy") -> tuple[Block, ...]:
    """Return what makes the change: lines to paste in the language that they are of, or a script
    with what writes it; () where there is nothing."""
    if not remedy.paste:
        return ()
    flags = printable(remedy.flags or settings(remedy.change))
    heading = answer.say("paste.change", flags=flags)
    return pasted(answer, heading, remedy.paste, flags)


def pasted(answer: ShownAnswer, heading: str, text: str, flags: str = "") -> tuple[Block, ...]:
    """Return lines to paste, or what writes and starts a script. `flags` are those of a change."""
    if scripts.is_script(text):
        return scripts.shown(answer.say, heading, text, flags)
    safe = printable_lines(text)
    return (Paste(heading, safe, language(safe)),)


def language(text: str) -> Language:
    """Tell which language a paste is of."""
    return "python" if text.startswith(PYTHON) or "(" in text.split(" ")[0] else "sh"


# What it costs, in two to five words: "quality: small loss", "~30 % slower", "free"


def few(words: Words, remedy: "Remedy") -> str:
    """The dearest of it, "free" where it costs nothing; "" where no price is known."""
    if remedy.price is None:
        return ""
    if remedy.kind == "typed":
        return words("cost.typed")
    priced = sorted(_priced(remedy.price, remedy), key=lambda part: -part[0])
    costs = [words(key, percent=f"{remedy.price.slower:.0f}") for _, key in priced[:MOST_COSTS]]
    free = "cost.quality.least" if remedy.price.quality else "cost.free"
    cost = words("cost.and").join(costs) or words(free)
    converted = "quantization" in remedy.change and any(words in remedy.note for words in FIRST)
    return words("cost.made", cost=cost) if converted else cost


def _priced(price: "Price", remedy: "Remedy") -> Iterator[tuple[float, str]]:
    """Yield each kind of cost of a change as its points and the key of its sentence."""
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
        yield price.speed, _slower(price, remedy)


def _slower(price: "Price", remedy: "Remedy") -> str:
    if price.slower >= MUCH:
        return "cost.much_slower"
    if price.slower < LITTLE:
        return "cost.little_slower"
    return "cost.somewhat_slower" if remedy.change.keys() & set(ASSUMED) else "cost.slower"


def quality_cell(say: Words, finding: "Finding | None") -> str:
    """Shorten a finding for a cell of a table. If it is about another model, it names that."""
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


# What to ask next


def askable(report: "Report") -> bool:
    """Tell whether a command of `fit` can ask it: of a model that has a name, and of a method that
    has a word there, where LoRA is of plain weights."""
    from weighbridge.models.checkpoint.gather import NAMELESS

    packed = _method(report) == "lora" and "quantization" in report.said
    return report.model.reference != NAMELESS and _method(report) in QUESTIONS and not packed


def asks(report: "Report", sought: str) -> str:
    """The command that asks `fit` to solve for what is `sought`, of a question that is else the
    same: every setting that was given stands in it."""
    about = QUESTIONS[_method(report)]
    anew, v = ASKED_ANEW[sought], report.verdict
    words = [shlex.quote(printable(report.model.reference))]
    if v is not None and v.marketed_gb and "gpu" not in anew:
        words.append(f"--gpu {_typed(v.accelerator_id)}{f':{v.count}' if v.count > 1 else ''}")
    if about != "infer":
        words.append(f"--for {about}")
    words.append(_said(report, anew))
    return " ".join(("weighbridge fit", *filter(None, words), sought))


def _method(report: "Report") -> str:
    """The method of training; the task of any other question."""
    method: str = report.workload["method"] if report.task == "train" else report.task
    return method


def _said(report: "Report", anew: Set[str]) -> str:
    """Settings that were given and that `fit` takes, as they are typed."""
    from weighbridge.workload import FIT
    from weighbridge.workload.flags import flags

    known = {n: v for n, v in report.said.items() if n in FIT and n != "gpu"}
    return printable(flags({n: v for n, v in known.items() if n not in anew}, ""))


def _typed(accelerator_id: str) -> str:
    """Name a card of the catalogue as people type it; a slice of one by its id."""
    from weighbridge.machines.accelerators.names import spoken
    from weighbridge.machines.accelerators.parts import parts

    part = parts().get(accelerator_id)
    return accelerator_id.partition("-")[2] if part is None else spoken(part)


def unhelped(answer: ShownAnswer) -> bool:
    """Tell whether a model does not fit, and a search has found no change."""
    v = answer.report.verdict
    missing = v is not None and v.count > 0 and v.fits == "no" and not answer.report.remedies
    return missing and answer.sought


def smallest(answer: ShownAnswer) -> Paste | Note:
    """The question that finds a card; on a page it is asked by its form."""
    v = answer.report.verdict
    short_of_ram = v is not None and v.host is not None and v.host.fits == "no"
    if not askable(answer.report) or short_of_ram:  # a larger card is no more host memory
        return Note(answer.say("changes.nothing"))
    if answer.say.page:
        return Note(answer.say("changes.none"))
    return Paste(answer.say("changes.none"), asks(answer.report, "--smallest gpu"))

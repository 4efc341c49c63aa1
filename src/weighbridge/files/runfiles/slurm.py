"""Batch scripts of Slurm: the cards and the memory that a job asks for, beside what its run takes.

Source: https://slurm.schedmd.com/sbatch.html (--gres, --gpus, --gpus-per-node, --gpus-per-task,
--mem, --mem-per-gpu, --mem-per-cpu, --nodes, --ntasks, --ntasks-per-node, --export) and srun.html
(--export, and that it starts one task on each machine where none are named). Sizes are powers of
1024, MiB where no unit stands.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import Sentence, sentence, without
from weighbridge.base.units import GIB, KIB, MIB, ceil_div, human, typed_size
from weighbridge.base.wording import shown
from weighbridge.files.runfiles.record import (
    FEW_CARDS,
    SEVERAL_CARDS,
    PlannedRun,
    Understood,
    Unread,
    Value,
)
from weighbridge.files.runfiles.training.ranks import EACH, Start, ranks_of
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.accelerators.parts import Part

if TYPE_CHECKING:
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.verdict import Verdict

LINE = re.compile(r"(?m)^#SBATCH[ \t]+([^\n#]{1,400})")
# --nodes=2, --nodes 2, -N 2, -N2
OPTION = re.compile(
    r"(?<!\S)(?:(--[A-Za-z][\w-]*)(?:=|[ \t]+)?|(-[A-Za-z])[ \t=]*)((?<==)\S+|[^\s-]\S*)?"
)
SHORT = {
    "-N": "--nodes",
    "-G": "--gpus",
    "-n": "--ntasks",
    "-c": "--cpus-per-task",
    "-C": "--constraint",
}
# A kind is a word, or a number with a count behind it: 4090:2
CARDS = re.compile(r"(?:(?P<card>[A-Za-z][\w.-]*(?=:|$)|\d[\w.-]*(?=:)):?)?(?P<count>\d{1,4})?")
OF_JOB = re.compile(r"\$\{?SLURM_")  # $SLURM_NTASKS: srun has the job's value anyway
A_SIZE = re.compile(r"\d+[A-Za-z]*")  # a memory size, no kind of card
GRES = re.compile(r"(?:gres/)?gpu(?::|$)")  # other resources are no cards: nvme:1, shard:4
# The first of these options in a job sets the number of cards; any may name their kind
OF_CARDS = ("--gres", "--gpus-per-node", "--gpus", "--gpus-per-task")
MACHINES = ("--nodes", "--ntasks")  # the first one in a job sets the machines
MEMORY = ("--mem", "--mem-per-gpu", "--mem-per-cpu")  # the first one in a job counts
SIZES = {"K": KIB, "M": MIB, "G": GIB, "T": 1024 * GIB}
NO_COUNT = "is no number of cards: write --gres=gpu:2, or gpu:h100:2 with their kind"
OTHERS = "the command names {} machines, and the job asks for {}: it does not start so"
FEW = "the job asks for {} cards, which is fewer than the command starts with"
CROWDED = "the command starts {} processes on each machine, and the job asks for cards there: {}"
SPARE = "the job asks for {} cards, and the command starts {} ranks: {} cards are not used"
SRUN = "srun"
NO_TASKS = (
    "srun is told no number of tasks, and starts one on each machine: a rank is counted for each "
    "card, as --ntasks-per-node has them"
)
# Behind what a kind of card may mean: whether that matters
ANY = "100TB"  # RAM of a job without a memory option: it must not limit the estimate


class SlurmJob(NamedTuple):
    """The resources that a job requests: `cards` and `memory` (bytes) per machine, on `nodes`
    machines; None if not stated. `whole`: it requests all memory of its machines."""

    cards: int | None = None
    card: str = ""
    nodes: int = 1
    memory: int | None = None
    cores: int | None = None  # per task
    whole: bool = False
    says: str = ""  # the option that names the kind of card

    @property
    def on_all(self) -> int:
        """Return the number of cards on all machines."""
        return (self.cards or 1) * self.nodes

    def settings(self, gpu: str | None) -> dict[str, str]:
        """Return the cards and the memory as settings of a question; `gpu` is the user's card.
        Raises UsageError if neither the job nor the user names a card."""
        kind = gpu or self.card
        if not kind:
            raise UsageError(sentence("slurm.no_card"))
        ram = typed_size(self.memory) if self.memory else ANY
        return {"gpu": times(kind, self.on_all), "ram": ram}


class SlurmOption(NamedTuple):
    """One option of a job, as spelled, and its line."""

    spelled: str
    value: str
    line: int


class SlurmAdvice(NamedTuple):
    """Whether a job requests enough, and the #SBATCH lines that it should have."""

    fits: Literal["yes", "no", "unknown"]
    needed_memory: int  # upper bound, bytes per machine
    lines: tuple[str, ...]
    note: str = ""  # what else helps, if no number of these cards does


def asked(text: str) -> SlurmJob:
    """Return the resources requested in a script's #SBATCH lines. Raises UsageError if it has
    none."""
    options = {name: option.value for name, option in _options(text).items()}
    if not options:
        raise UsageError(sentence("slurm.no_options"))
    nodes = _nodes(options)
    cards, card, says = _cards(options, nodes)
    cores = options.get("--cpus-per-task")
    memory = _memory(options, cards, nodes)
    if not card:
        card, says = _constrained(options.get("--constraint", "")), "--constraint"
    return SlurmJob(
        cards,
        card,
        nodes,
        memory,
        None if cores is None else _count(cores),
        whole="--mem" in options and memory is None,
        says=says if card else "",
    )


def _constrained(features: str) -> str:
    """Return the card in `--constraint="h100&ib"`; "" for none, or if several are allowed."""
    named = [word for word in re.split(r"[&,]", features.strip("\"'")) if _known(word)]
    return named[0] if len(named) == 1 and "|" not in features else ""


def _known(kind: str) -> bool:
    try:
        return A_SIZE.fullmatch(kind) is None and bool(could_be(kind))
    except UsageError:
        return False


def times(kind: str, count: int) -> str:
    """Return `kind:count`; `kind` itself if it has a count."""
    return kind if ":" in kind or count == 1 else f"{kind}:{count}"


def could_be(kind: str) -> tuple[Part, ...]:
    """Return the cards that a name may mean, one per memory size, the smallest first. Raises
    UsageError for an unknown name."""
    choice = find(kind)
    sizes = {part.marketed_gb: part for part in (*reversed(choice.others), choice.part)}
    return tuple(sizes[size] for size in sorted(sizes))


# #SBATCH lines as settings of the run that the job starts


def asking(run: PlannedRun, text: str) -> PlannedRun:
    """Return a batch script's run with the cards and the memory that its job requests."""
    if not _options(text):
        return run
    try:
        job = asked(text)
    except UsageError as error:
        return _with_option_note(run, "#SBATCH", text, error.line)
    settings: dict[str, Value] = {}
    taken = []
    if job.memory and "ram" not in run.settings:
        settings["ram"] = typed_size(job.memory)
        taken.append(_taken(text, MEMORY, "ram"))
    if job.cards:
        run = _with_mismatch_notes(replace(run, cards=job.on_all), job, text)
    if job.cards and job.nodes > 1 and run.task == "train" and EACH not in run.settings:
        settings[EACH] = min(job.cards, ranks_of(run) or job.cards)
        taken.append(_taken(text, MACHINES, EACH))
    if job.card and "gpu" not in run.settings:
        run, gpu = _with_smallest_card(run, job, text)
        settings |= {"gpu": gpu} if gpu else {}
        taken += [_taken(text, (job.says,), "gpu")] if gpu else []
    understood = (*run.understood, *sorted(taken, key=lambda one: one.line))
    return replace(run, settings={**run.settings, **settings}, understood=understood)


def _with_mismatch_notes(run: PlannedRun, job: SlurmJob, text: str) -> PlannedRun:
    """Return the run with notes if its ranks do not match the job's machines and cards."""
    # imported here: it reads the catalogue's names, which other scripts do not need
    from weighbridge.files.runfiles.serving.lines import lacks_cards

    ranks, cards = ranks_of(run), job.cards or 0
    if run.command and not run.refused and job.nodes == 1 and lacks_cards(run.command, cards):
        return replace(run, notes=(*run.notes, FEW.format(cards)))
    if not ranks:
        return run
    each = run.settings.get(EACH) or ceil_div(ranks, job.nodes)
    machines = ceil_div(ranks, each)
    if machines > job.nodes:
        return _with_too_few_note(run, text, OTHERS.format(machines, job.nodes), MACHINES)
    if each > cards:
        return _with_too_few_note(run, text, CROWDED.format(each, cards), OF_CARDS)
    spare = job.on_all - ranks
    notes = (SPARE.format(job.on_all, ranks, spare),) if spare else ()
    return replace(run, notes=(*run.notes, *notes))


def _with_too_few_note(run: PlannedRun, text: str, why: str, names: Sequence[str]) -> PlannedRun:
    """Return the run with the note `why` that its job requests too few, on the first of the options
    `names` that the job has."""
    options = _options(text)
    return _with_option_note(run, FEW_CARDS, text, why, next(filter(options.get, names), ""))


def _with_smallest_card(run: PlannedRun, job: SlurmJob, text: str) -> tuple[PlannedRun, str]:
    """Return (run, card): the run, with a note if the card's name is ambiguous, and the smallest
    card that it may mean, as --gpu takes it."""
    try:
        cards = could_be(job.card)
    except UsageError:
        why = f"{shown(job.card)} is no card that we know: --gpu says which it is"
        return _with_option_note(run, job.says, text, why, job.says), ""
    if len(cards) == 1:
        return run, times(job.card, job.on_all)
    run = _with_option_note(
        run, SEVERAL_CARDS, text, several("which_card", job.card, cards), job.says
    )
    smallest, *larger = (times(card.id, job.on_all) for card in cards)
    return replace(run, larger=tuple(larger)), smallest


def several(key: str, kind: str, cards: tuple[Part, ...]) -> Sentence:
    """Return a sentence that lists the cards a name may mean."""
    *names, last = (part.name for part in cards)
    return sentence(key, kind=kind, cards=f"{', '.join(names)} or {last}")


def same(why: str) -> str:
    """Return the reason for an ambiguous name whose cards all have the same answer."""
    return sentence("which_card.same", **why.values) if isinstance(why, Sentence) else why


def _with_option_note(run: PlannedRun, key: str, text: str, why: str, says: str = "") -> PlannedRun:
    """Return the run with the note `why` on an option of its job; `says` is that option."""
    options = _options(text)
    option = options.get(says) or next(iter(options.values()))
    key = option.spelled if key == says else key
    lowers, raises = key == SEVERAL_CARDS, key == FEW_CARDS
    unread_option = Unread(key=key, line=option.line, why=why, lowers=lowers, raises=raises)
    return replace(run, unread=(*run.unread, unread_option))


def _taken(text: str, names: tuple[str, ...], setting: str) -> Understood:
    """Return the first of the options `names` that a job has, as an understood key."""
    options = _options(text)
    option = next(options[name] for name in names if name in options)
    return Understood(
        key=f"#SBATCH {option.spelled}", value=option.value, setting=setting, line=option.line
    )


def environment(export: str | None, env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that programs of a job or srun see with `--export`: all of `env` plus
    those it sets, or only the named ones."""
    entries = ["ALL"] if export is None else export.strip("\"'").split(",")
    seen = dict(env) if "ALL" in entries else {n: env[n] for n in entries if n in env}
    return seen | dict(one.split("=", 1) for one in entries if "=" in one)


def exported(text: str) -> str | None:
    """Return the job's value of `--export`, which its srun inherits; None if not set."""
    option = _options(text).get("--export")
    return None if option is None else option.value


def step(text: str, words: Sequence[str]) -> Start | None:
    """Return the tasks that srun starts in a job; its options override the job's. None for one task
    on the only card."""
    why = NO_TASKS
    try:
        options = {name: option.value for name, option in _of_step(text, words).items()}
        nodes = _nodes(options)
        tasks = _tasks(options, nodes)
        if tasks is not None:
            return Start(whole=tasks, machines=nodes)
        if (_cards(options, nodes)[0] or 1) == 1:
            return None
    except UsageError as error:
        why = error.line
    line = text.count("\n", 0, max(text.find(SRUN), 0)) + 1
    return Start(unread=(Unread(key=FEW_CARDS, line=line, why=why, raises=True),))


def _of_step(text: str, words: Sequence[str]) -> dict[str, SlurmOption]:
    """Return the job's options, overridden by srun's."""
    read = _read(" ".join(_of_srun(words)), 0)
    of_the_step = {name: option for name, option in read.items() if not OF_JOB.match(option.value)}
    job = _options(text)
    if "--ntasks-per-node" in of_the_step:
        job.pop("--ntasks", None)
    return {**job, **of_the_step}


def _of_srun(words: Sequence[str]) -> Iterator[str]:
    """Yield srun's own words before the program that it starts: options and their values."""
    before = "="
    for word in words:
        if word[:1] != "-" and (before[:1] != "-" or "=" in before):
            return
        yield word
        before = word


def _options(text: str) -> dict[str, SlurmOption]:
    """Return the options of a job by their long names."""
    options: dict[str, SlurmOption] = {}
    for line in LINE.finditer(text):
        options |= _read(line[1], text.count("\n", 0, line.start()) + 1)
    return options


def _read(words: str, line: int) -> dict[str, SlurmOption]:
    """Return options by their long names; of repeated ones the last, as in Slurm."""
    options: dict[str, SlurmOption] = {}
    for option in OPTION.finditer(words):
        spelled = option[1] or option[2]
        name = SHORT.get(spelled, spelled)
        options[name] = SlurmOption(spelled, option[3] or "", line)
    return options


def _nodes(options: Mapping[str, str]) -> int:
    """Return the number of machines; without --nodes, as many as hold all tasks."""
    if "--nodes" in options:
        return _count(options["--nodes"].partition("-")[0])
    if "--ntasks" in options and "--ntasks-per-node" in options:
        return ceil_div(_count(options["--ntasks"]), _count(options["--ntasks-per-node"]))
    return 1


def _tasks(options: Mapping[str, str], nodes: int) -> int | None:
    """Return the number of tasks on all machines, None if not stated."""
    if "--ntasks" in options:
        return _count(options["--ntasks"])
    if "--ntasks-per-node" in options:
        return _count(options["--ntasks-per-node"]) * nodes
    matches = (_asked_by("--gpus", options), _asked_by("--gpus-per-task", options))
    whole, each = (int(match["count"] or 1) if match is not None else 0 for match in matches)
    return ceil_div(whole, each) if whole and each else None


def _tasks_of_each(options: Mapping[str, str], nodes: int) -> int:
    """Return the number of tasks per machine, 1 if not stated."""
    return ceil_div(_tasks(options, nodes) or nodes, nodes)


def _cards(options: Mapping[str, str], nodes: int) -> tuple[int | None, str, str]:
    """Return (cards per machine, their kind, option): the option names the kind, else the
    number."""
    asked_by = {name: _asked_by(name, options) for name in OF_CARDS}
    matches = {name: match for name, match in asked_by.items() if match is not None}
    if not matches:
        return None, "", ""
    first = next(iter(matches))
    count = int(matches[first]["count"] or 1)
    if first == "--gpus":
        count = ceil_div(count, nodes)
    elif first == "--gpus-per-task":
        count *= _tasks_of_each(options, nodes)
    says = next((name for name, match in matches.items() if match["card"]), first)
    return count, matches[says]["card"] or "", says


def _asked_by(name: str, options: Mapping[str, str]) -> re.Match[str] | None:
    """Return the match of an option's kind and number of cards; None if it requests no cards."""
    entries = options.get(name, "").split(",")
    if name == "--gres":
        entries = [GRES.sub("", one) or "1" for one in entries if GRES.match(one)]
    matches = [CARDS.fullmatch(one) for one in entries if one]
    match = next(filter(None, matches), None)
    if matches and match is None:
        raise UsageError(f"{name}={options[name]:.40} {NO_COUNT}")
    return match


def _memory(options: Mapping[str, str], cards: int | None, nodes: int) -> int | None:
    if "--mem" in options:
        return _size(options["--mem"]) or None  # 0: all of the machine's memory
    if "--mem-per-gpu" in options and cards:
        return _size(options["--mem-per-gpu"]) * cards
    if "--mem-per-cpu" in options:
        cores = _count(options.get("--cpus-per-task", "1")) * _tasks_of_each(options, nodes)
        return _size(options["--mem-per-cpu"]) * cores
    return None


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UsageError(sentence("slurm.number", text=text))
    return int(text)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([KMGT]?)B?", text.upper())
    if match is None:
        raise UsageError(sentence("slurm.size", text=text))
    return int(match[1]) * SIZES[match[2] or "M"]


def advice(job: SlurmJob, report: "Report") -> SlurmAdvice:
    """Return whether a job requests enough for a run, and if not, the lines it should have. Slurm
    gives no card to a job that requests none."""
    verdict = report.verdict
    assert verdict is not None  # a card was named
    needed = verdict.host.needed if verdict.host is not None else None
    worst = needed.high if needed is not None else 0
    cards = max(job.cards or 1, ceil_div(verdict.devices_used, job.nodes))
    note = "" if job.cards else "no card is asked for"
    if verdict.fits != "yes" and _is_decided_by_gpus(verdict):
        count = _count_that_surely_fits(report, verdict.accelerator_id)
        note = note if count else _other_help(report)
        if not count and verdict.fits == "no":
            return SlurmAdvice(verdict.fits, worst, (), note)
        cards = ceil_div(count, job.nodes) or cards
    meant = job._replace(card=_kind(job, report), cards=cards)
    fits = verdict.fits if job.cards else "no"
    return SlurmAdvice(fits, worst, _lacking(job, meant, worst), note)


def _lacking(job: SlurmJob, meant: SlurmJob, worst: int) -> tuple[str, ...]:
    """Return the #SBATCH lines that a job should have; () if its own are enough."""
    enough = job.memory if job.memory is not None and job.memory >= worst else None
    if meant.cards == job.cards and (enough or job.whole):
        return ()
    size = "0" if job.whole else f"{ceil_div(enough or worst, GIB)}G"
    return tuple(_lines(meant, size))


def _kind(job: SlurmJob, report: "Report") -> str:
    """Return the card's name for a #SBATCH line: the job's own, unless the verdict is about another
    card."""
    assert report.verdict is not None
    if not job.card or report.verdict.accelerator_id in (each.id for each in could_be(job.card)):
        return job.card
    typed = str(report.workload.get("gpu") or job.card).partition(":")[0]
    return job.card if typed.lower().startswith(job.card.lower()) else typed


def _is_decided_by_gpus(verdict: "Verdict") -> bool:
    """Return whether the cards are not surely enough, rather than only the RAM."""
    host = verdict.host
    return host is None or host.fits == "yes" or verdict.per_device.high > verdict.usable.low


def _count_that_surely_fits(report: "Report", card: str) -> int:
    """Return the number of cards of a kind that surely fits; 0 if unknown."""
    for remedy in report.remedies:
        if set(remedy.change) == {"gpu"} and remedy.fits == "yes":
            kind, _, count = str(remedy.change["gpu"]).partition(":")
            if could_be(kind)[0].id == card:
                return int(count) if count.isdecimal() else 1
    return 0


def _other_help(report: "Report") -> str:
    """Return a sentence on what helps if no number of cards is known to fit."""
    flags = next((one.flags for one in report.remedies if one.fits == "yes" and one.flags), "")
    more = "more of these cards are not known to be enough"
    return f"{more}; with {flags} it fits" if flags else f"{more}, and no change is known to do"


def _lines(job: SlurmJob, size: str) -> Iterator[str]:
    """Yield the #SBATCH lines for a job's cards and `size` of memory per machine; processor cores
    stay as requested."""
    if job.nodes > 1:
        yield f"#SBATCH --nodes={job.nodes}"
    yield f"#SBATCH --gres=gpu:{f'{job.card}:' if job.card else ''}{job.cards}"
    if job.cores:
        yield f"#SBATCH --cpus-per-task={job.cores}"
    yield f"#SBATCH --mem={size}"


def lines_of(job: SlurmJob, report: "Report", wanted_lines: SlurmAdvice) -> Iterator[str]:
    """Yield the answer about one run as lines: the verdict, the memory that it needs, what to
    write."""
    verdict = report.verdict
    assert verdict is not None
    signs: Mapping[Any, str] = {"yes": "enough", "no": "not enough", "unknown": "cannot say"}
    yield f"{report.model.name} on {verdict.cards}: {signs[wanted_lines.fits]}"
    yield without(verdict.reason, "published_runs")
    memory = f"{human(job.memory)} is asked for" if job.memory else "no memory is asked for"
    memory = "all of it is asked for" if job.whole else memory
    yield sentence("slurm.memory", size=human(wanted_lines.needed_memory), asked=memory)
    if wanted_lines.note:
        yield wanted_lines.note
    if wanted_lines.lines:
        yield "write:"
        yield from wanted_lines.lines

"""Passes over a run, in order, from its file to its answer.

    PASSES           PlannedRun -> PlannedRun    by what is typed beside the file
    ANSWER_PASSES    WeighedRun -> WeighedRun    what the file says of its answer
    together         all runs of a file          those that are given the same card

Each names the fields that it may change, and leaves the others: tests/runfiles/test_passes.py.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import human
from weighbridge.base.wording import HIDDEN
from weighbridge.engines.format_choice import ASKED
from weighbridge.engines.interface import LENGTHS
from weighbridge.files.runfiles.beside import NOT_HERE
from weighbridge.files.runfiles.document import UNNAMED
from weighbridge.files.runfiles.record import (
    FEW_CARDS,
    SEVERAL_CARDS,
    PlannedRun,
    RunFile,
    Unread,
)
from weighbridge.files.runfiles.slurm import same
from weighbridge.files.runfiles.training.flags import in_calls
from weighbridge.files.runfiles.training.ranks import ranks_of
from weighbridge.files.runfiles.training.zero import step_contradicted
from weighbridge.memory.report import Report
from weighbridge.memory.report.together import held_at_once
from weighbridge.memory.report.verdict import Condition, Remedy, Verdict
from weighbridge.settings.ranks import Ranks
from weighbridge.workload.consistency import idle

if TYPE_CHECKING:
    from weighbridge.files.runfiles.weighing import WeighedRun

# keys that name other or more weights for adapters
OF_ADAPTERS = ("lora_target_parameters", "network.network_kwargs", "network_args")
NARROWEST = 512  # width of the narrowest adapted weight: experts of IBM's Granite 3.1 MoE
ADAM = 16  # bytes per element: float32 with its gradient and two states
BY_FILE = "as the file asks"
CARD = ("gpu", "gpu_memory")
DIVIDED_ELSEWHERE = ("trl",)  # kinds whose launcher has its own config
ELSEWHERE = (
    "what divides the model over the cards (FSDP, ZeRO) stands in the launcher's config, not in "
    "this file: --shard says it"
)
IDLE = "it means nothing beside {}, and is left out"
OWN_FILE = re.compile(r"(?:^|\s)(?:-hf|-hfr|--hf-repo)[= ]")  # llama.cpp: a file of the Hub
RPC_FLAG = "--rpc"  # llama-server: cards of other machines
CONTEXT_VARIABLE = "OLLAMA_CONTEXT_LENGTH="
OWN_LINE = {*CARD, "ram"}  # the user may give these and the file's own launch line is still right
SHARED = "shared_card"  # the condition for runs on one card


class Typed(NamedTuple):
    """The user's settings in addition to the file, of any task, and a model that replaces the
    file's."""

    file: RunFile
    settings: Mapping[str, Any]
    model: str | None = None


class Pass(NamedTuple):
    """A pass over a run, and the fields of the run that it may change."""

    change: Callable[[PlannedRun, Typed], PlannedRun]
    fields: tuple[str, ...]


class AnswerPass(NamedTuple):
    """A pass over a run that has an estimate, and the fields of the run and of its report that it
    may change."""

    change: "Callable[[WeighedRun, Report, Typed], WeighedRun]"
    run: tuple[str, ...] = ()
    report: tuple[str, ...] = ()


def passed(run: PlannedRun, typed: Typed) -> PlannedRun:
    """Return `run` after all PASSES, with the user's settings applied."""
    for each in PASSES:
        run = each.change(run, typed)
    return run


def answered_for(weighed: "WeighedRun", typed: Typed) -> "WeighedRun":
    """Return the answer after all ANSWER_PASSES, with the file's own facts added."""
    for each in ANSWER_PASSES:
        if weighed.report is not None:
            weighed = each.change(weighed, weighed.report, typed)
    return weighed


# Before a run is estimated


def without_defaults(run: PlannedRun, typed: Typed) -> PlannedRun:
    """Return the run without the file's defaults that the user's settings replace."""
    return replace(run, defaults=tuple(one for one in run.defaults if one[0] not in typed.settings))


def without_idle(run: PlannedRun, typed: Typed) -> PlannedRun:
    """Return the run without settings that have no effect given the user's own, with a note on
    each."""
    left = idle(typed.settings, run.settings) if run.task == "train" else {}
    if not left:
        return run
    read, others = _idle_notes(run, left)
    return replace(
        run,
        settings={name: value for name, value in run.settings.items() if name not in left},
        notes=(*run.notes, *others),
        understood=tuple(u for u in run.understood if u.setting not in left),
        defaults=tuple(each for each in run.defaults if each[0] not in left),
        unread=(*run.unread, *read),
    )


def _idle_notes(
    run: PlannedRun, left: Mapping[str, str]
) -> tuple[tuple[Unread, ...], tuple[str, ...]]:
    """Return (notes on keys of the file, notes on other settings) that have no effect."""
    read = tuple(
        Unread(key=u.key, line=u.line, why=IDLE.format(left[u.setting]), file=u.file)
        for u in run.understood
        if u.setting in left
    )
    in_file = {u.setting for u in run.understood} | {name for name, _, _ in run.defaults}
    names = [name for name in left if name not in in_file]
    return read, tuple(f"{name} {run.settings[name]}: {IDLE.format(left[name])}" for name in names)


def without_doubted_card(run: PlannedRun, typed: Typed) -> PlannedRun:
    """Return the run without the note that its card's name is ambiguous, if the user names a
    card."""
    if typed.settings.keys().isdisjoint(CARD):
        return run
    unread = tuple(u for u in run.unread if u.key != SEVERAL_CARDS)
    return replace(run, unread=unread, larger=())


def as_the_model(run: PlannedRun, typed: Typed) -> PlannedRun:
    """Return the run of a ComfyUI workflow, read again with the user's model; formats and sizes
    stay the workflow's."""
    if typed.file.kind != "comfyui" or not typed.model:
        return run
    from weighbridge.files.runfiles.document import documents
    from weighbridge.files.runfiles.serving import workflow

    (document,) = documents(typed.file.text, "json", typed.file.name)
    again = next(workflow.read(document, typed.model))
    return replace(run, settings=again.settings, unread=again.unread, defaults=again.defaults)


PASSES = (
    Pass(as_the_model, ("settings", "unread", "defaults")),
    Pass(without_defaults, ("defaults",)),
    Pass(without_idle, ("settings", "notes", "understood", "defaults", "unread")),
    Pass(without_doubted_card, ("unread", "larger")),
)


# Once it has an answer


def of_larger_cards(run: PlannedRun, weigh: "Callable[[PlannedRun], WeighedRun]") -> "WeighedRun":
    """Return the answer for the smallest card that an ambiguous name may mean. A "no" is sure only
    if the larger cards say no too."""
    first = weigh(run)
    if first.fits != "no" or not run.larger:
        return first
    larger = (replace(run, settings={**run.settings, "gpu": gpu}) for gpu in run.larger)
    if any(weigh(each).fits != "no" for each in larger):
        return first
    unread = tuple(
        replace(u, why=same(u.why), lowers=False) if u.key == SEVERAL_CARDS else u
        for u in run.unread
    )
    return replace(first, run=replace(run, unread=unread))


def stepping(weighed: "WeighedRun", report: Report, typed: Typed) -> "WeighedRun":
    """Return the run with a note if DeepSpeed's batch sizes do not match the ranks of the user's
    cards. For ranks stated in a file, its reader has compared them."""
    run = weighed.run
    if ranks_of(run) or typed.settings.keys().isdisjoint(("gpu", "data_parallel_size")):
        return weighed
    sizes = {**run.settings, **report.workload}
    why = step_contradicted(replace(run, settings=sizes), Ranks.of(sizes).cards)
    return replace(weighed, run=replace(run, notes=(*run.notes, why))) if why else weighed


def by_the_file(weighed: "WeighedRun", report: Report, typed: Typed) -> "WeighedRun":
    """Return the answer, with the file instead of the user as the origin of dtype and context."""
    derived, names = report.derived.copy(), typed.settings.keys()
    if derived.get("dtype_from") == ASKED and names.isdisjoint(("dtype", "quantization")):
        derived["dtype_from"] = BY_FILE
    if derived.get("context_from") == ASKED and names.isdisjoint(LENGTHS):
        derived["context_from"] = BY_FILE
    return replace(weighed, report=replace(report, derived=derived))


def doubted(weighed: "WeighedRun", report: Report, typed: Typed) -> "WeighedRun":
    """Return the answer with an open verdict if an uncounted key needs less ("no") or more ("yes").
    It is open, too, if another file decides how the model is sharded."""
    verdict = report.verdict
    if verdict is None or verdict.fits == "unknown" or _surely_too_large(report, verdict):
        return weighed
    unread = tuple(u for u in weighed.run.unread if not _is_bounded(u, report, verdict))
    run = replace(weighed.run, unread=unread)
    reasons = ((doubt, doubt(run, verdict, typed)) for doubt in DOUBTS)
    doubt, reason = next((one for one in reasons if one[1]), (None, ""))
    if doubt is None:
        return weighed
    opens = verdict.fits if doubt is _uncounted else "either"
    open_ = verdict.under(Condition("read", opens=opens, source=reason), reason=reason)
    return replace(weighed, report=replace(report, verdict=open_))


def _is_bounded(unread: Unread, report: Report, verdict: Verdict) -> bool:
    """Return whether an unknown key needs less than the margin: at most adapters of the run's rank
    for all weights, with float32 Adam."""
    rank, room = report.workload.get("lora_r"), verdict.margin_bytes or 0
    most = report.model.parameters * 2 * (rank or 0) // NARROWEST * ADAM
    return verdict.fits == "yes" and unread.key in OF_ADAPTERS and 0 < most < room


def _surely_too_large(report: Report, verdict: Verdict) -> bool:
    """Return whether a pipeline's weights alone exceed the card: image size and frames that the
    text does not state cannot change that."""
    fullest = report.fullest.binding()
    return report.pictures and fullest.of("weights").low > verdict.usable.high > 0


def _settings_only_in_prose(run: PlannedRun, verdict: Verdict, typed: Typed) -> str:
    """Return why settings stated only in prose leave the verdict open; "" if programs or the user
    state all that decide."""
    names = {*typed.settings, *(("model",) if typed.model else ())}
    flags = {"gpu": CARD}
    words = [name for name in run.words if names.isdisjoint(flags.get(name, (name,)))]
    if not words:
        return ""
    named = ", ".join(str(u.value) for name in words for u in run.understood if u.setting == name)
    lacks = [sentence("words.lacks", missing=each) for each in run.missing]
    open_ = lacks or any(doubt(run, verdict, typed) for doubt in OTHER_DOUBTS)
    sure = [] if open_ else [sentence("words.sure", flags=" ".join(_flags_for(run, words)))]
    return clauses(sentence("words.as_far", said=named), *lacks, *sure)


def _flags_for(run: PlannedRun, names: Sequence[str]) -> Iterator[str]:
    """Yield the flags for settings that are stated only in prose."""
    for name in names:
        value = run.model if name == "model" else run.settings.get(name)
        if value is not None:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            yield f"--{name.replace('_', '-')} {shlex.quote(text)}"


def _missing_files(run: PlannedRun, verdict: Verdict, typed: Typed) -> str:
    """Return a sentence on missing files that decide; "" if there are none."""
    absent = ", ".join(dict.fromkeys(u.missing for u in run.unread if u.missing))
    return NOT_HERE.format(absent) if absent else ""


def _doubts(run: PlannedRun, verdict: Verdict) -> Iterator[Unread]:
    """Yield the unknown keys that could change the verdict."""
    return (u for u in run.unread if (u.raises if verdict.fits == "yes" else u.lowers))


def _of_cards(run: PlannedRun, verdict: Verdict, typed: Typed) -> str:
    """Return the doubt about which cards are meant; "" if there is none."""
    keys = (FEW_CARDS, SEVERAL_CARDS)
    return next((u.why for u in _doubts(run, verdict) if u.key in keys), "")


def _unknown_values(run: PlannedRun, verdict: Verdict, typed: Typed) -> str:
    """Return a sentence on keys with unknown values, which may need more or less memory; "" if
    there are none."""
    keys = ", ".join(u.key for u in _doubts(run, verdict) if u.raises and u.lowers)
    return f"it is not known what {keys} takes" if keys else ""


def _uncounted(run: PlannedRun, verdict: Verdict, typed: Typed) -> str:
    """Return a sentence on keys that the estimate leaves out; "" if there are none."""
    keys = ", ".join(u.key for u in _doubts(run, verdict))
    way = "more" if verdict.fits == "yes" else "less"
    return f"it is counted without {keys}, which takes {way}" if keys else ""


def _sharded_elsewhere(run: PlannedRun, verdict: Verdict, typed: Typed) -> str:
    """Return a sentence if another file decides how the model is sharded; else ""."""
    alone = typed.file.kind in DIVIDED_ELSEWHERE and "shard" not in {*typed.settings, *run.settings}
    return ELSEWHERE if alone and verdict.fits != "yes" and verdict.count > 1 else ""


OTHER_DOUBTS = (_missing_files, _of_cards, _unknown_values, _uncounted, _sharded_elsewhere)
DOUBTS = (_settings_only_in_prose, *OTHER_DOUBTS)


def as_own_modelfile(weighed: "WeighedRun", report: Report, typed: Typed) -> "WeighedRun":
    """Return the answer for a Modelfile: the line to paste creates a model from it, and remedies
    change a copy of it."""
    from weighbridge.files.runfiles.serving.own_modelfile import lines

    file = typed.file
    if file.kind != "modelfile" or not _own_line(typed):
        return weighed
    name = f"{report.model.name.rpartition('/')[2]}-own"
    path = "Modelfile" if file.name == UNNAMED else file.name  # for a pasted text

    def pasted(remedy: Remedy) -> Remedy:
        line_of_ours = lines(remedy.paste, file.text, path, name, remedy.change)
        return replace(remedy, paste=line_of_ours, note="") if remedy.paste else remedy

    report = replace(report, remedies=tuple(map(pasted, report.remedies)))
    line = f"ollama create {name} -f {shlex.quote(path)}\nollama run {name}"
    return _with_launch_line(replace(weighed, report=report), line)


def by_own_line(weighed: "WeighedRun", report: Report, typed: Typed) -> "WeighedRun":
    """Return the answer with the file's own launch line, if that works as it is and the usual line
    needs a step before: llama.cpp with -hf, or with other machines' cards."""
    from weighbridge.files.runfiles.serving.lines import launch_line

    run = weighed.run
    if typed.file.kind in ("modelfile", "comfyui") or not _own_line(typed):
        return weighed
    launch = str(report.derived.get("launch") or "")
    others = next((str(u.value) for u in run.understood if u.key == RPC_FLAG), "")
    if not launch:
        return _without_note(weighed, report) if run.command else weighed
    if OWN_FILE.search(run.command):
        return _with_launch_line(weighed, launch_line(run.command).replace(HIDDEN, "$SECRET"))
    return (
        _with_launch_line(weighed, f"{launch} {RPC_FLAG} {shlex.quote(others)}")
        if others
        else weighed
    )


def as_own_workflow(weighed: "WeighedRun", report: Report, typed: Typed) -> "WeighedRun":
    """Return the answer for a workflow, which needs no line to paste; remedies list only changes to
    it."""
    lines = str(report.derived.get("launch") or "").splitlines()
    if typed.file.kind != "comfyui" or not lines or not _own_line(typed):
        return weighed

    def pasted(remedy: Remedy) -> Remedy:
        changes = (line for line in remedy.paste.splitlines() if line not in lines[1:])
        return replace(remedy, paste="\n".join(changes))

    report = replace(report, remedies=tuple(map(pasted, report.remedies)))
    asis = sentence("workflow.as_it_is", name=typed.file.name)
    return _with_launch_line(replace(weighed, report=report), f"{lines[0]}\n# {asis}")


def as_own_script(weighed: "WeighedRun", report: Report, typed: Typed) -> "WeighedRun":
    """Return the answer for a script of TRL without flags; remedies to paste become arguments in
    its calls."""
    if typed.file.kind != "training-script":
        return weighed

    def pasted(remedy: Remedy) -> Remedy:
        words = in_calls(remedy.paste, typed.file.text) if remedy.paste.startswith("--") else ""
        return replace(remedy, paste=words or remedy.paste)

    report = replace(report, remedies=tuple(map(pasted, report.remedies)))
    return replace(weighed, report=report)


def _own_line(typed: Typed) -> bool:
    """Return whether the file's own launch line is still right with the user's settings."""
    return typed.settings.keys() <= OWN_LINE


def _with_launch_line(weighed: "WeighedRun", line: str) -> "WeighedRun":
    """Return the answer with the launch line `line` to paste. If the file sets a context, warnings
    about the server's context variable are dropped."""
    report = weighed.report
    assert report is not None
    warnings = report.warnings
    if "context" in weighed.run.settings:
        warnings = tuple(w for w in warnings if CONTEXT_VARIABLE not in w)
    derived = report.derived.copy()
    derived["launch"] = line
    derived.pop("launch_note", None)
    return replace(weighed, report=replace(report, derived=derived, warnings=warnings))


def _without_note(weighed: "WeighedRun", report: Report) -> "WeighedRun":
    """Return the answer without the note on why there is no line to paste, since the text has
    one."""
    derived = report.derived.copy()
    note = derived.pop("launch_note", None)
    warnings = tuple(w for w in report.warnings if w != note)
    return replace(weighed, report=replace(report, derived=derived, warnings=warnings))


ANSWER_PASSES = (
    AnswerPass(stepping, run=("notes",)),
    AnswerPass(by_the_file, report=("derived",)),
    AnswerPass(doubted, report=("verdict",)),
    AnswerPass(as_own_modelfile, report=("derived", "warnings", "remedies")),
    AnswerPass(by_own_line, report=("derived", "warnings")),
    AnswerPass(as_own_workflow, report=("derived", "warnings", "remedies")),
    AnswerPass(as_own_script, report=("remedies",)),
)


# Runs of one file on one card


def together(runs: "tuple[WeighedRun, ...]") -> "tuple[WeighedRun, ...]":
    """Return the answers; runs on the same card are also judged by their sum."""
    judged = list(runs)
    cards = dict.fromkeys(card for run in runs for card in run.run.devices)
    for card in cards:
        members = [number for number, run in enumerate(runs) if card in run.run.devices]
        if len(members) > 1:
            _judge_shared_card(judged, members, card)
    return tuple(judged)


def _beyond_shares(whole: Bytes, reports: Sequence[Report]) -> Bytes:
    """Return the bytes of all answers together, with the uncertainty of what their engines' memory
    fractions do not cover: CUDA contexts, graphs."""
    others = (r.fullest.binding().components for r in reports if r.fullest.taken is not None)
    sizes = [c.bytes for components in others for c in components if c.level == "driver"]
    less = sum(size.expected - size.low for size in sizes)
    return Bytes(
        min(whole.low, whole.expected - less),
        whole.expected,
        max(whole.high, whole.expected + sum(size.high - size.expected for size in sizes)),
    )


def _named(run: PlannedRun) -> str:
    return run.name or run.model


def _judge_shared_card(runs: "list[WeighedRun]", members: Sequence[int], card: str) -> None:
    """Set the verdict of the runs with the indexes `members`, which share `card`, by their total
    memory."""
    names = " and ".join(_named(runs[number].run) for number in members)
    reports = [report for number in members if (report := runs[number].report) is not None]
    lacks = [_named(runs[number].run) for number in members if runs[number].report is None]
    whole = _beyond_shares(held_at_once(reports), reports)
    about = f"{names} share card {card}: together they take about {human(whole.expected)}"
    for number in members:
        report = runs[number].report
        if report is None:
            continue
        if report.verdict is None:
            run = runs[number].run
            about_them = about if not lacks else f"{about} without {', '.join(lacks)}"
            notes = run.notes if number != members[0] else (*run.notes, about_them)
            runs[number] = replace(runs[number], run=replace(run, notes=notes))
            continue
        usable = report.verdict.usable_bytes
        room, reason = exactly(usable), f"{about}, and it has {human(usable)}"
        sum_fits = Condition(SHARED, whole, room)
        absent = [Condition("not_counted", opens="yes", source=name) for name in lacks]
        if lacks and sum_fits.holds != "no":
            reason = f"{', '.join(lacks)} takes memory of the same card, too"
        verdict = report.verdict.under(sum_fits, *absent, reason=reason)
        if verdict.fits == report.verdict.fits:
            verdict = replace(verdict, reason=report.verdict.reason)
        runs[number] = replace(runs[number], report=replace(report, verdict=verdict))

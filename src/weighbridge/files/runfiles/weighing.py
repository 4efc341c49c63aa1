"""The runs of a file, weighed: what is typed beside the file wins over what stands in it."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.answers.questions.prepared import Prepared, serving_beside
from weighbridge.answers.questions.question import by_its_name, question, serving
from weighbridge.base._version import __version__
from weighbridge.base.cost import MOST_RUNS
from weighbridge.base.errors import CODES, UsageError, WeighbridgeError
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.words import words_in
from weighbridge.engines.launch.shell import CARDS
from weighbridge.files.runfiles.beside import NOT_HERE
from weighbridge.files.runfiles.findings import LogFinding, findings, least, stored, text_of
from weighbridge.files.runfiles.measured import (
    DERIVED,
    MeasuredPart,
    beside,
    by_the_log,
    overruled,
    with_room,
)
from weighbridge.files.runfiles.named import MOST_TEXT
from weighbridge.files.runfiles.passes import Typed, answered_for, of_larger_cards, passed, together
from weighbridge.files.runfiles.record import (
    PlannedRun,
    RunFile,
    ServerStart,
    Understood,
    Value,
)
from weighbridge.files.runfiles.remarks import remarks
from weighbridge.files.runfiles.slurm import times
from weighbridge.files.runfiles.training.ranks import ranks_of
from weighbridge.memory.report import Report, Shown
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.memory.report.verdict import Condition
from weighbridge.settings.ranks import OF_A_COPY, SIZES, Ranks
from weighbridge.workload import TABLES

if TYPE_CHECKING:
    from weighbridge.files.oom import Oom

SCHEMA = "weighbridge.runfile/1"
FIXED = ("framework", "engine", "gpu", "gpu_memory", "ram")  # no change of a file touches these
COPY = tuple(SIZES[kind] for kind in OF_A_COPY)  # settings of the ranks that share one model
SAID = ("engine", "framework", "ram", *COPY)  # taken from the run of a message
MOST_COMMON = 8192  # context in tokens at which bytes per token are computed
SAME_NEED = 0.02  # relative difference of equal caches: printed sizes are rounded, blocks too
BEYOND = f"of one file {MOST_RUNS} runs are weighed: give those behind in a file of their own"
NOT_WEIGHED = (2, 4)  # exit codes of runs that were read but have no estimate
Answer = Literal["yes", "no", "unknown"]
# A card without a count; the file states the count
NAMED = re.compile(r"(?i)(?!\d+ *[x*]|local\b)[^:+,*]+(?<! x\d)")
PROSE = "text"  # the kind that may contain an error message
Open = Callable[[Any, str | None], Prepared]
Opened = Callable[[PlannedRun], Prepared]


@frozen_record
class WeighedRun:
    """A run with its report, or with the reason why it has none."""

    run: PlannedRun
    report: Report | None = None
    why: str = ""
    code: int = 0  # the exit code of what went wrong
    measured: tuple[MeasuredPart, ...] = ()  # figures of its log, compared with ours
    by_the_log: bool = False  # the log differs much from our estimate and replaces it

    @property
    def fits(self) -> Answer:
        """Return whether the run fits the user's card; "unknown" without a card."""
        if self.report is None or self.report.verdict is None:
            return "unknown"
        return self.report.verdict.fits

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the parsed run, and its report or the error."""
        from weighbridge.files.runfiles.serving.lines import launch_line

        run = self.run
        error = {"code": self.code, "message": self.why} if self.report is None else None
        return {
            "task": run.task,
            "name": run.name,
            "model": run.model or None,
            "settings": {name: _plain(value) for name, value in run.settings.items()},
            "command": launch_line(run.command) or None,
            "understood": [_of_a_key(one) for one in run.understood],
            "not_understood": [
                {"key": u.key, "line": u.line, "why": u.why, **_file_if_other(u.file)}
                for u in run.unread
            ],
            "defaults": [
                {"setting": name, "value": value, "why": why} for name, value, why in run.defaults
            ],
            "notes": list(run.notes),
            "in_words": list(run.words),
            "missing": list(run.missing),
            "report": None if self.report is None else self.report.to_dict(),
            "measured": [part._asdict() for part in self.measured],
            "by_the_log": self.by_the_log,
            "error": error,
        }


@frozen_record
class WeighedFile(Shown):
    """The answer about a run file: its runs, in file order."""

    file: RunFile
    runs: tuple[WeighedRun, ...]
    message: "Oom | None" = None  # an out-of-memory message in it, explained
    findings: tuple[LogFinding, ...] = ()  # conclusions from its logs and figures

    @property
    def fits(self) -> Answer:
        """Return whether all runs fit: "no" if one does not."""
        answers = {run.fits for run in self.runs}
        return next(each for each in ("no", "unknown", "yes") if each in answers)

    @property
    def answered(self) -> bool:
        """Return whether any run has an estimate, or the text's message is explained."""
        explained = self.message is not None or any(each.explains for each in self.findings)
        return explained or any(run.report is not None for run in self.runs)

    def code(self, *, check: bool) -> int:
        """Return the exit code: of the error if no run has an estimate, of the verdict with
        `check`, else 0."""
        if not self.answered:
            return max((run.code for run in self.runs), default=2)
        return CODES[self.fits] if check else 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the keys that affect memory and were not understood, by line, and all runs'
        warnings."""
        lines: list[str] = []
        for weighed in self.runs:
            lines += (
                f"{u.file or self.file.name}{f':{u.line}' if u.line else ''}: {u.key}: {u.why}"
                for u in weighed.run.unread
                if weighed.report is not None or not u.missing
            )
            lines += weighed.run.notes
            lines += weighed.report.warnings if weighed.report is not None else ()
        return tuple(dict.fromkeys(lines))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON answer (docs/report.md)."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "file": self.file.name,
            "kind": self.file.kind,
            "fits": self.fits,
            "runs": [run.to_dict() for run in self.runs],
            "warnings": [*map(str, self.warnings)],
            "message": None if self.message is None else self.message.to_dict(),
            "findings": [
                {"finding": f.key, "text": text_of(f, words_in("en")), **f.values}
                for f in self.findings
            ],
        }


def weighed(
    file: RunFile, open_: Open, settings: Mapping[str, Any], model: str | None = None
) -> WeighedFile:
    """Return the answers for all runs of a file. The user's `settings` may be of any task; `model`
    is used if the file names none. Raises UsageError for settings that no run has."""
    typed_settings = {name: value for name, value in settings.items() if value is not None}
    _known_settings(file, typed_settings)
    typed = Typed(file, typed_settings, model)
    runs = tuple(_answer(run, open_, typed) for run in file.runs[:MOST_RUNS])
    beyond = file.runs[MOST_RUNS:]
    runs = together(runs) + tuple(
        WeighedRun(run=run, why=BEYOND, code=CODES["unknown"]) for run in beyond
    )
    if file.kind != PROSE:
        return WeighedFile(file=file, runs=runs)
    return _with_logs(file, runs, lambda run: open_(model or run.model or run.config, None))


def _known_settings(file: RunFile, typed_settings: Mapping[str, Any]) -> None:
    known = {name for run in file.runs for name in TABLES[run.task]}
    strange = sorted(typed_settings.keys() - known)
    if strange:
        tasks = " and ".join(sorted({run.task for run in file.runs}))
        raise UsageError(
            sentence("file.no_setting", name=file.name, tasks=tasks, setting=strange[0])
        )


def _answer(run: PlannedRun, open_: Open, typed: Typed) -> WeighedRun:
    """Return the answer for one run with the user's settings, and what leaves it open."""
    weigh = partial(_weighed, open_=open_, typed_settings=typed.settings, model=typed.model)
    return answered_for(of_larger_cards(passed(run, typed), weigh), typed)


def _with_logs(file: RunFile, runs: tuple[WeighedRun, ...], opened: Opened) -> WeighedFile:
    """Return the answer about a text, with the findings in its logs and messages."""
    from weighbridge.files.runfiles.document import documents
    from weighbridge.files.runfiles.serving.start_logs import starts

    (document,) = documents(file.text, "text", file.name)
    started = starts(document)
    if len(started) == len(runs):
        runs = tuple(_beside(run, start) for run, start in zip(runs, started, strict=True))
    elif len(runs) == 1:
        runs = (_beside(runs[0], _its_start(runs[0], started)),)
    reports = [(run.run.model, run.report) for run in runs if run.report is not None]
    message = _compared(_explained(file, _known(file)), runs, opened)
    text = file.text[:MOST_TEXT]
    all_findings = (
        *findings(text, started, reports),
        *remarks(text, explained=message is not None),
    )
    all_findings = (
        *all_findings,
        *_stored(all_findings, runs, opened),
        *_of_stages(message, runs),
        *_least(runs, opened),
    )
    return WeighedFile(
        file=file,
        runs=_without_denied_yes(
            tuple(_without_contradictions(run, all_findings) for run in runs), message
        ),
        message=_with_proven_remedy_first(message, all_findings),
        findings=all_findings,
    )


def _with_proven_remedy_first(
    message: "Oom | None", all_findings: Sequence[LogFinding]
) -> "Oom | None":
    """Return the message, with the remedy that the text's logs prove as its first change."""
    batch = next((f.values["batch"] for f in all_findings if f.key.startswith("less_cache")), None)
    if message is None or batch is None:
        return message
    from weighbridge.files.oom.changes import cured

    cure = cured("max_num_batched_tokens", batch)
    others = [each for each in message.remedies if each.change.keys() != cure.change.keys()]
    return replace(message, remedies=(cure, *others))


def _of_stages(message: "Oom | None", runs: Sequence[WeighedRun]) -> tuple[LogFinding, ...]:
    """Return the meaning of vLLM's message with pipeline parallelism: some releases compare the
    cache of all layers with the memory of one stage (vllm-project/vllm issue 34076)."""
    report = runs[0].report if len(runs) == 1 else None
    if message is None or report is None:
        return ()
    needed, left = message.reading.size("needed_kv"), message.reading.size("available_kv")
    derived, stages = report.derived, int(report.workload.get("pipeline_parallel_size") or 1)
    whole = (derived.get("kv_cache_bytes_per_token") or 0) * (report.workload.get("context") or 0)
    tokens, there = derived.get("kv_cache_tokens"), derived.get("available_kv_cache_bytes")
    if stages < 2 or not needed or not left or not tokens or not there:
        return ()
    if abs(needed - whole) > SAME_NEED * needed:
        return ()
    values = {"stages": stages, "needed_bytes": needed, "left_bytes": left}
    return (LogFinding("all_stages", {**values, "tokens": tokens * left // there}),)


def _stored(
    all_findings: Sequence[LogFinding], runs: Sequence[WeighedRun], opened: Opened
) -> tuple[LogFinding, ...]:
    """Return the finding how many tokens of the text's model a cache in host memory holds."""
    run = next((run.run for run in runs if run.run.model), None)
    if run is None or not any(finding.key == "segments" for finding in all_findings):
        return ()
    try:
        derived = opened(run).infer(engine="vllm", context=MOST_COMMON).derived
    except WeighbridgeError:
        return ()
    return tuple(stored(all_findings, run.model, int(derived.get("kv_cache_bytes_per_token") or 0)))


def _least(runs: Sequence[WeighedRun], opened: Opened) -> tuple[LogFinding, ...]:
    """Return the finding on the least bytes of a model's weights, if a text names a model but no
    run has an estimate."""
    run = next((run.run for run in runs if run.run.model and run.code in NOT_WEIGHED), None)
    if run is None or any(run.report is not None for run in runs):
        return ()
    try:
        return tuple(least(run.model, opened(run).load(), run.task))
    except WeighbridgeError:
        return ()


def _without_contradictions(run: WeighedRun, all_findings: Sequence[LogFinding]) -> WeighedRun:
    """Return an answer without what its text contradicts, and without an open verdict if the user
    names no card."""
    report = run.report
    if report is None:
        return run
    if any(f.key == "all_stages" for f in all_findings):  # the message states which length starts
        derived: DerivedFacts = {**report.derived, "largest_context": None}
        report = replace(report, derived=derived)
    verdict = report.verdict
    if verdict is not None and not verdict.count and verdict.fits == "unknown":
        report = replace(report, verdict=None)
    return run if report is run.report else replace(run, report=report)


def _without_denied_yes(
    runs: tuple[WeighedRun, ...], message: "Oom | None"
) -> tuple[WeighedRun, ...]:
    """Return the answers; the "yes" of a text's only run becomes open if its own message says that
    memory ran out, since what differs is unknown."""
    report = runs[0].report if len(runs) == 1 else None
    if message is None or report is None or report.verdict is None or report.verdict.fits != "yes":
        return runs
    from weighbridge.files.oom.explain import OUTSIDE

    if message.judged.cause in (None, *OUTSIDE):
        return runs
    died = Condition("died", opens="yes")
    verdict = report.verdict.under(died, reason=sentence("text.died"))
    return (replace(runs[0], report=replace(report, verdict=verdict)),)


def _its_start(run: WeighedRun, started: Sequence[ServerStart]) -> ServerStart | None:
    """Return the logged start with the run's context; else the only start, None for several."""
    context = run.report.workload.get("context") if run.report is not None else None
    of_its_length = [start for start in started if start.counts.get("context") == context]
    return next(iter(of_its_length or (started if len(started) == 1 else ())), None)


def _beside(run: WeighedRun, start: ServerStart | None) -> WeighedRun:
    """Return an answer with its log's measurements, which replace an estimate that differs much."""
    from weighbridge.machines.accelerators.budget import budget

    if run.report is None or start is None:
        return run
    parts = beside(start, run.report)
    if run.report.workload.get("engine") not in DERIVED or not overruled(parts):
        return replace(run, measured=parts, report=with_room(run.report, parts))
    w = run.report.workload
    card = budget(w["gpu"], w["gpu_memory"], w["headroom"])
    counted = by_the_log(run.report, parts, card)
    return replace(run, measured=parts, by_the_log=True, report=counted)


def _known(file: RunFile) -> dict[str, Any]:
    """Return what all runs of a text have in common: machine, program, settings and model."""
    if not file.runs:
        return {}
    first, *others = map(_request, file.runs)
    common = {n: v for n, v in first.items() if all(n in o and o[n] == v for o in others)}
    cards = {str(u.value) for run in file.runs for u in run.understood if u.setting == "gpu"}
    return {**common, "gpu": cards.pop()} if len(cards) == 1 else common


def _request(run: PlannedRun) -> dict[str, Any]:
    """Return the settings of a run and its launch line, and whether it trains."""
    from weighbridge.engines.launch import parse

    try:
        launch = parse(run.command) if run.command else None
    except UsageError:
        launch = None
    served = {} if launch is None else {"engine": launch.engine, **launch.settings}
    settings = {name: run.settings[name] for name in SAID if name in run.settings}
    trains = {"task": "train"} if run.task == "train" and (not run.refused or run.open) else {}
    pictures = {"pictures": True} if run.task in ("image", "train_image") else {}
    return {"model": run.model, **served, **settings, **trains, **pictures}


def _compared(message: "Oom | None", runs: tuple[WeighedRun, ...], opened: Opened) -> "Oom | None":
    """Return the explained message, compared with the report of a text's only run if that trains,
    or if its weights exceed the card."""
    from weighbridge.files.oom.reconcile import overfull

    run = runs[0]
    if message is None or len(runs) > 1 or run.report is None:
        return message
    serves = run.run.task == "infer" and overfull(message.reading, run.report)
    if run.run.task != "train" and not serves:
        return message
    from weighbridge.files.oom.explain import compared

    model = opened(run.run).model()
    settings = {**run.run.settings, **_request(run.run), "task": run.run.task}
    return compared(message, run.report, model, settings)


def _explained(file: RunFile, known: Mapping[str, Any]) -> "Oom | None":
    """Return the explanation of a text's out-of-memory message; None without one."""
    from weighbridge.files.oom import explained

    try:
        return explained(file.text, None, known)
    except WeighbridgeError:
        return None


def _weighed(
    run: PlannedRun, open_: Open, typed_settings: Mapping[str, Any], model: str | None
) -> WeighedRun:
    named = model or run.model or run.config
    why = _unanswerable(run, named)
    if why:
        absent = any(u.missing for u in run.unread)
        return WeighedRun(run=run, why=why, code=CODES["unknown"] if absent or run.open else 2)
    typed = {name: value for name, value in typed_settings.items() if name in TABLES[run.task]}
    before = typed.get("gpu")
    typed |= counted_cards(run, typed)
    if typed.get("gpu") != before:
        said = sentence("text.cards", typed=before, cards=typed["gpu"])
        run = replace(run, notes=(*run.notes, said))
    typed |= _format_in_model_name(run, model, typed)
    run = _on_all(run, typed)
    try:
        report = answered(run, named, open_, typed)
        return WeighedRun(run=run, report=report)
    except WeighbridgeError as error:
        return WeighedRun(run=run, why=error.line, code=error.code)


def _unanswerable(run: PlannedRun, model: object) -> str:
    """Return why a run gets no estimate; "" if it gets one."""
    if run.refused or model:
        return run.refused
    absent = next((u.missing for u in run.unread if u.missing), "")
    return NOT_HERE.format(absent) if absent else "the file names no model: --model says it"


def _on_all(run: PlannedRun, typed: Mapping[str, Any]) -> PlannedRun:
    """Return a run whose command uses all cards of its machine, with their number filled in."""
    if CARDS not in run.command:
        return run
    from weighbridge.machines.accelerators.names import find

    gpu = typed.get("gpu") or run.settings.get("gpu")
    count = find(gpu).count if gpu else run.cards or 1
    return replace(run, command=run.command.replace(CARDS, str(count)))


def counted_cards(run: PlannedRun, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's card with the file's count; {} if the user gave a count, or no card."""
    kind = str(typed.get("gpu") or "")
    count = run.cards or ranks_of(run) or 1
    cards = {"gpu": times(kind, count)} if NAMED.fullmatch(kind) else {}
    named = kind or str(run.settings.get("gpu") or "")
    if named and run.engine_cards and "rollout_gpu" not in typed:
        cards["rollout_gpu"] = times(named.partition(":")[0], run.engine_cards)
    return cards


def _format_in_model_name(
    run: PlannedRun, model: str | None, typed: Mapping[str, Any]
) -> dict[str, str]:
    """Return the format in the command's model name, if the user's replacement model names none;
    else {}."""
    if not (model and run.command and run.model) or {"quantization", "dtype"} & typed.keys():
        return {}
    from weighbridge.engines.launch.paths import packed
    from weighbridge.files.runfiles.flags import settings_of

    form = packed(run.model)
    if not form or packed(model) or ":" in model or "quantization" in settings_of(run.command):
        return {}
    return {"quantization": form}


def answered(
    run: PlannedRun,
    model: str | Mapping[str, Value],
    open_: Open,
    typed: Mapping[str, Any],
    *,
    remedies: bool = True,
) -> Report:
    """Return the report of a run. Remedies may change the file's settings, not the user's."""
    settings = {**run.settings, **_shared_again(run.settings, typed), **typed}
    pinned = (*typed, *FIXED)
    if run.task in ("train", "image", "train_image"):
        asked_of = question(run.task, None, settings)
        return open_(model, None).answer(asked_of, remedies=remedies, pinned=pinned)
    asked = by_its_name(serving(None, run.command or None, settings), None, disk=False)
    revision = asked.launched.revision if asked.launched is not None else None
    beside = serving_beside(asked.workload, open_, revision)
    return open_(model, revision).answer(
        asked, beside, remedies=remedies, pinned=None if run.command else pinned
    )


def _shared_again(settings: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data-parallel ranks and micro-batches if the user changes the ranks per model
    replica: the file's number of devices and samples per step stay."""
    if not settings.get(SIZES["data"]) or SIZES["data"] in typed or typed.keys().isdisjoint(COPY):
        return {}
    read = {name: TABLES["train"][name].value(typed[name]) for name in COPY if name in typed}
    before = Ranks.of(settings)
    after = Ranks.of({**settings, **read}).over(before.cards)
    steps = settings.get("gradient_accumulation")
    again = (
        {}
        if steps is None
        else {"gradient_accumulation": max(1, steps * before.data // after.data)}
    )
    return {**after.settings("data"), **again}


def _of_a_key(one: Understood) -> dict[str, Any]:
    """Return an understood key in the JSON form."""
    known = {"key": one.key, "line": one.line, "value": _plain(one.value), "setting": one.setting}
    return {**known, **_file_if_other(one.file)}


def _file_if_other(file: str) -> dict[str, str]:
    """Return the file that a key is in, if it is not the run file; else {}."""
    return {"file": file} if file else {}


def _plain(value: Any) -> Any:
    """Return a value in the JSON form."""
    return list(value) if isinstance(value, tuple) else value

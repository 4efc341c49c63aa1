"""A new file for another program that asks for what was asked: `--emit axolotl`.

    question -> what every setting comes to -> the words of the program -> a file

The file is read again by the reader of its kind, and is only handed out where that asks for the
same and gets the same answer. What the program does in a way of its own, and what a run file says
besides that the new one does not keep, its first lines name. A setting that the program has no word
for is refused by its name.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os.path import basename
from typing import Any

from weighbridge.answers.remedies.case import DEVICE
from weighbridge.answers.verdict import on_host
from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple, field, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, human
from weighbridge.base.wording import printable, shown
from weighbridge.engines.launch import parse
from weighbridge.engines.launch.programs import launched
from weighbridge.files.runfiles.carrying import carried
from weighbridge.files.runfiles.dumping import dumped
from weighbridge.files.runfiles.flags import asking
from weighbridge.files.runfiles.kinds import named, of_task, read
from weighbridge.files.runfiles.record import PlannedRun, RunFile, Value
from weighbridge.files.runfiles.serving.containers import without_secrets
from weighbridge.files.runfiles.tables import EITHER
from weighbridge.files.runfiles.weighing import counted_cards
from weighbridge.machines.allocator.settings import GROWING, VARIABLES
from weighbridge.memory.report import Report
from weighbridge.models.catalogue import everyday
from weighbridge.models.checkpoint.model import Model
from weighbridge.settings.ranks import Ranks
from weighbridge.training.frameworks import FRAMEWORKS
from weighbridge.training.launching import start
from weighbridge.workload import TABLES
from weighbridge.workload.consistency import OWN_DTYPE
from weighbridge.workload.train import LEARNS

Settings = Mapping[str, Any]
Ask = Callable[[PlannedRun], Report]  # its model, its settings, its launch command
# Settings of the machine and of what is installed there, which no file has
MACHINE = (
    *DEVICE,
    *(
        "exact",
        "data_parallel_size",
        "ranks_per_machine",
        "engine_version",
        "framework_version",
        "torch_version",
    ),
    *("bitsandbytes_version", "accelerate_version", "deepspeed_version", "expandable_segments"),
)
# Settings with a program's own defaults, unless the user sets them
OWN_WAYS = (
    *("dtype", "kbit_upcast", "bnb_4bit_quant_storage", "use_reentrant", "loss"),
    "context_parallel_by",
    "framework_version",  # for files that only some releases read
)
MANIFEST = "kubernetes"  # the kind with a host memory limit
COPIES = (MANIFEST, "compose")  # kinds with a number of copies
SERVER_CONFIG = "server-config"  # a kind that has only flags: no image names the release
SHARES = ("shard", "offload", "tensor_parallel_size", "context_parallel_size")
# Settings of the usual LoRA recipe, whichever program the file is for
SCRIPT = "training-script"  # the kind of a script
RECIPE, CARRIED = "trl", ("checkpointing", "lora_r")
ALL = ["all-linear"]  # other programs name each layer: the peak tells if those are all
DOES = {"train": "training", "infer": "serving"}
PROGRAM = {"train": "framework", "infer": "engine"}  # the setting that names a program


class EmitTarget(NamedTuple):
    """A line of emits.jsonl: a program that a file can be written for. `word`: its name for
    `--emit`; `kind`: the reader of its files; `uses`: its frameworks or engines, the usual
    first."""

    word: str
    kind: str
    task: str
    syntax: str
    uses: Sequence[str]
    starts: str = ""  # the command that starts the file; "": the kind has one per run
    several: str = ""  # the command for {machines, processes, processes per machine}
    part: bool = False  # the file has only a run's sharding
    release: str = ""  # the release it is for, if others do not read it


_LINES = (EmitTarget(**json.loads(line)) for line in lines_beside(__file__, "emits.jsonl"))
TARGETS: Mapping[str, EmitTarget] = {line.word: line for line in _LINES}


@frozen_record
class Emitted:
    """A new file: its text, the command that starts it, and the report about it."""

    kind: str
    text: str = field(repr=False)
    starts: str
    report: Report
    # the report on the source, if it differs
    before: Report | None = None
    weighs: str = ""  # a weighbridge command that adds to a partial file what it lacks

    def __str__(self) -> str:
        return self.text


def target(kind: str) -> EmitTarget:
    """Return the target of `--emit kind`. Raises UsageError if there is none."""
    known = TARGETS.get(kind.lower().replace("_", "-"))
    if known is None:
        raise UsageError(sentence("emit.no_kind", kind=shown(kind), known=", ".join(TARGETS)))
    return known


def not_of(kind: str, name: str) -> str:
    """Return an error that `kind` is for the other task, with the kinds for this one."""
    task = target(kind).task
    others = ", ".join(word for word, to in TARGETS.items() if to.task != task)
    does, other = DOES[task], DOES["train" if task == "infer" else "infer"]
    return f"--emit {kind} is for {does}, and {name} is about {other}; for that are {others}"


class EmitSource(NamedTuple):
    """The file to rewrite for another program, and its run with all settings."""

    file: RunFile
    run: PlannedRun


def _only_run(file: RunFile, task: str) -> PlannedRun:
    """Return the file's only run of `task`. Raises UsageError if there are several, or if it has no
    estimate."""
    runs = of_task(file, task).runs
    if len(runs) > 1:
        names = ", ".join(filter(None, (run.name for run in runs)))
        those = f" ({names:.80})" if names else ""
        raise UsageError(sentence("emit.many_runs", name=file.name, count=len(runs), names=those))
    if runs[0].refused:
        raise UsageError(f"{file.name}: {runs[0].refused}")
    return runs[0]


def of_file(
    file: RunFile, kind: str, typed: Settings, model: str | None
) -> tuple[PlannedRun, EmitSource]:
    """Return (run to write, source): the run for another program, without defaults of the file's
    own program unless that stays, and the run as in its file. The user's settings take precedence.
    Raises UsageError."""
    to = target(kind)
    if all(run.task != to.task for run in file.runs):
        raise UsageError(not_of(kind, file.name))
    run = _only_run(file, to.task)
    typed = {**typed, **counted_cards(run, typed)}
    programs = PROGRAM[to.task]
    settings_read = {one.setting for one in run.understood}
    stays = to.part or run.settings.get(programs) in to.uses  # a part is added to the same program
    settings = {
        name: value
        for name, value in run.settings.items()
        if stays or name in settings_read or name not in (programs, *OWN_WAYS)
    }
    asked = PlannedRun(
        task=to.task,
        model=model or run.model,
        settings={**settings, **typed},
        command=_line_with_user_settings(run, typed),
        replicas=run.replicas,
        nodes={} if {"gpu", "gpu_memory"} & typed.keys() else run.nodes,
    )
    return asked, EmitSource(file, replace(asked, settings={**run.settings, **typed}))


def _line_with_user_settings(run: PlannedRun, typed: Settings) -> str:
    """Return a file's launch line with flags for the user's settings, if its engine has them."""
    if not run.command:
        return ""
    flagged = {name: value for name, value in typed.items() if name not in MACHINE}
    return asking(run.command, run.model, flagged, parse(run.command).engine)


def _written(
    to: EmitTarget,
    model: Model,
    question: PlannedRun,
    report: Report,
    source: EmitSource | None,
    ask: Ask,
) -> str:
    """Return the text of a new file, with a note on what it drops from its source."""
    if to.syntax != "python":
        return _text(to, model, question, report, source)
    text = _script(to.kind, question, ask)
    return _commented(_dropped_values(source.file, "", {}), text) if source else text


def emitted(
    kind: str,
    asked: PlannedRun,
    opens: Callable[[str], Model],
    ask: Ask,
    source: EmitSource | None = None,
) -> Emitted:
    """Return a new file for a run, checked by reading it again: settings and report must agree.
    `opens` returns a model by its name. Raises UsageError for what the file cannot express."""
    to = _of_learners(target(kind), kind, asked)
    opened = _loadable_model(to, kind, asked.model, opens(asked.model))
    question = _of_program(to, kind, asked, ask)
    report = ask(question)
    if report.model.rough:
        raise UsageError(sentence("emit.sized", size=shown(asked.model)), where=f"--emit {kind}")
    text = _written(to, opened, question, report, source, ask)
    back = read(text, f"the {kind} file", to.kind).runs[0]
    if back.refused:
        raise UsageError(f"--emit {kind}: {back.refused}")
    retold = _question_told(to, back, question, report, opened.loads_as)
    again = ask(retold)
    typed = {name: value for name, value in asked.settings.items() if value != OWN_DTYPE}
    ways = _own_values_of_program(report, again, typed) if to.task == "train" else {}
    meant = ask(_with(question, {**question.settings, **ways})) if ways else report
    _same(kind, meant, again, typed)
    before, weighs = None, ""
    if to.part:
        weighs = _command_for_partial_file(to, back, retold)
        text = text if to.syntax == "json" else _commented([f"Weigh it with: {weighs}"], text)
    elif to.task == "train":
        before = _report_if_different(asked if source is None else source.run, again, ask)
    if before is not None and source is not None:
        text = _commented(_difference_lines(before, again, source.file.name), text)
    return Emitted(
        kind=kind,
        text=text,
        starts=_starts(to, again.workload),
        report=again,
        before=before,
        weighs=weighs,
    )


def _of_learners(to: EmitTarget, kind: str, asked: PlannedRun) -> EmitTarget:
    """Return the target for a method that learns from rewards or preferences: a Python script for
    TRL. Raises UsageError for others."""
    method = asked.settings.get("method")
    if method not in LEARNS or to.part:
        return to
    if to.word != RECIPE:
        raise UsageError(sentence("emit.trl_alone", method=method), where=f"--emit {kind}")
    return to._replace(kind=SCRIPT, syntax="python", starts="", several="")


def _loadable_model(to: EmitTarget, kind: str, named: str, opened: Model) -> Model:
    """Return a model that the file can load by name. Raises UsageError if it cannot."""
    model = opened.loads_as
    if not model:
        raise UsageError(sentence("no_weights"))
    if to.task == "train" and opened.repo_id and everyday.other_tune(named, model):
        raise UsageError(
            sentence("emit.other_tune", name=shown(named), model=model), where=f"--emit {kind}"
        )
    return opened


def _report_if_different(run: PlannedRun, again: Report, ask: Ask) -> Report | None:
    """Return the report on the run as asked, if it differs from `again`, the new file's; else
    None."""
    try:
        before = ask(run)
    except UsageError:  # only the file's own program has its settings
        return None
    fits = [None if each.verdict is None else each.verdict.fits for each in (before, again)]
    same = before.peak.expected == again.peak.expected and fits[0] == fits[1]
    return None if same else before


def _command_for_partial_file(to: EmitTarget, back: PlannedRun, asked: PlannedRun) -> str:
    """Return a weighbridge command with a partial file, and the model and settings that it
    lacks."""
    meant_by_it = {"model": asked.model} | {
        name: value
        for name, value in asked.settings.items()
        if value is not None and value != back.settings.get(name)
    }
    name = next(word for word in to.starts.split() if word.endswith((".json", ".yaml")))
    flags = (_flag(setting, value).partition(" ") for setting, value in meant_by_it.items())
    return " ".join(
        ("weighbridge", name, *(shlex.join(filter(None, (f, value))) for f, _, value in flags))
    )


def _difference_lines(before: Report, again: Report, name: str) -> Iterator[str]:
    """Yield the first lines of a new file that needs other memory than its source: the settings
    that its program chooses, and both sizes."""
    ways = [
        f"{way.replace('_', ' ')} {_written_value(again.workload.get(way))}, not "
        f"{_written_value(before.workload.get(way))}"
        for way in ("framework", *OWN_WAYS, "checkpointing")
        if again.workload.get(way) is not None
        and _plain(before.workload.get(way)) != _plain(again.workload.get(way))
    ]
    yield sentence("emit.own_ways", ways="; ".join(ways) or "other defaults")
    yield sentence("emit.takes", size=_about(again), name=basename(name), before=_about(before))


def _about(report: Report) -> str:
    peak = report.peak
    return f"about {human(peak.expected)} ({human(peak.low)} to {human(peak.high)})"


def _commented(lines: Iterable[str], text: str) -> str:
    """Return a text with `lines` before it as comments."""
    return "".join(f"# {printable(line)}\n" for line in lines) + text


def _dropped_values(file: RunFile, kind: str, new: Mapping[str, Value]) -> Iterator[str]:
    """Yield a note on values of the source that the new file drops."""
    left = carried(file, kind, new).left
    if left:
        yield sentence("emit.left_out", name=basename(file.name), names=", ".join(left))


def _dropped_machines(to: EmitTarget, source: EmitSource) -> Iterator[str]:
    """Yield a note on a run's machines and copies that the new file drops."""
    run = source.run
    left = [f"replicas {run.replicas}"] if run.replicas > 1 and to.kind not in COPIES else []
    left += [f"nodeSelector {name}" for name in run.nodes] if to.kind != MANIFEST else []
    if left:
        yield sentence("emit.left_out", name=basename(source.file.name), names=", ".join(left))


def _with(run: PlannedRun, settings: Settings) -> PlannedRun:
    known = {name: value for name, value in settings.items() if name in TABLES[run.task]}
    return PlannedRun(task=run.task, model=run.model, settings=known, command=run.command)


def _of_program(to: EmitTarget, kind: str, asked: PlannedRun, ask: Ask) -> PlannedRun:
    """Return the run with the new file's program. Raises UsageError if the user names another."""
    settings = {name: value for name, value in asked.settings.items() if value is not None}
    program, usual = PROGRAM[to.task], to.uses[:1]
    called = settings.get(program)
    if asked.command:
        launch = parse(asked.command)
        called, version = launch.engine, launch.settings.get("engine_version")
        settings = {**({"engine_version": version} if version else {}), **settings}
    elif called is None and usual and to.task == "train":  # the recipe of adapters is TRL's
        recipe = _recipe(asked, settings, ask)
        called = recipe.get(program) if recipe.get(program) in to.uses else None
        if called is None and recipe.get(program) == RECIPE:
            settings |= {name: recipe[name] for name in CARRIED if settings.get(name) is None}
    if to.task == "train" and usual and FRAMEWORKS[usual[0]].dated:  # its defaults go by release
        settings = dict(_of_release(to, asked, settings, ask))
    if not usual:
        return _with(asked, settings)
    if called is None:
        return _with(asked, {**settings, program: usual[0]})
    if called in to.uses:
        return _with(asked, settings)
    theirs = " and ".join(to.uses)
    raise UsageError(
        sentence("emit.not_for", kind=kind, setting=program, value=called, known=theirs)
    )


def _of_release(to: EmitTarget, asked: PlannedRun, settings: Settings, ask: Ask) -> Settings:
    """Return the settings with the release that reads the file, and defaults of the newest release
    where those differ."""
    if "framework_version" in settings:
        return settings
    newest = {PROGRAM[to.task]: to.uses[0], **settings}
    older = {**newest, "framework_version": to.release.rpartition(" ")[2]}
    assumed, other = (_recipe(asked, each, ask) for each in (newest, older))
    by_release = {name for _, changed in FRAMEWORKS[to.uses[0]].older for name in changed}
    meant = {name: assumed[name] for name in by_release & assumed.keys() & other.keys()}
    return {**meant, **older}


def _recipe(asked: PlannedRun, settings: Settings, ask: Ask) -> Settings:
    """Return the settings of a run that names no framework; {} if only the file's program has
    them."""
    try:
        return dict(ask(_with(asked, settings)).workload)
    except UsageError:
        return {}


def _text(
    to: EmitTarget, model: Model, question: PlannedRun, report: Report, source: EmitSource | None
) -> str:
    """Return a file's text for the settings of a report, with further keys of its source. Raises
    UsageError."""
    fresh = named(to.kind).fresh
    assert fresh is not None
    line, settings = question.command, dict(report.workload)
    if to.task == "infer":
        line, served = _serving(to, question, report, source)
        settings |= served
    settings |= {name: False for name in EITHER if question.settings.get(name) is False}
    if _plain(settings.get("lora_targets")) == ALL:
        settings["lora_targets"] = "all-linear"
    config = model.parts[0].config
    run = PlannedRun(
        task=to.task, model=model.loads_as, config=config, settings=settings, command=line
    )
    if source is not None:
        run = replace(run, replicas=source.run.replicas, nodes=source.run.nodes)
    words, head = dict(fresh(run)), list(_head(to, model, report, question))
    if source is not None and to.task == "infer":
        head += _dropped_machines(to, source)
    if source is not None and to.task == "train" and not to.part:
        carried_words = carried(source.file, to.kind, words).words
        head += _dropped_values(source.file, to.kind, words)
        words |= carried_words
    return dumped(words, to.syntax, "\n".join(map(printable, head)))


def _serving(
    to: EmitTarget, question: PlannedRun, report: Report, source: EmitSource | None
) -> tuple[str, dict[str, Value]]:
    """Return (launch line, keys) of a new file: its release and its host memory limit. Raises
    UsageError if there is no line."""
    line = question.command or str(report.derived.get("launch") or "")
    if not line:
        raise UsageError(str(report.derived.get("launch_note") or "there is no line to paste"))
    line = _line_with_repository(line, str(report.derived.get("launch") or ""), question)
    ram = report.workload.get("ram")
    if to.kind == MANIFEST:
        ram = ram or _host_need(report)
    elif source is None or not any("ram" in run.settings for run in source.file.runs):
        ram = None  # of the machine, which no container is held to
    return line, {"engine_version": question.settings.get("engine_version"), "ram": ram}


def _line_with_repository(line: str, judged: str, question: PlannedRun) -> str:
    """Return the launch line with the repository that `judged` names, if the engine cannot make the
    user's format itself."""
    if not question.command or not judged or "quantization" not in question.settings:
        return line
    named, other = parse(line).model, parse(judged).model
    return line.replace(named, other)


def _release(question: PlannedRun) -> str:
    """Return a run's engine and release; "" if it names none."""
    version = question.settings.get("engine_version")
    return f"{parse(question.command).engine} {version}" if version and question.command else ""


def _host_need(report: Report) -> str | None:
    """Return the host memory for a container, None if it is not estimated."""
    host = next((device for device in report.devices if device.kind == "host"), None)
    return None if host is None else f"{on_host.container(host) // GIB}GiB"


def _head(to: EmitTarget, model: Model, report: Report, question: PlannedRun) -> Iterator[str]:
    """Yield the first lines of a file: its release, and what to do before the start."""
    if to.task == "infer" and question.command:
        for flag in without_secrets(launched(question.command).words)[1]:
            yield sentence("emit.secret", flag=flag)
    fetches = named(to.kind).fetches
    release = to.release or (_release(question) if to.kind == SERVER_CONFIG else "")
    if release:
        yield f"For {release}"
    if fetches is not None and model.repo_id:
        yield sentence("emit.fetches", command=fetches(model.repo_id))
    yield sentence("emit.starts", command=_starts(to, report.workload))


def _starts(to: EmitTarget, settings: Settings) -> str:
    """Return the command that starts a file, with its ranks and the allocator's variable, which a
    script sets itself."""
    if to.syntax == "python":
        inside = settings.get("ranks_per_machine")
        return start(int(settings.get("data_parallel_size") or 1), inside=inside)
    command = _command(to, settings)
    return f"{VARIABLES[0]}={GROWING} {command}" if settings.get("expandable_segments") else command


def _command(to: EmitTarget, settings: Settings) -> str:
    starts = named(to.kind).starts
    if starts is not None:
        return starts(settings)
    if not to.several:
        return to.starts
    ranks, several = Ranks.of(settings).cards, Ranks.of(settings).machines
    alone = to.starts if ranks == 1 or to.kind != "trl" else f"{to.starts} --num_processes {ranks}"
    return to.several.format(several, ranks, ranks // several) if several > 1 else alone


def _script(kind: str, question: PlannedRun, ask: Ask) -> str:
    """Return a run's script with its number of ranks, whether or not it fits. Raises UsageError."""
    ranks = ask(question).workload["data_parallel_size"]
    anywhere = {name: value for name, value in question.settings.items() if name not in DEVICE}
    facts = ask(_with(question, {**anywhere, "data_parallel_size": ranks})).derived
    if not facts.get("launch"):
        raise UsageError(f"--emit {kind}: {facts.get('launch_note') or 'there is no script of it'}")
    return str(facts["launch"])


def _settings_of_other_files(
    back: PlannedRun, settings: Settings, report: Report
) -> dict[str, Value]:
    """Return the settings that a partial file leaves to its other files."""
    named = settings.get("framework") or settings.get("method", "full") == "full"
    by_recipe = ("framework",) if named else ("framework", "dtype")  # a recipe says both
    others = {
        name: value
        for name, value in settings.items()
        if name not in SHARES and not name.startswith("zero_") and name not in back.settings
    }
    return {name: report.workload[name] for name in by_recipe} | others


def _question_told(
    to: EmitTarget, back: PlannedRun, question: PlannedRun, report: Report, model: str
) -> PlannedRun:
    """Return the run that was read back, with the settings that such a file cannot have. `model`:
    the name written in the file; another name is a copy in some format."""
    typed = {name: value for name, value in question.settings.items() if name in MACHINE}
    if "prompt_len" in question.settings and "max_new_tokens" in back.settings:  # the data says it
        typed["prompt_len"] = question.settings["prompt_len"]
    if to.part:
        typed = _settings_of_other_files(back, question.settings, report)
    elif "data_parallel_size" in back.settings:
        typed.pop("data_parallel_size", None)
    other = to.task == "infer" and back.model != model
    meant = back.model if other else question.model
    settings = {**back.settings, **typed}
    return _with(PlannedRun(task=to.task, model=meant, command=back.command), settings)


def _own_values_of_program(report: Report, again: Report, typed: Settings) -> dict[str, Value]:
    """Return the program's own values that differ from those assumed, without the user's."""
    return {
        name: again.workload[name]
        for name in OWN_WAYS
        if typed.get(name) is None
        and again.workload.get(name) is not None
        and report.workload.get(name) != again.workload[name]
    }


def _same(kind: str, meant: Report, again: Report, typed: Settings) -> None:
    """Raise UsageError for the first setting that differs when the new file is read again."""
    other = [
        name
        for name, value in meant.workload.items()
        if _plain(value) != _plain(again.workload.get(name))
        and _plain(value) != ALL
        and name != "unsaid"  # a file states what the user left open
        and not (name == "ram" and value is None)  # a new manifest gets a limit
    ]
    other += [name for name in EITHER if typed.get(name) is False and again.workload.get(name)]
    other.sort(key=lambda name: typed.get(name) is None)
    if other:
        value = typed.get(other[0])  # a report may name it otherwise
        value = meant.workload[other[0]] if value is None else value
        flag = _flag(other[0], value)
        raise UsageError(sentence("emit.no_word", flag=flag), where=f"--emit {kind}")
    if meant.peak != again.peak:
        raise UsageError(sentence("emit.otherwise"), where=f"--emit {kind}")


def _flag(name: str, value: Value) -> str:
    """Return a setting as a flag of weighbridge."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {_written_value(value)}"


def _written_value(value: Value) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: Value) -> Value:
    return list(value) if isinstance(value, tuple) else value

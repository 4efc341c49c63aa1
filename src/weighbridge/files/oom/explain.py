"""From a pasted message to its cause and what to change, beside the estimate of a model."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.files.oom.causes import judge, without_cache
from weighbridge.files.oom.changes import TRAINERS, changes, trains
from weighbridge.files.oom.figures import contradictions
from weighbridge.files.oom.reading import read
from weighbridge.files.oom.record import Change, Judged, Match, Oom, OomReading
from weighbridge.files.oom.text import MOST, decoded
from weighbridge.files.programs import rules_of
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Remedy
from weighbridge.models.catalogue import everyday
from weighbridge.workload import INFER, PICTURE, PICTURE_TRAINING, TRAIN

if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared
    from weighbridge.models.checkpoint.model import Model

SEARCHED = 3  # computed remedies shown before rows of the table
TOLD = 5
WIDE = "x 4 B"
OUTSIDE = (  # causes that no setting of the model changes: its own changes come first
    "other_process",
    "fragmentation",
    "memory_fraction_cap",
    "device_limit",
    "host_memory",
    "shared_memory",
    "request_slots",
    "kernel_workspace",
)


Text = str | bytes | os.PathLike[str]
OF_A_STEP = ("optimizer", "backward", "saving")
TRAINING = TRAIN.keys() - INFER.keys()
DEVICE = ("gpu", "gpu_memory")
TASKS = ("load", "infer", "train")


def explained(
    text: Text, model: "Callable[[], Prepared] | None", settings: Mapping[str, Any]
) -> Oom:
    """Return why memory ran out, from a log as text. `model` opens the model that ran, after the
    log is read; None if the user names none."""
    reading = read(_text(text), _name(text))
    judged = judge(reading, settings)
    if trains(reading, settings):
        judged = without_cache(judged)
    if model is None:
        rows = changes(reading, judged, settings)
        return Oom(reading=reading, judged=judged, remedies=rows, warnings=contradictions(reading))
    return _with_estimate(model(), reading, judged, settings)


def _with_estimate(
    model: "Prepared", reading: OomReading, judged: Judged, settings: Mapping[str, Any]
) -> Oom:
    """Return the explanation, compared with the estimate of the model."""
    from weighbridge.files.oom.reconcile import matches, mismatch, rejudged

    asked = question(
        reading,
        settings,
        pictures=(any(part.library == "diffusers" for part in model.model().parts)),
    )
    report, warnings = answered(model, asked)
    compared: tuple[Match, ...] = matches(reading, report, model.model())
    if report.pictures and _is_wide(compared) and "dtype" not in asked.settings:
        asked = asked._replace(settings={**asked.settings, "dtype": "float32"})
        report, warnings = answered(model, asked)
        compared = matches(reading, report, model.model())
    final = rejudged(reading, judged, report, compared)
    return Oom(
        reading=reading,
        judged=final,
        remedies=(
            _pipeline_remedies(report.remedies, changes(reading, final, settings), final)
            if report.pictures
            else _remedies_and_rows(report.remedies, changes(reading, final, settings), final)
        ),
        estimate=report,
        explained=compared,
        warnings=(
            *contradictions(reading),
            *other_model(reading.model, model),
            *asked.warnings,
            *warnings,
            *mismatch(reading, report),
        ),
    )


def compared(oom: Oom, report: Report, model: "Model", settings: Mapping[str, Any]) -> Oom:
    """Return `oom` compared with `report`, the estimate of the run that printed the message, which
    has the computed remedies."""
    from weighbridge.files.oom.reconcile import matches, rejudged

    if oom.judged.cause in OUTSIDE:
        return oom
    explained = matches(oom.reading, report, model)
    final = rejudged(oom.reading, oom.judged, report, explained)
    # The table's rows are for language models; a pipeline's remedies are in its report
    rows = () if report.pictures else changes(oom.reading, final, settings)
    return replace(oom, judged=final, remedies=rows, estimate=report, explained=explained)


def _remedies_and_rows(
    searched: tuple[Remedy, ...], rows: tuple[Change, ...], judged: Judged
) -> tuple[Change, ...]:
    """Return at most TOLD changes: the remedies computed for this model, and rows of the table for
    other settings."""
    computed = tuple(_computed(r, rows) for r in searched[:SEARCHED])
    if judged.cause in OUTSIDE:
        return (*rows, *computed)[:TOLD]
    first, others = (rows[:1], rows[1:]) if judged.sure == "said" else ((), rows)
    named = {name for change in computed for name in change.change}
    return (*first, *computed, *(row for row in others if not named & row.change.keys()))[:TOLD]


def _pipeline_remedies(
    searched: tuple[Remedy, ...], rows: tuple[Change, ...], judged: Judged
) -> tuple[Change, ...]:
    """Return at most TOLD remedies of a pipeline, those that fit first. Rows of the table are for
    language models, and only added for causes that no setting changes."""
    computed = [_computed(r, ()) for r in sorted(searched, key=lambda r: r.fits != "yes")]
    outside = rows if judged.cause in OUTSIDE else ()
    return (*outside, *computed)[:TOLD]


def _is_wide(compared: tuple[Match, ...]) -> bool:
    """Return whether the failed request is a weight with 4 bytes per element."""
    return any(m.component == "weights" and m.formula.endswith(WIDE) for m in compared)


def _computed(remedy: Remedy, rows: tuple[Change, ...]) -> Change:
    """Return a remedy as a change, with its line to paste, else that of a row on the same
    settings."""
    alike = (row.paste for row in rows if row.change.keys() == remedy.change.keys())
    return Change(
        remedy.change, remedy.cost, remedy.paste or next(alike, ""), remedy.peak_bytes, remedy.fits
    )


def _text(text: Text) -> str:
    if isinstance(text, bytes):
        return decoded(text)
    if isinstance(text, str):
        return decoded(text.encode(errors="surrogatepass"))
    return decoded(from_file(text), _name(text))


def _name(text: Text) -> str:
    return "the text" if isinstance(text, str | bytes) else os.fspath(text)


def from_file(path: str | os.PathLike[str]) -> bytes:
    """Return a file's bytes; of one longer than MOST only the end, where the message is."""
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST:  # 0 for a pipe
                file.seek(size - MOST)
                end = file.read(MOST)
                return end.partition(b"\n")[2] or end
            return file.read(MOST + 1)
    except OSError as error:
        raise NotFoundError(
            sentence("oom.not_opened", why=error.strerror), where=os.fspath(path)
        ) from None


# The question that a log answers. The user's settings come first; the log's are added if the task
# and the engine have them. Settings of the user that the task lacks are left out with a warning


class OomQuestion(NamedTuple):
    """A question about a log. `pinned`: settings that the user gave, which no remedy changes."""

    task: str
    settings: Mapping[str, Any]
    pinned: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def question(
    reading: OomReading, typed: Mapping[str, Any], *, pictures: bool = False
) -> OomQuestion:
    """Return the question about the model in the log, or about a diffusion pipeline. Raises
    UsageError for a setting that no task has."""
    named = {name: value for name, value in typed.items() if value is not None}
    task = named.pop("task", None) or _task(reading, named)
    if task not in TASKS:
        raise UsageError(sentence("task.not_known", task=task, known=", ".join(TASKS)))
    unknown = sorted(named.keys() - INFER.keys() - TRAIN.keys())
    if unknown:
        raise UsageError(sentence("oom.no_setting", name=unknown[0]))
    if pictures and task != "load":
        return _of_pictures(reading, named, task)
    known = TRAIN if task == "train" else INFER
    engine = str(named.get("engine") or rules_of(reading.engine) or "transformers")
    settings = {
        **_settings_in_log(reading, task, engine),
        **{k: v for k, v in named.items() if k in known},
    }
    if "gpu_memory" not in named and ("gpu" in named or _ranks(settings) > 1):
        settings.pop("gpu_memory", None)  # --gpu-memory alone means one device
    if task == "infer":
        settings["engine"] = engine
    pinned = (*named, "engine", *DEVICE)
    return OomQuestion(task, settings, pinned, tuple(_unused(named, known, task)))


def _of_pictures(reading: OomReading, named: Mapping[str, Any], task: str) -> OomQuestion:
    """Return the question about a pipeline; the log states the card's size if the user does not."""
    known = PICTURE_TRAINING if task == "train" else PICTURE
    settings = {name: value for name, value in named.items() if name in known}
    capacity = reading.size("capacity")
    if capacity and not settings.keys() & {*DEVICE}:
        settings["gpu_memory"] = capacity
    kind = "train_image" if task == "train" else "image"
    pinned = (*named, "engine", *DEVICE)
    return OomQuestion(kind, settings, pinned, tuple(_unused(named, known, task)))


def _ranks(settings: Mapping[str, Any]) -> int:
    """Return the number of devices that the settings ask for."""
    ranks = 1
    for name in ("tensor", "pipeline", "data"):
        size = str(settings.get(f"{name}_parallel_size", ""))
        ranks *= int(size) if size.isdecimal() else 1
    return ranks


def _task(reading: OomReading, named: Mapping[str, Any]) -> str:
    trains = reading.place in OF_A_STEP or reading.engine in TRAINERS
    return "train" if TRAINING & named.keys() or (trains and "engine" not in named) else "infer"


def _unused(named: Mapping[str, Any], known: Mapping[str, Any], task: str) -> list[str]:
    left = sorted(named.keys() - known.keys())
    return [f"{', '.join(left)}: not a setting of {task}, and not used"] if left else []


def _has_setting(setting: object, engine: str) -> bool:
    """Return whether the task has `setting` (not None) and `engine` supports it."""
    engines = getattr(setting, "engines", ())
    return setting is not None and (not engines or engine in engines)


def _settings_in_log(reading: OomReading, task: str, engine: str) -> dict[str, Any]:
    """Return the settings stated in the log that this task and engine have, by our names."""
    share = "mem_fraction_static" if engine == "sglang" else "gpu_memory_utilization"
    figures = {"max_model_len": "context", "n_ctx": "context", "utilization": share}
    printed = {name: value for name in figures if (value := reading.parsed.get(name)) is not None}
    stated = {**reading.stated, **{figures[name]: value for name, value in printed.items()}}
    capacity = reading.size("allowed" if reading.wording == "torch-mps" else "capacity")
    if capacity and reading.wording != "ggml-metal":
        stated["gpu_memory"] = capacity
    table = TRAIN if task == "train" else INFER
    return {name: stated[name] for name in stated if _has_setting(table.get(name), engine)}


def other_model(named: str, model: "Prepared") -> tuple[str, ...]:
    """Return a warning if the log names another model than the user: another catalogue entry, or
    another last part of the name."""
    about = model.source.repo_id or model.reference
    if not named or not about or _model(named) == _model(about):
        return ()
    return (sentence("oom.other_model", named=named, about=about),)


def _model(name: str) -> str:
    """Return the catalogue entry of a model name, else the last part of its path in lower case."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    known = everyday.meaning(last)
    return known.entry.name if known is not None else last


def answered(model: "Prepared", question: OomQuestion) -> tuple[Report, tuple[str, ...]]:
    """Return the estimate and its warnings; without the log's settings if they contradict each
    other."""
    settings = dict(question.settings)
    ask = getattr(model, question.task)
    try:
        return ask(pinned=question.pinned, **settings), ()
    except UsageError as error:
        named = {k: v for k, v in settings.items() if k in question.pinned}
        if named == settings:
            raise
        return ask(pinned=question.pinned, **named), (
            f"settings of the log were not used: {error}",
        )

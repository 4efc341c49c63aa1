"""A question about a model, checked before anything is fetched: its task and settings, and for
serving the launch command that the settings come from."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.engines.table import engine
from weighbridge.workload import checked, read

if TYPE_CHECKING:
    from weighbridge.engines.launch import Launch
    from weighbridge.workload import Infer, Load, Train

Asked = TypeVar("Asked", "Load", "Infer", "Train")


class ModelQuestion(NamedTuple, Generic[Asked]):
    """A question about one model: `task` is load, infer or train, `workload` its settings."""

    task: str
    workload: Asked
    launched: "Launch | None" = None  # the engine's launch command, source of the settings


def question(task: str, workload: Any, settings: Mapping[str, Any]) -> ModelQuestion[Any]:
    """Return the checked question, from a workload or from named settings. Raises UsageError."""
    if workload is not None and settings:
        raise UsageError(sentence("settings.twice"))
    meant = read(task, settings) if workload is None else checked(task, workload)
    if task == "train":
        from weighbridge.workload.consistency import consistent

        consistent(meant)
    meant.check()
    return ModelQuestion(task, meant)


def serving(
    workload: "Infer | None", command: str | None, settings: Mapping[str, Any]
) -> "ModelQuestion[Infer]":
    """Return a question of `infer` from settings, or from an engine's launch command; settings next
    to the command win. Raises UsageError."""
    if command is None:
        return question("infer", workload, settings)
    launched = _parsed(command)
    if workload is not None:
        raise UsageError(sentence("settings.command"))
    _one_engine(launched, settings.get("engine"))
    typed = {"engine": launched.engine, **launched.settings, **settings}
    meant: Infer = read("infer", typed).but(engine_defaults=True, unmodelled=launched.unmodelled)
    meant.check()
    return ModelQuestion("infer", meant, launched)


def by_its_name(
    question: ModelQuestion[Any], model: Any, *, disk: bool = True
) -> ModelQuestion[Any]:
    """Return the question with a model that can be found, if its command serves a path missing
    here: the model typed with the command, else the one that the path names. `disk`: whether to
    look for files on this machine. Raises UsageError if neither names one."""
    launched = question.launched
    if launched is None:
        return question
    from weighbridge.engines.launch.paths import is_path, model_of

    path = launched.model
    away = is_path(path) and not (disk and os.path.lexists(os.path.expanduser(path)))
    if not away:
        return question if "/" in path else _stored_so(question, launched, path)
    name = model or model_of(path, launched.mounts)
    if not name:
        raise UsageError(sentence("path_unnamed", path=shown(path)))
    note = sentence("path_taken", path=shown(path), name=shown(name))
    warnings = launched.warnings if model else (*launched.warnings, note)
    return _stored_so(question, replace(launched, model=name, warnings=warnings), path)


def _stored_so(question: ModelQuestion[Any], launched: "Launch", path: str) -> ModelQuestion[Any]:
    """Return the question with the format of files that are not here, from their name or from the
    command's quantization flag."""
    from weighbridge.engines.format_names import meant, unpacked
    from weighbridge.engines.launch.paths import packed

    asked, method = question.workload, launched.stored_as.rpartition(" ")[2]
    form = packed(path) or (method if path != launched.model else "")
    read = not method and path == launched.model  # `_launched` of a prepared model reads it
    plain = not form or unpacked(form, launched.engine)
    if plain or read or asked.quantization not in (None, method):
        return question._replace(launched=launched)
    return question._replace(
        workload=asked.but(quantization=meant(form, launched.engine)),
        launched=replace(launched, stored_as=""),
    )


def one_model(model: Any, launched: "Launch") -> None:
    """Raise UsageError if a command serves another model than `model`."""
    if model != launched.model:
        raise UsageError(sentence("command.other_model", model=launched.model, other=model))


def served_model(
    question: ModelQuestion[Any], model: Any, revision: str | None
) -> tuple[Any, str | None]:
    """Return (model, revision) of the question; those of a command come first."""
    if question.launched is None:
        return model, revision
    if model is not None:
        one_model(model, question.launched)
    return question.launched.model, revision or question.launched.revision


def _parsed(command: str) -> "Launch":
    from weighbridge.engines.launch import parse  # tables of flags, rarely needed

    if not isinstance(command, str):
        raise UsageError(sentence("command.text", kind=type(command).__name__))
    return parse(command)


def _one_engine(launched: "Launch", named: Any) -> None:
    """Raise UsageError if a command launches another engine than `named`; a fork also has its
    parent's programs."""
    if not isinstance(named, str):
        return
    kind = engine(named)
    program = launched.program.partition(" ")[0]
    if kind.name != launched.engine and program not in kind.programs:
        raise UsageError(sentence("command.other_engine", engine=launched.engine, other=kind.name))

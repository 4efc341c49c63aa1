"""Runs of a command's question: `measure infer MODEL ...`, also train, image, video, train-image.

    words      what the command of that name takes, read by its own options
    predicted  what it answers, phase by phase, for the card that is here
    run        the same on that card, with random parameters: no weights are read

`infer` builds the class and generates, as `--exact` does on a fake GPU. `train` runs two steps of
the script that `--save` writes, over a folder of zeros; pipelines are in pictures.py. No torch
before something is run.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import wraps
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.memory import LEVELS
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.workload import TABLES, named_task
from weighbridge_lab.golden import phase
from weighbridge_lab.measure.record import DONE, OOM, Levels, MeasuredPhase, MeasuredRun

if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared
    from weighbridge.memory.report import Report

PICTURES = ("image", "video", "train-image")
TASKS = ("infer", "train", *PICTURES)
STEPS = 2  # the first has no optimizer state
SCRIPT = "train.py"
ZEROS, SAVE = "--zeros", "--save"
FROM = "report"  # where the driver level of a prediction comes from


@frozen_record
class TaskQuestion:
    """A question with one model and one value of each setting, on one card."""

    task: str
    prepared: "Prepared"
    settings: dict[str, Any]

    def answer(self, **more: Any) -> "Report":
        ask = getattr(self.prepared, named_task(self.task))
        report: Report = ask(remedies=False, **(self.settings | more))
        return report


def read(task: str, words: Sequence[str]) -> dict[str, Any]:
    """Return the options in a command's words. Raises click's errors under the command's name."""
    from click import Option
    from click import Path as PathType

    room, name = "picture" if task in PICTURES else task, task.replace("-", "_")
    command = copy(getattr(import_module(f"weighbridge.faces.cli.{room}"), name))
    command.params = [*command.params]
    more = [ZEROS, SAVE] if task in PICTURES else [ZEROS]
    command.params += [Option([flag], type=PathType()) for flag in more]
    typed: dict[str, Any] = command.make_context(f"measure {task}", list(words)).params
    return typed


def question(task: str, words: Sequence[str], card: str) -> TaskQuestion:
    """Return the question in a command's words, on `card` whatever card they name. Raises
    UsageError if they ask more than one question."""
    from weighbridge.faces import api

    typed, table = read(task, words), TABLES[named_task(task)]
    asked = {name: value for name, value in typed.items() if value not in (None, ())}
    if card:
        asked["gpu"] = card
    several = any(_times(value) > 1 for name, value in asked.items() if name in table)
    if several or len(typed["models"]) != 1:
        raise UsageError(sentence("measure.one", task=task))
    source = {name: asked[name] for name in api.SOURCE if name in asked}
    settings = {name: _only_element(value) for name, value in asked.items() if name in table}
    prepared = api.prepare(typed["models"][0], **source)
    return TaskQuestion(task=task, prepared=prepared, settings=settings)


def _times(value: Any) -> int:
    return len(value) if isinstance(value, tuple) else 1


def _only_element(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def predicted(task: str, words: Sequence[str], card: str) -> MeasuredRun:
    """Return the command's answer for the first card, by phase."""
    started = perf_counter()
    report = question(task, words, card).answer()
    phases = []
    for instant in report.devices[0].phases:
        each = [instant.at(level) for level in LEVELS]
        low, point, high = (Levels(*ends) for ends in zip(*each, strict=True))
        phases.append(MeasuredPhase(name=instant.name, peak=point, low=low, high=high))
    died = report.verdict is not None and report.verdict.fits == "no"
    return MeasuredRun(
        outcome=OOM if died else DONE,
        phases=tuple(phases),
        driver=FROM,
        seconds=perf_counter() - started,
    )


def paired(measured: MeasuredRun, predicted: MeasuredRun) -> tuple[MeasuredRun, MeasuredRun]:
    """Return both runs, with phases of the same name at the same index; those of only one run come
    last."""
    ours = {phase.name: phase for phase in predicted.phases}
    names = {phase.name for phase in measured.phases}
    first = sorted(_merged(measured.phases), key=lambda phase: phase.name not in ours)
    second = [ours[phase.name] for phase in first if phase.name in ours]
    alone = () if names - {*ours} else (p for p in predicted.phases if p.name not in names)
    return replace(measured, phases=tuple(first)), replace(predicted, phases=(*second, *alone))


def _merged(phases: Sequence[MeasuredPhase]) -> Iterator[MeasuredPhase]:
    """Yield one phase per name with its largest peaks; unnamed ones are left out."""
    for name in dict.fromkeys(p.name for p in phases if p.name):
        peaks = [p.peak for p in phases if p.name == name]
        yield MeasuredPhase(name=name, peak=Levels(*map(max, zip(*peaks, strict=True))))


def run(task: str, words: Sequence[str], card: str) -> None:
    """Run the question on the current CUDA device."""
    asked = question(task, words, card)
    {"infer": _infer, "train": _train}.get(task, _pictures)(asked)


def _pictures(asked: TaskQuestion) -> None:
    from weighbridge_lab.measure import pictures

    follow = pictures.train if asked.task == "train-image" else pictures.make
    follow(asked.answer(), asked.prepared.model())


def _infer(asked: TaskQuestion) -> None:
    from weighbridge_lab.exact.here import on_this_machine

    with on_this_machine():
        asked.answer(exact=True)


def absent(error: ModuleNotFoundError) -> UnsupportedError:
    return UnsupportedError(f"{error.name} is not installed: pip install {error.name}")


def write_folder(asked: TaskQuestion, folder: str) -> None:
    """Write a model's config, tokenizer and zeros. Raises UnsupportedError."""
    try:
        if asked.task in PICTURES:
            from weighbridge_lab.measure.pictures import write

            write(asked.prepared.model(), folder)
        else:
            _write_model(asked, folder)
    except ModuleNotFoundError as error:
        raise absent(error) from None


def _write_model(asked: TaskQuestion, folder: str) -> None:
    import torch
    import transformers

    from weighbridge_lab.exact.zeros import config_of, write_tokenizer, write_zeros

    part = asked.prepared.model().parts[0]
    cls = getattr(transformers, part.blueprint.cls, None)
    if part.library != "transformers" or cls is None:
        raise UnsupportedError(sentence("exact.no_class", name=asked.prepared.reference))
    config = config_of(part.config)
    write_zeros(cls, config, config.dtype or torch.float32, folder)
    write_tokenizer(folder)


def script_of(asked: TaskQuestion, folder: str) -> str:
    """Return the script that trains the model in `folder` as the question says. Raises
    UnsupportedError."""
    from weighbridge.faces import api

    if asked.task in PICTURES:
        from weighbridge_lab.measure.pictures import program

        return program(asked.answer(), asked.prepared.model(), folder)
    report = replace(asked, prepared=api.prepare(folder)).answer()
    text = str(report.derived.get("launch") or "")
    if "import " not in text:
        why = report.derived.get("launch_note") or sentence("measure.no_script")
        raise UnsupportedError(str(why), where=asked.prepared.reference)
    return text


def written(task: str, words: Sequence[str]) -> bool:
    """Write a folder of zeros and the script that trains it, without running anything, if the words
    request it; return whether they do. Raises UsageError if the folder is not empty."""

    typed = read(task, words)
    folder, script = typed["zeros"], typed.get("save")
    if folder is None:
        if script is not None:
            raise UsageError(sentence("measure.zeros"))
        return False
    if os.path.isdir(folder) and os.listdir(folder):
        raise UsageError(sentence("measure.not_empty"), where=folder)
    asked = question(task, words, "")
    os.makedirs(folder, exist_ok=True)
    write_folder(asked, folder)
    if script is not None:
        with open(script, "w", encoding="utf-8") as file:
            file.write(script_of(asked, folder))
    return True


def _train(asked: TaskQuestion) -> None:
    from weighbridge_lab.measure.run import Target

    with tempfile.TemporaryDirectory() as folder:
        write_folder(asked, folder)
        path = os.path.join(folder, SCRIPT)
        with open(path, "w", encoding="utf-8") as file:
            file.write(script_of(asked, folder))
        before = os.getcwd()
        os.chdir(folder)  # where it writes its output
        try:
            with _two_steps():
                phase("load")
                Target(name=path).run()
        finally:
            os.chdir(before)


@contextmanager
def _two_steps() -> Iterator[None]:
    """Make transformers' Trainer and its subclasses run two steps, as named phases, inside the
    block."""
    from transformers import Trainer

    train, training_step = Trainer.train, Trainer.training_step

    @wraps(train)
    def begun(self: Any, *positional: Any, **named: Any) -> Any:
        from weighbridge_lab.exact.zeros import fill

        fill(self.model)
        self.args.max_steps, self.args.save_strategy = STEPS, "no"
        self.args._n_gpu = min(1, self.args.n_gpu)  # with several it makes replicas (DataParallel)
        with _named(self.model):
            return train(self, *positional, **named)

    @wraps(training_step)
    def stepped(self: Any, *positional: Any, **named: Any) -> Any:
        phase("forward")
        return training_step(self, *positional, **named)

    Trainer.train, Trainer.training_step = begun, stepped
    try:
        yield
    finally:
        Trainer.train, Trainer.training_step = train, training_step


@contextmanager
def _named(model: Any) -> Iterator[None]:
    """Name the loss, backward and step of each round as phases, inside the block."""
    from torch.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    from weighbridge_lab.exact.training import phases_of

    with ExitStack() as hooks:
        for hook in (
            phases_of(model, phase),
            register_optimizer_step_pre_hook(lambda *_: phase("step")),
            register_optimizer_step_post_hook(lambda *_: phase("")),
        ):
            if hook is not None:
                hooks.callback(hook.remove)
        yield

"""One question about one model, answered by its task's estimator for any changed settings.

Estimator(question, model, beside)(workload)   a Report, as `weighbridge.answers.estimate` makes it
remarked(report, typed, meant)                 with effective settings, and notes on aliased names
with_launch_line(report, workload, ...)        with the script that runs this training
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from weighbridge.answers.questions.question import Asked, ModelQuestion
from weighbridge.base.records import dataclass, field, replace
from weighbridge.base.watching import stopped
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import EffectiveSettings
from weighbridge.models.checkpoint.model import Model
from weighbridge.workload import besides

if TYPE_CHECKING:
    from weighbridge.answers.estimate.limits import Setting
    from weighbridge.workload import Infer


@dataclass(frozen=True)
class Estimator:
    """The estimator of a question's task. `beside` are models that serve together with this one, by
    role; `known` caches answers by workload, to be shared between questions."""

    question: ModelQuestion[Any]
    model: Model
    beside: Mapping[str, Model | None] = field(default_factory=dict)
    known: dict[Any, Report] | None = None

    def __call__(self, workload: Any, limits: "Sequence[Setting] | None" = None) -> Report:
        """Return the report for these settings. `limits`: the settings of a server whose largest
        fitting value is searched for; None means the default ones."""
        if self.question.task == "load":
            from weighbridge.answers.estimate.load import load

            return load(self.model, workload)
        if self.question.task == "infer":
            return self._served(workload, limits)
        if self.question.task == "image":
            from weighbridge.answers.estimate.pictures import picture

            return picture(self.model, workload)
        if self.question.task == "train_image":
            from weighbridge.answers.estimate import picture_training

            return picture_training.train(self.model, workload)
        from weighbridge.answers.estimate.train import train  # a third of all modules

        sought = limits is None and bool(workload.learns)
        if self.known is None or sought:
            return train(self.model, workload, roles=self.beside, sought=sought)
        if workload not in self.known:
            self.known[workload] = train(self.model, workload, roles=self.beside)
        return self.known[workload]

    def again(self, workload: Any) -> Report:
        """Return peaks and verdict for changed settings, without searching for limits."""
        return self(workload, limits=())

    @property
    def counts(self) -> bool:
        """Return whether a lower bound is found sooner than the answer."""
        return self.question.task == "train" and not self.question.workload.exact

    def least(self, workload: Any) -> Report:
        """Return a lower bound of a training run's memory: never more than the answer."""
        from weighbridge.answers.estimate.train import train

        if self.known is not None and workload in self.known:
            return self.known[workload]
        return train(self.model, workload, counts=True, roles=self.beside)

    def followed(self, release: str | None = None) -> int:
        """Return the number of parameter tensors in a training run, by this or another release of
        transformers; 0 for other tasks."""
        if self.question.task != "train":
            return 0
        from weighbridge.answers.estimate.train import followed

        w = self.question.workload
        return followed(self.model, w if release is None else w.but(engine_version=release))

    def _served(self, w: "Infer", limits: "Sequence[Setting] | None") -> Report:
        """Return the report about serving, judged by the launch command if there is one."""
        from weighbridge.answers.estimate.infer import infer

        launched = self.question.launched
        if launched is None:
            return infer(self.model, w, **self.beside, limits=limits)
        from weighbridge.answers.estimate import refusals

        w = refusals.as_it_is(w, launched, self.model)
        sought = launched.longest and w.context is None
        report = infer(self.model, w, **self.beside, limits=None if sought else limits)
        length = refusals.longest(report, w, launched)
        if length is not None:
            longest = infer(self.model, w.but(context=length), **self.beside, limits=limits)
            report = refusals.told_longest(longest, length)
        return refusals.named(refusals.judged(report, launched, self.model), launched)


# What an answer says about the question, on top of the estimate


def remarked(report: Report, typed: ModelQuestion[Asked], meant: Asked) -> Report:
    """Return the report with all of the user's settings, and a note for each name that stands for
    another. `meant` are the settings that were estimated."""
    report = replace(report, said=typed.workload.said)
    if typed.task == "train":
        report = _with_optimizer(report, typed.workload)
    more = besides(typed.task, meant, report.workload)
    if more:
        report = replace(report, workload=cast(EffectiveSettings, {**report.workload, **more}))
    if typed.workload.not_understood:
        from weighbridge.memory.report.verdict import under_words  # of few questions

        report = under_words(report, typed.workload.not_understood)
    by_method = typed.task == "train_image"  # qlora says its format
    if by_method or meant.quantization in (None, typed.workload.quantization):
        return report
    from weighbridge.engines.format_names import said

    return _warned(report, said(typed.workload.quantization, meant.quantization or ""))


def ended(report: Report) -> Report:
    """Return the report, marked if its search for remedies was stopped early."""
    if not stopped():
        return report
    return replace(report, derived=report.derived | {"search_stopped": True})


def _with_optimizer(report: Report, typed: Any) -> Report:
    """Return the report with a note if the optimizer's name stands for another."""
    if typed.optimizer is None:
        return report
    from weighbridge.training.optimizers import taken_as

    return _warned(report, taken_as(typed.optimizer))


def _warned(report: Report, line: str) -> Report:
    return replace(report, warnings=(line, *report.warnings)) if line else report


def with_launch_line(report: Report, workload: Any, loads: str, packed: tuple[str, str]) -> Report:
    """Return the report with the script that runs this training, unless it surely does not fit.
    `loads` is the model the script loads; `packed` the files' format and their quant_method. An
    image network has no token loss, and no script."""
    verdict = report.verdict
    if (verdict is not None and verdict.fits == "no") or "loss" not in report.workload:
        return report
    from weighbridge.training.launching import TrainerRun, start
    from weighbridge.training.scripts import line

    run = line(TrainerRun(report.workload, workload, loads, report.model.architecture, *packed))
    count = 1 if verdict is None else verdict.count
    note = run.why or (f"start it with {start(count)}" if count > 1 and run.script else "")
    derived = report.derived | {"launch": run.text or None, "launch_note": note or None}
    return replace(report, derived=derived)

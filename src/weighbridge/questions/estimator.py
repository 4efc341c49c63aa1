"""One question about one model, answered by the estimator of its task as often as settings change.

Estimator(question, model, beside)(workload)   a Report, as `weighbridge.estimate` makes it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from weighbridge.checkpoint.model import Model
from weighbridge.questions.question import ModelQuestion
from weighbridge.report import Report

if TYPE_CHECKING:
    from weighbridge.estimate.limits import Setting
    from weighbridge.workload import Infer


@dataclass(frozen=True)
class Estimator:
    """The estimator of a question's task. `beside` are the models that serve beside this one, by
    what they are for; `known` are answers about other workloads, where several questions share
    them, and what is answered here is added."""

    question: ModelQuestion[Any]
    model: Model
    beside: Mapping[str, Model | None] = field(default_factory=dict)
    known: dict[Any, Report] | None = None

    def __call__(self, workload: Any, limits: "Sequence[Setting] | None" = None) -> Report:
        """Answer about these settings. `limits`: the settings of a server of which it is said how
        far they can go; None are the usual ones."""
        if self.question.task == "load":
            from weighbridge.estimate.load import load

            return load(self.model, workload)
        if self.question.task == "infer":
            return self._served(workload, limits)
        from weighbridge.estimate.train import train  # a third of all modules

        if self.known is None:
            return train(self.model, workload)
        if workload not in self.known:
            self.known[workload] = train(self.model, workload)
        return self.known[workload]

    def again(self, workload: Any) -> Report:
        """Answer about changed settings: peaks and verdict, without what else is searched for."""
        return self(workload, limits=())

    def _served(self, w: "Infer", limits: "Sequence[Setting] | None") -> Report:
        """The answer about serving, judged by the launch command where one was given."""
        from weighbridge.estimate.infer import infer

        launched = self.question.launched
        if launched is None:
            return infer(self.model, w, **self.beside, limits=limits)
        from weighbridge.estimate import refusals

        w = refusals.as_it_is(w, launched, self.model)
        sought = launched.longest and w.context is None
        report = infer(self.model, w, **self.beside, limits=None if sought else limits)
        length = refusals.longest(report, w, launched)
        if length is not None:
            longest = infer(self.model, w.but(context=length), **self.beside, limits=limits)
            report = refusals.told_longest(longest, length)
        return refusals.named(refusals.judged(report, launched, self.model), launched)

"""transformers as the engine."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget
    from weighbridge.engines.serving import Answer, Probe, Subject
    from weighbridge.workload import Infer


def infer(subject: "Subject", w: "Infer", budget: "Budget | None") -> "Answer":
    from weighbridge.engines.transformers.serving import infer  # which `load` does without

    return infer(subject, w, budget)


def probe(subject: "Subject", w: "Infer", budget: "Budget") -> "Probe":
    from weighbridge.engines.transformers.serving import probe

    return probe(subject, w, budget)

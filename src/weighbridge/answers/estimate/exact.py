"""`--exact`: trace the real transformers class on a simulated GPU, in place of the closed form.

    answer(subject, w, closed) -> EngineAnswer   what was traced, with the closed form beside it
    trained(subject, w, plan, closed)            the same of a training run

This module does not import torch: `weighbridge_lab.exact` is imported on the first call.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence

if TYPE_CHECKING:
    from weighbridge.engines.interface import EngineAnswer, Subject
    from weighbridge.training.answer import TrainingAnswer as Trained
    from weighbridge.training.plan import TrainingPlan
    from weighbridge.workload import Infer, Train

ENGINE = "transformers"
NEEDED = ("torch", "transformers")


def ready(engine: str, asked: str | None) -> str:
    """Return the version of transformers that would run. Raises UnsupportedError if none can."""
    if engine != ENGINE:
        raise UnsupportedError(sentence("exact.engine", engine=engine, usual=ENGINE))
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UnsupportedError(sentence("exact.needs", names=" and ".join(missing)))
    from importlib.metadata import version

    here = version(ENGINE)
    if asked is not None and asked.split(".")[:2] != here.split(".")[:2]:
        raise UnsupportedError(sentence("exact.version", here=here, asked=asked))
    return asked or here


def answer(subject: "Subject", workload: "Infer", closed: "EngineAnswer") -> "EngineAnswer":
    """Trace inference and return the result with the closed form beside it. Raises UnsupportedError
    for requests that cannot be traced."""
    from weighbridge_lab.exact import beside
    from weighbridge_lab.exact.inference import traced

    return beside(closed, *traced(subject, workload))


def trained(
    subject: "Subject", workload: "Train", plan: "TrainingPlan", closed: "Trained"
) -> "Trained":
    """Trace the training steps and return the result with the closed form beside it."""
    from weighbridge_lab.exact import beside
    from weighbridge_lab.exact.training import traced

    return beside(closed, *traced(subject, workload, plan))

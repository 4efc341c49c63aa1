"""`--exact`: the real class of transformers, from its config, does the same work on a fake GPU.

    answer(subject, w, closed) -> EngineAnswer  what was traced, with the closed form beside it
    trained(subject, w, plan, closed)          the same of a training run

    build.py       the class: its config, dtype and attention; refusals
    inference.py   the requests: a prompt, its answer, a forward alone
    training.py    the steps of a run
    inputs.py      what a request of that class holds
    keeping.py     which storages are caches and logits
    compare.py     phases of a tape, beside those of the closed form

Only this module is torch-free.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from weighbridge.errors import UnsupportedError

if TYPE_CHECKING:
    from weighbridge.engines.interface import EngineAnswer, Subject
    from weighbridge.training.answer import TrainingAnswer as Trained
    from weighbridge.training.plan import TrainingPlan
    from weighbridge.workload import Infer, Train

ENGINE = "transformers"
NEEDED = ("torch", "transformers")


def ready(engine: str, asked: str | None) -> str:
    """The version of transformers that would run. Raises UnsupportedError."""
    if engine != ENGINE:
        raise UnsupportedError(
            f"--exact runs the classes of transformers, not {engine}: leave it out, or ask "
            f"--engine {ENGINE}"
        )
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UnsupportedError(
            f"--exact needs {' and '.join(missing)}: pip install 'weighbridge[torch,transformers]'"
        )
    from importlib.metadata import version

    here = version(ENGINE)
    if asked is not None and asked.split(".")[:2] != here.split(".")[:2]:
        raise UnsupportedError(
            f"--exact runs transformers {here}, which is installed, not {asked}: leave "
            "--engine-version out"
        )
    return asked or here


def answer(subject: "Subject", w: "Infer", closed: "EngineAnswer") -> "EngineAnswer":
    """Raises UnsupportedError for what is not traced."""
    from weighbridge.exact.compare import beside
    from weighbridge.exact.inference import traced

    return beside(closed, *traced(subject, w))


def trained(subject: "Subject", w: "Train", p: "TrainingPlan", closed: "Trained") -> "Trained":
    """The same of `train`."""
    from weighbridge.exact.compare import beside
    from weighbridge.exact.training import traced

    return beside(closed, *traced(subject, w, p))

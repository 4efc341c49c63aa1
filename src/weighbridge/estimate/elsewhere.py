"""Engines that answer a question which another refuses: each is asked, so that no refusal sends to
an engine that refuses it too."""

from collections.abc import Iterator

from weighbridge.accelerators.parts import Part
from weighbridge.checkpoint.model import Model
from weighbridge.engines.engine import Engine
from weighbridge.engines.table import ENGINES
from weighbridge.engines.weight_formats import runs_on
from weighbridge.errors import NotServedError, UnsupportedError, WeighbridgeError
from weighbridge.estimate.infer import infer
from weighbridge.settings import Infer
from weighbridge.wording import either


def told(error: NotServedError, model: Model, workload: Infer) -> UnsupportedError:
    """Return the refusal with the engines that answer the same question on the same device; as it
    was where another device would have to be named."""
    budget = workload.budget()
    card = None if budget is None else budget.choice.part
    able = tuple(_answering(error, model, workload, card))
    if able:
        return UnsupportedError(f"{error.said}; --engine {either(able)} does")
    if error.elsewhere.endswith(AWAY):
        return UnsupportedError(error)
    where = "" if card is None else f" on {card.name}"
    return UnsupportedError(f"{error.said}; no engine here does{where}")


AWAY = ("on a Mac", "elsewhere")


def _answering(
    error: NotServedError, model: Model, workload: Infer, card: Part | None
) -> Iterator[str]:
    asked = (workload.engine, error.engine)
    others = (
        engine for engine in ENGINES.values() if engine.name not in asked and runs_on(engine, card)
    )
    yield from (kind.name for kind in others if _answers(kind, model, workload))


def _answers(kind: Engine, model: Model, workload: Infer) -> bool:
    """Tell whether an engine gives a number, in whatever settings are its own."""
    asked = Infer(
        engine=kind.name,
        dtype=workload.dtype,
        quantization=workload.quantization,
        context=workload.context,
        batch_size=workload.batch_size,
        gpu=workload.gpu,
        gpu_memory=workload.gpu_memory,
    )
    try:
        infer(model, asked, limits=())
    except WeighbridgeError:
        return False
    return True

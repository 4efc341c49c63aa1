"""Loading, training and inference of one model with the same settings, each in a process of its
own: what the chart with a bar for each draws."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import WeighbridgeError
from weighbridge.workload import INFER, TRAIN

if TYPE_CHECKING:
    from weighbridge.answers.questions.prepared import Prepared
    from weighbridge.memory.report import Report

METHODS = {"train": "full", "qlora": "qlora", "lora": "lora"}  # by question: the first that trains


def answers(
    model: "Prepared", settings: Mapping[str, Any]
) -> "tuple[dict[str, Report], dict[str, str]]":
    """Return answers by question, and why there is none. Weights that are not trained in full are
    trained with adapters. Raises WeighbridgeError where the model cannot be loaded."""
    known = {"load": model.load(remedies=False, **settings)}
    refused: dict[str, str] = {}
    trains = {n: v for n, v in settings.items() if n in TRAIN}
    for name, method in METHODS.items():
        try:
            known[name] = model.train(remedies=False, method=method, **trains)
        except WeighbridgeError as error:
            refused.setdefault("train", str(error))
        else:
            refused.clear()
            break
    serves = {n: v for n, v in settings.items() if n in INFER}
    if "engine_version" in serves:
        serves["engine"] = "transformers"
    try:
        known["infer"] = model.infer(remedies=False, **serves)
    except WeighbridgeError as error:
        refused["infer"] = str(error)
    return known, refused

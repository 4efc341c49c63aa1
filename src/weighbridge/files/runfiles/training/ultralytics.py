"""Lines of Ultralytics: yolo detect train model=yolo11m.pt imgsz=640 batch=16, and predict and val.

A batch is that of all cards, and "auto" takes SGD for more than 10,000 steps and AdamW for fewer:
what AdamW keeps is counted. Source: ultralytics 8.4 cfg/default.yaml, engine/trainer.py
(_setup_train, build_optimizer), utils/autobatch.py, engine/validator.py.
"""

import re
from collections.abc import Iterator
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.shell import commands
from weighbridge.engines.transformers.dialect import called, calls_in, value_of
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, filled, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun
from weighbridge.files.runfiles.training import flags, literals
from weighbridge.files.runfiles.training.picture_trainers import worded
from weighbridge.models.catalogue.pipelines import file_name

PROGRAM = "ultralytics"
CLASSES = ("YOLO", "RTDETR")
KEYS = text_beside(__file__, "ultralytics.txt")
MODES = {"train": "train", "predict": "infer", "val": "infer", "track": "infer"}
BATCHES = {"train": 16, "val": 16}  # predict and track: 1
USUAL_MODEL, USUAL_SIDE = "yolo11n", 640


class YoloLine(NamedTuple):
    """A `yolo` command: its mode and arguments."""

    mode: str
    words: list[str]


def tells(document: Document) -> bool:
    """Return whether a script has a `yolo` command that trains, predicts or validates."""
    return next(_lines(document), None) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each command."""
    for mode, words in _lines(document):
        named = [f"--{word}" for word in words if "=" in word]
        arguments = flags.document(document.text, named, document.name, document.folder)
        yield _run(reading(arguments, KEYS, MODES[mode]), mode)


def _of_python(tree: Any) -> Iterator[YoloLine]:
    """Yield the calls of a network in Python, such as YOLO("yolo11n.pt").train(imgsz=640,
    batch=64), as commands."""
    calls = calls_in(tree)
    model = next((f"model={value_of(c.args[0])}" for c in calls if called(c) in CLASSES), "")
    for call in calls if model else ():
        values = {word.arg: value_of(word.value) for word in call.keywords}
        if called(call) in MODES:
            words = [f"{name}={value}" for name, value in values.items() if value is not None]
            yield YoloLine(called(call), [model, *words])


def _lines(document: Document) -> Iterator[YoloLine]:
    if document.syntax == "python":
        yield from _of_python(literals.defaulted(document.text).tree)
        return
    try:
        all_commands = list(commands(document.text))
    except UsageError:
        return
    for command in all_commands:
        words = [filled(word) for word in command.words]
        if not words or file_name(words[0]) != "yolo":
            continue
        plain = [word.partition("=")[2] if word.startswith("mode=") else word for word in words]
        mode = next((word for word in plain[1:4] if word in MODES), "")
        if mode:
            yield YoloLine(mode, words[1:])


def _run(keys: KeyReading, mode: str) -> PlannedRun:
    trains = MODES[mode] == "train"
    if trains:
        worded(keys)
        why = sentence("own_name", framework=PROGRAM, name="amp")
        keys.default("precision", "fp16-mixed", why)
        why = sentence("own_name", framework=PROGRAM, name="optimizer")
        keys.default("optimizer", "adamw_torch", why)
    elif keys.on("half"):
        keys.set("dtype", "float16", "half")
    keys.used |= {"optimizer", "amp", "half"}
    devices = re.findall(r"\d+", str(keys.value("device", "")))
    keys.cards = len(devices) if len(devices) > 1 else 0
    _batch(keys, mode)
    _size(keys)
    return keys.run(_model(keys))


def _batch(keys: KeyReading, mode: str) -> None:
    """Read the batch per card; for -1 and fractions ultralytics searches it on the card."""
    usual = BATCHES.get(mode, 1)
    value = keys.value("batch")
    looked_for = isinstance(value, int | float) and not isinstance(value, bool) and value < 1
    if looked_for:
        keys.leave("batch", f"+- it is looked for on the card, and counted as {usual}")
    elif value is not None:
        keys.take("batch", "batch_size", lambda n: n // max(keys.cards, 1) or 1)
    why = sentence("own_name", framework=PROGRAM, name="batch")
    keys.default("batch_size", max(usual // max(keys.cards, 1), 1), why)


def _size(keys: KeyReading) -> None:
    sides = [int(side) for side in re.findall(r"\d+", str(keys.value("imgsz", "")))]
    if sides:
        keys.set("image_size", (sides[0], sides[-1]), "imgsz")
    why = sentence("own_name", framework=PROGRAM, name="imgsz")
    keys.default("image_size", (USUAL_SIDE, USUAL_SIDE), why)


def _model(keys: KeyReading) -> str:
    """Return the network's name, without its file's ending."""
    name = re.sub(r"\.(?:pt|yaml)$", "", file_name(keys.text("model")))
    if name:
        keys.knows("model", "model")
    return name or USUAL_MODEL


KIND = Kind(
    name=PROGRAM,
    title=sentence("title.ultralytics"),
    syntaxes=("shell", "python"),
    source="https://github.com/ultralytics/ultralytics/blob/v8.3.0/ultralytics/cfg/default.yaml",
    tells=tells,
    read=read,
)

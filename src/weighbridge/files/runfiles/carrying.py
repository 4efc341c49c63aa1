"""What a file says besides that decides no memory, and that a new file for another program keeps:
the learning rate, the epochs, the schedule, the data set of a training.

A value is carried through as it is where both programs have a key for it; what cannot be is named
in the first lines of the new file. Secrets and values of other shapes are never carried.
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.base.wording import unsecret
from weighbridge.files.runfiles.document import first
from weighbridge.files.runfiles.record import RunFile, Value

OURS: Mapping[str, str] = {  # keys with one name in axolotl, LLaMA-Factory and TRL
    name: name for name in ("learning_rate", "warmup_ratio", "warmup_steps", "weight_decay", "seed")
}
PACKING = "packing"  # several rows in one sequence, up to the sequence length
TRAINER = {**OURS, "epochs": "num_train_epochs", "schedule": "lr_scheduler_type"}
# kind of file -> our name of a value -> its key there
KEYS: Mapping[str, Mapping[str, str]] = {
    "axolotl": {
        **OURS,
        "epochs": "num_epochs",
        "schedule": "lr_scheduler",
        "dataset": "datasets.0.path",
        PACKING: "sample_packing",
    },
    "llama-factory": {**TRAINER, "dataset": "dataset", PACKING: "packing"},
    "trl": {**TRAINER, "dataset": "dataset_name", PACKING: "packing"},
    "training-command": {**TRAINER, "dataset": "dataset_name", PACKING: "packing"},
    "training-script": {**TRAINER, PACKING: "packing"},
    "torchtune": {"learning_rate": "optimizer.lr", "epochs": "epochs", "seed": "seed"},
    "torchtitan": {"learning_rate": "optimizer.lr"},
}
SHARED_DATA = ("axolotl", "trl")  # kinds that name a dataset by its Hub repository
HUB = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
PLAIN = re.compile(r"[\w.,/:+-]{1,200}")
IN_TEXT = r"(?:--|\b){}(?:[ \t]*=[ \t]*|[ \t]+)['\"]?([\w./:+-]{{1,200}})"


class Carried(NamedTuple):
    """Keys of the new file with the old file's values, and the old keys that are dropped."""

    words: Mapping[str, Value]
    left: tuple[str, ...]


def carried(file: RunFile, kind: str, new: Mapping[str, Value]) -> Carried:
    """Return what a new file of `kind`, with the keys `new`, can keep of the old file."""
    words: dict[str, Value] = {}
    left: list[str] = []
    theirs = KEYS.get(kind, {})
    for name, key, value in _keys_besides(file):
        target = theirs.get(name)
        if target is None or not _means_the_same(name, value, file.kind, kind):
            left.append(f"{key.replace('.0.', '.')} {value}")
        elif name == "dataset" and kind == "axolotl":
            words |= _of_axolotl(str(value), new)
        else:
            words[target] = value
    return Carried(words, tuple(left))


def _means_the_same(name: str, value: Value, old: str, kind: str) -> bool:
    """Return whether a value means the same to both programs; a dataset does if both load it from
    the Hub."""
    if name != "dataset" or old == kind:
        return True
    hub = HUB.fullmatch(str(value)) is not None
    return hub and kind in SHARED_DATA and old in (*SHARED_DATA, "training-command")


def _of_axolotl(path: str, new: Mapping[str, Value]) -> Mapping[str, Value]:
    rows = new.get("datasets")
    like = rows[0] if isinstance(rows, list) and rows else {"type": "alpaca"}
    return {"datasets": [{**like, "path": path}]}


def _keys_besides(file: RunFile) -> Iterator[tuple[str, str, Value]]:
    """Yield (our name, key, value) of the settings that do not affect memory."""
    try:
        data = first(file.text, ("json", "toml", "yaml"), file.name).data
    except BadFileError:
        data = None
    for name, key in KEYS.get(file.kind, {}).items():
        value = _value(data, key) if isinstance(data, dict) else _in_text(file.text, key)
        if name == PACKING and value is not None:
            if str(value).lower() == "true":
                yield name, key, True
        elif value is not None and _is_harmless_plain_value(key, value):
            yield name, key, value


def _value(data: Value, key: str) -> Value:
    """Return the value at a dotted key, where a number is a list index; None if it is missing."""
    for part in key.split("."):
        if isinstance(data, list) and part.isdecimal() and len(data) == 1:
            data = data[int(part)]
        elif isinstance(data, dict):
            data = data.get(part)
        else:
            return None
    return data


def _in_text(text: str, key: str) -> Value:
    """Return the value of a key in a command or script; None for none or several."""
    values = set(re.findall(IN_TEXT.format(re.escape(key)), text))
    if len(values) != 1:
        return None
    value = values.pop()
    try:
        return int(value) if value.isdecimal() else float(value)
    except ValueError:
        return value


def _is_harmless_plain_value(key: str, value: Value) -> bool:
    """Return whether a value is a number or a plain word without a secret."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    line = f"{key}={value}"
    return bool(PLAIN.fullmatch(str(value))) and unsecret(line) == line

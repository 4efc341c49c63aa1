"""The command that asks what a text means: with all that the text says, and with a word in capitals
for each setting that decides and that it does not say.

    weighbridge train Qwen/Qwen3-8B --method full --seq-len N --batch-size 1 --gpu a800:8
"""

import shlex
from collections.abc import Iterator, Mapping

from weighbridge.base.sentences import Sentence, sentence
from weighbridge.files.runfiles.record import Value

# What decides of a task, and the word in place of its value
DECIDES: Mapping[str, Mapping[str, str]] = {
    "train": {"method": "full|lora|qlora", "seq_len": "N", "batch_size": "N"},
    "infer": {"context": "N", "batch_size": "N"},
    "fit": {},
}
MODEL, CARD = "MODEL", "NAME"
SHARDS = "ddp|zero2|zero3|fsdp2"
FIRST = ("engine", "framework", "method")


def command(task: str, model: str, settings: Mapping[str, Value]) -> str:
    """Return the line that asks about a model with settings of ours, the card last."""
    decides = _decides(task, settings)
    words = ["weighbridge", task, shlex.quote(model) if model else MODEL]
    for name in dict.fromkeys((*FIRST, *decides, *settings)):
        if name != "gpu" and (name in settings or name in decides):
            words += _words(name, settings.get(name), decides.get(name, ""))
    gpu = settings.get("gpu")
    return " ".join((*words, "--gpu", shlex.quote(str(gpu)) if gpu else CARD))


def _decides(task: str, settings: Mapping[str, Value]) -> Mapping[str, str]:
    """Return what decides: of a training on several cards also how they share the model."""
    shared = task == "train" and ":" in str(settings.get("gpu") or "")
    return {**DECIDES[task], **({"shard": SHARDS} if shared else {})}


def _words(name: str, value: Value, instead: str) -> Iterator[str]:
    yield f"--{name.replace('_', '-')}"
    if value is not True:
        yield instead if value is None else shlex.quote(str(value))


def lacking(task: str, model: str, settings: Mapping[str, Value]) -> tuple[str, ...]:
    """Return what of a line the text does not say, as flags and words of that line."""
    flags = (f"--{n.replace('_', '-')}" for n in _decides(task, settings) if n not in settings)
    return (*(() if model else (MODEL,)), *flags, *(() if settings.get("gpu") else ("--gpu",)))


def to_type(task: str, model: str, settings: Mapping[str, Value]) -> Sentence:
    """Say which command asks for sure, and what the text does not say of it."""
    line, lacks = command(task, model, settings), lacking(task, model, settings)
    if not lacks:
        return sentence("to_type", command=line)
    return sentence("to_type.lacking", command=line, lacking=", ".join(lacks))

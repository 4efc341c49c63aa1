"""Lines that launch a training: accelerate, torchrun, deepspeed, python, swift, trl and others.

The script is not read: arguments that TrainingArguments and TRL have are taken by their names.

Sources: accelerate @ 16cb6eb8 commands/launch.py; torch distributed/run.py; ms-swift
@ examples/train (tuner_type, quant_bits, max_length; lora rank 8 on all linears, bfloat16).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.engines.launch.programs import commands
from weighbridge.errors import UsageError
from weighbridge.records import NamedTuple, replace
from weighbridge.runfiles.document import Document, Path, Place
from weighbridge.runfiles.kinds import Kind
from weighbridge.runfiles.reading import filled
from weighbridge.runfiles.record import PlannedRun, Unread
from weighbridge.runfiles.serving.lines import model_of
from weighbridge.runfiles.training import flags, llama_factory, trl

KIND = Kind(
    name="training-command",
    title="training command",
    syntaxes=("shell",),
    source="https://github.com/huggingface/accelerate @ 16cb6eb8",
)
MOST = 200  # lines: a longer text is looked at as prose is
CONFIG = "config_file"  # of accelerate
LAUNCHERS = ("torchrun", "deepspeed", "accelerate", "python", "python3")
PROGRAMS = ("swift", "trl", "llamafactory-cli")
BEGINS = re.compile(
    r"[ \t$]*(?:[A-Za-z_]\w*=|(?:export|set|cd|source|ulimit|torchrun|deepspeed|accelerate|python3?"
    r"|swift|trl|llamafactory-cli|srun|uv|nohup|read|megatron)(?:[ \t]|$))"
)
STARTERS = ("torch.distributed.launch", "torch.distributed.run")  # modules that start a script
RANKS = ("nproc_per_node", "nproc-per-node", "num_processes", "num_gpus")
NODES = ("nnodes", "num_nodes")
UNREAD = "the script is not read: its arguments are taken as transformers and TRL have them"
TRAINS = ("per_device_train_batch_size", "model_name_or_path", "lora_rank", "finetuning_type")
SWIFT = {  # ms-swift's names -> those of TRL's arguments
    "model": "model_name_or_path",
    "lora_rank": "lora_r",
    "target_modules": "lora_target_modules",
    "attn_impl": "attn_implementation",
}


class Launched(NamedTuple):
    """A training's program (a script, or one of PROGRAMS), its arguments and its ranks."""

    program: str
    words: Sequence[str]
    ranks: int | None
    config: str = ""  # a file that the launcher is told of


def tells(document: Document) -> bool:
    """Tell whether a text is a script that launches a training."""
    lines = document.text.replace("\\\n", " ").splitlines()
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    if document.text.count("\n") > MOST or BEGINS.match(first) is None:
        return False
    return next(launched(document.text), None) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each line that launches a training."""
    for each in launched(document.text):
        yield _run(document, each)


def launched(text: str) -> Iterator[Launched]:
    """Yield the trainings that a text launches, of programs whose arguments we know."""
    return (each for each in started(text) if _trains(each))


def started(text: str, programs: Sequence[str] = PROGRAMS) -> Iterator[Launched]:
    """Yield what a text launches: a script of any name, or one of `programs`."""
    try:
        found = list(commands(text))
    except UsageError:
        return
    for command in found:
        words = [filled(word) for word in command.words]
        each = _launched(words, command.env, programs)
        if each is not None:
            yield each


def _trains(each: Launched) -> bool:
    return each.program in PROGRAMS or any(name in flags.mapping(each.words) for name in TRAINS)


def _launched(
    words: Sequence[str], env: Mapping[str, str], programs: Sequence[str]
) -> Launched | None:
    """Return what a command launches: its last launcher is the one that counts."""
    names = [word.rpartition("/")[2] for word in words]
    at = [place for place, name in enumerate(names) if name in (*LAUNCHERS, *programs)]
    if not at:
        return None
    start = at[-1]
    if names[start] in programs:
        if len(words) < start + 2:
            return None
        ranks = _number(env.get("NPROC_PER_NODE"))
        return Launched(names[start], words[start + 1 :], ranks)
    script = next((n for n in range(start + 1, len(words)) if _is_script(words, n)), None)
    if script is None:
        return None
    told = flags.mapping(words[start:script])
    return Launched(
        words[script], words[script + 1 :], _ranks(words[start:script]), str(told.get(CONFIG) or "")
    )


def _is_script(words: Sequence[str], at: int) -> bool:
    """Tell whether a word is what a launcher starts: a file, or a module."""
    module = words[at - 1] in ("-m", "--module") and words[at] not in STARTERS
    return module or words[at].endswith(".py")


def _ranks(words: Sequence[str]) -> int | None:
    """Return how many processes a launcher starts; None where it does not say."""
    given = flags.mapping(words)
    count = next((n for name in RANKS if (n := _number(given.get(name.replace("-", "_"))))), None)
    whole = "num_processes" in given  # of all machines
    said = next((given[name] for name in NODES if name in given), 1)
    nodes = _number(said)
    if nodes is None and not whole:  # a variable: nobody knows how many machines
        return None
    nodes = nodes or 1
    return None if count is None else count if whole else count * nodes


def _number(value: Any) -> int | None:
    text = str(value)
    return int(text) if text.isdigit() and int(text) else None


def _run(document: Document, each: Launched) -> PlannedRun:
    """Return the run of a launch, with the file that its launcher is told of and that is not
    here."""
    run = _started(document, each)
    if not each.config:
        return run
    line = document.line_of(max(document.text.find(each.config), 0))
    why = f"{each.config:.60} is another file: how ranks share is in it; weigh it with --model"
    return replace(run, unread=(*run.unread, Unread(key=f"--{CONFIG}", line=line, why=why)))


def _started(document: Document, each: Launched) -> PlannedRun:
    if each.program == "swift":
        return _swift(document, each)
    given = flags.document(document.text, each.words, document.name)
    if each.program == "llamafactory-cli":
        if "model_name_or_path" not in given.data:
            return PlannedRun(task="train", refused="it starts another file, which is not here")
        return next(llama_factory.read(given))
    if each.program == "trl" and each.words[0] != "sft":
        return replace(
            trl.of_arguments(given, "trl", each.ranks),
            refused=f"trl {each.words[0]:.20} is not answered yet",
        )
    framework = "trl" if each.program == "trl" or "use_peft" in given.data else "trainer"
    note = "" if each.program == "trl" else UNREAD
    return trl.of_arguments(given, framework, each.ranks, note)


def _swift(document: Document, each: Launched) -> PlannedRun:
    """Return the run of ms-swift, whose arguments are given the names of TRL's."""
    given = flags.document(document.text, each.words, document.name)
    data = {SWIFT.get(name, name): value for name, value in given.data.items()}
    kind = str(data.pop("rlhf_type", "") or "")
    tuner = str(data.pop("tuner_type", data.pop("train_type", "lora")))
    if tuner == "lora":
        data |= {"use_peft": True, "lora_r": data.get("lora_r", 8)}
        data.setdefault("lora_target_modules", "all-linear")
        data["load_in_4bit"] = data.pop("quant_bits", None) == 4
    data.setdefault("per_device_train_batch_size", 1)
    data.setdefault("bf16", True)
    data.setdefault("gradient_checkpointing", True)
    model = str(data.get("model_name_or_path") or "")
    places: dict[Path, Place] = {
        (SWIFT.get(str(path[0]), str(path[0])),): place for path, place in given.places.items()
    }
    run = trl.of_arguments(replace(given, data=data, places=places), "trainer", each.ranks)
    refused = run.refused
    if each.words[0] not in ("sft", "pt") or kind:
        refused = f"ms-swift's {kind or each.words[0]:.20} is not answered yet"
    elif tuner not in ("lora", "full"):
        refused = f"tuner_type: {tuner:.20} is not answered yet"
    return replace(
        run,
        model=model_of(model, {}) if "$" not in model else "",
        understood=tuple(one for one in run.understood if one.line),
        refused=refused,
    )

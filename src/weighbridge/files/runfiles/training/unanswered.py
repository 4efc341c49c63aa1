"""Runs of Megatron's other programs, which are read and not answered yet; and what a text says of a
model that learns from rewards where it holds no command that is read.

Sources: Megatron-LM (pretrain_gpt.py); verl main, TRL, OpenRLHF (openrlhf/cli/), as in rewards.py.
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.paths import model_of
from weighbridge.files.programs import told_by
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import VARIABLE, filled
from weighbridge.files.runfiles.record import Kind, PlannedRun, Value
from weighbridge.training.learning.words import ANY, EACH, wordings
from weighbridge.workload import TABLES
from weighbridge.workload.train import LEARNS

MODEL = re.compile(
    r"(?:actor_rollout_ref\.model\.path|actor\.model\.model_path|policy\.model_name"
    r"|(?:--(?:\w+\.)?(?:model_name_or_path|pretrain|model)))(?:=|[ \t]+)(?P<value>[^\s\\]+)"
)
ASSIGNED = re.compile(r"(?m)^[ \t]*(?:export[ \t]+)?(\w+)=(\S*)")
NAME = re.compile(r"\$\{?(\w+)\}?")
NESTED = 5  # variables within variables


def tells(document: Document) -> bool:
    """Return whether a document starts a program without support."""
    return is_script(document) and bool(_program(document.text))


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield a run with what was understood, and why it has no estimate."""
    text = document.text
    yield PlannedRun(
        task="train", model=model_in(text), refused=f"{_program(text)} is not answered yet"
    )


def is_script(document: Document) -> bool:
    """Return whether a text is a script, rather than prose that names a program."""
    lines = [line for line in document.text.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    return first.startswith("#!") or bool(
        re.match(r"\s*(?:set |export |\w+=|python3? |ray )", first)
    )


def _program(text: str) -> str:
    return next((each.name for each in told_by("script") if re.search(each.script, text)), "")


def model_in(text: str) -> str:
    """Return the model that such a program's script names; "" without one."""
    named = _value(MODEL, text, {m[1]: m[2].strip("\"'") for m in ASSIGNED.finditer(text)})
    return model_of(named) if named else ""


def _value(pattern: re.Pattern[str], text: str, assigned: Mapping[str, str]) -> str:
    """Return an option's value with variables filled in; "" if unknown."""
    option = pattern.search(text)
    value = option["value"].strip("\"'") if option else ""
    for _ in range(NESTED):
        value = filled(NAME.sub(lambda match: assigned.get(match[1], match[0]), value)).strip("\"'")
    return "" if VARIABLE.search(value) or "$" in value else value


# What a text says of a run of rewards, where no command of it can be read: it fills the
# command that asks (in_words.py), and no answer rests on it. Keys are looked for as they stand in a
# command, a config, a script or a log, whatever stands before their last word.

ESTIMATOR = re.compile(r"(?i)\b(?:adv|advantage)[._]estimator[\"']?\s*[=:]\s*[\"']?(\w+)")
ESTIMATED = {"gae": "ppo", "reinforce_plus_plus": "reinforce", "remax": "reinforce"}
PLAIN = ("reward", "reinforce")  # plain English unless in capitals
SPOKEN = re.compile(rf"(?<![a-z])({'|'.join(map(str.upper, LEARNS))})(?![a-z])")
SMALL = re.compile(
    rf"(?i)(?<![\w/.-])({'|'.join(name for name in LEARNS if name not in PLAIN)})(?![\w/.=-])"
)
RANK = r"lora_r|lora_rank|r"
CARDS = (r"n_gpus_per_node|actor[._]num_gpus_per_node|nproc[-_]per[-_]node|num_gpus", "nnodes")


def learner(text: str, framework: str, tuner: str = "") -> dict[str, Value]:
    """Return the settings that a text states for a framework, in the framework's names; `cards` is
    the number of cards that train. `tuner`: the tuner named in prose."""
    settings: dict[str, Value] = {"framework": framework}
    method = _method(text)
    if method:
        settings["method"] = method
    words = wordings()[framework]
    for name, keys in words.names.items():
        number = next(filter(None, (_number(text, key) for key in keys)), None)
        if number is not None:
            settings[name] = number
    for (name, value), pairs in words.phrases.items():
        if all(_stands(text, key, wanted) for key, wanted in pairs.items()):
            filled_in = next((key for key, wanted in pairs.items() if wanted == EACH), "")
            settings.setdefault(name, _number(text, filled_in) if value == ANY else value)
    if tuner in TABLES["train"]["tuner"].choices:
        rank = None if tuner == "full" else _count(text, RANK)
        settings |= {"tuner": tuner} | ({} if rank is None else {"lora_r": rank})
    ranks, machines = (_count(text, key) or 1 for key in CARDS)
    return {**settings, "cards": ranks * machines}


def _method(text: str) -> str:
    matched = ESTIMATOR.search(text) or SPOKEN.search(text) or SMALL.search(text)
    name = matched[1].lower() if matched else ""
    name = ESTIMATED.get(name, name)
    return name if name in LEARNS else ""


def _number(text: str, key: str) -> int | None:
    """Return the number of a key in a text, found by the end of its name."""
    return _count(text, re.escape(key.rpartition(".")[2]))


def _count(text: str, pattern: str) -> int | None:
    value = _first_value(text, pattern)
    return int(value) if value.isdecimal() else None


def _stands(text: str, key: str, wanted: Value) -> bool:
    """Return whether a text gives a key the value, under any name in `a|b`; EACH means any
    number."""
    values = [_first_value(text, re.escape(n.rpartition(".")[2])) for n in key.split("|")]
    if wanted == EACH:
        return values[-1].isdecimal()
    return str(wanted).lower() in values


def _first_value(text: str, key: str) -> str:
    """Return the first value of a key; "true" for a switch without one, "" without the key."""
    match = re.search(
        rf"(?i)(?<![\w.-])(?:--)?(?:[\w-]+\.)*(?:{key})\b"
        r"(?:[\"']?[ \t]*[=:][ \t]*[\"']?|[ \t]+)?(?P<value>[\w.]+)?",
        text,
    )
    return "" if match is None else (match["value"] or "true").lower()


KIND = Kind(
    name="unanswered",
    title=sentence("title.unanswered"),
    syntaxes=("shell",),
    source="https://github.com/NVIDIA/Megatron-LM @ d98e8a6",
    tells=tells,
    read=read,
)

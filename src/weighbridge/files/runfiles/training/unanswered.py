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

MODEL = re.compile(
    r"(?:actor_rollout_ref\.model\.path|actor\.model\.model_path|policy\.model_name"
    r"|(?:--(?:\w+\.)?(?:model_name_or_path|pretrain|model)))(?:=|[ \t]+)(?P<value>[^\s\\]+)"
)
ASSIGNED = re.compile(r"(?m)^[ \t]*(?:export[ \t]+)?(\w+)=(\S*)")
NAME = re.compile(r"\$\{?(\w+)\}?")
NESTED = 5  # variables within variables


def tells(document: Document) -> bool:
    """Tell whether a document starts a program that is not answered yet."""
    return is_script(document) and bool(_program(document.text))


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run, with what was understood of it and why there is no number."""
    text = document.text
    yield PlannedRun(
        task="train", model=model_in(text), refused=f"{_program(text)} is not answered yet"
    )


def is_script(document: Document) -> bool:
    """Tell whether a text is a script: prose that names a program is read as prose."""
    lines = [line for line in document.text.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    return first.startswith("#!") or bool(
        re.match(r"\s*(?:set |export |\w+=|python3? |ray )", first)
    )


def _program(text: str) -> str:
    return next((each.name for each in told_by("script") if re.search(each.script, text)), "")


def model_in(text: str) -> str:
    """Return the model that a script of one of these programs names; "" where it does not."""
    named = _value(MODEL, text, _assigned(text))
    return model_of(named) if named else ""


def _assigned(text: str) -> dict[str, str]:
    """Return the variables that a script sets."""
    return {match[1]: match[2].strip("\"'") for match in ASSIGNED.finditer(text)}


def _value(pattern: re.Pattern[str], text: str, assigned: Mapping[str, str]) -> str:
    """Return what a script gives an option, variables in their place; "" where it does not say."""
    option = pattern.search(text)
    value = option["value"].strip("\"'") if option else ""
    for _ in range(NESTED):
        value = filled(NAME.sub(lambda match: assigned.get(match[1], match[0]), value)).strip("\"'")
    return "" if VARIABLE.search(value) or "$" in value else value


# Settings of the model that such a program trains, as those of a training by itself: they fill the
# command that asks about that part alone (in_words.py), and no answer rests on them. Keys are
# looked for as they stand in a command, a config or a script, whatever stands before them.

OF_LEARNERS: Mapping[str, str] = {  # our word -> theirs, as a pattern
    "batch_size": r"(?:ppo_)?micro_batch_size_per_gpu|(?:micro_train|train_micro|per_device_train)"
    r"_batch_size|micro_batch_size_per_device_for_update",
    "prompt": "max_prompt_length|prompt_max_len",
    "answer": "max_response_length|generate_max_len|max_completion_length",
    "seq_len": "max_len|max_length|max_seq_length|max_total_sequence_length",
    "tokens": "ppo_max_token_len_per_gpu",
    "by_tokens": "use_dynamic_bsz",
    "zero": "zero_stage",
    "strategy": r"actor\.strategy",
    "checkpointing": "(?:enable_)?gradient_checkpointing(?:_enable)?",
    "offload": r"(?:actor\.fsdp_config\.optimizer|adam)_offload",
    "lora_r": r"lora_rank|lora\.rank|lora_r|peft_config\.r",
    "packed": "load_in_4bit",
    "cards": r"n_gpus_per_node|actor[._]num_gpus_per_node|nproc[-_]per[-_]node|num_gpus",
    "machines": r"nnodes|actor[._]num_nodes",
}
ADAPTERS = re.compile(r"LoraConfig\([^)]{0,600}?\br ?= ?(\d{1,4})\b")
SHARDS = {"fsdp": "fsdp1", "fsdp2": "fsdp2"}
BY_FSDP = ("verl",)  # programs that share the model out by FSDP where nobody says it


def learner(text: str, program: str, *, started: bool) -> dict[str, Value]:
    """Return the settings of what a program trains; `cards` is how many of them train. `started`:
    its command is in the text, so that what it does not say is its default."""
    values = {
        name: value
        for name, pattern in OF_LEARNERS.items()
        if (value := _first_value(text, pattern))
    }
    rank = ADAPTERS.search(text)
    if rank is not None:
        values.setdefault("lora_r", rank[1])
    return dict(_settings(values, program, started=started))


def _first_value(text: str, key: str) -> str:
    """Return the first value of a key; "true" where it stands alone, as a switch, "" where it does
    not stand in the text."""
    match = re.search(
        rf"(?i)(?<![\w-])(?:--)?(?:\w+[._])*(?:{key})\b"
        r"(?:[\"']?[ \t]*[=:][ \t]*[\"']?|[ \t]+)?(?P<value>[\w.]+)?",
        text,
    )
    return "" if match is None else (match["value"] or "true").lower()


def _settings(
    values: Mapping[str, str], program: str, *, started: bool
) -> Iterator[tuple[str, Value]]:
    numbers = {name: int(value) for name, value in values.items() if value.isdecimal()}
    method = _method(values, numbers, started=started)
    if method:
        yield "method", method
    if method in ("lora", "qlora") and numbers.get("lora_r"):
        yield "lora_r", numbers["lora_r"]
    yield from _of_a_step(values, numbers)
    if values.get("checkpointing") == "true":
        yield "checkpointing", "full"
    if values.get("offload") == "true":
        yield "offload", "optimizer"
    cards = numbers.get("cards", 0) * numbers.get("machines", 1)
    shard = _shard(values, program) if cards != 1 else ""
    yield from ((name, value) for name, value in (("shard", shard), ("cards", cards)) if value)


def _method(values: Mapping[str, str], numbers: Mapping[str, int], *, started: bool) -> str:
    if values.get("packed") == "true":
        return "qlora"
    return "lora" if numbers.get("lora_r") else "full" if started else ""


def _of_a_step(values: Mapping[str, str], numbers: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the length and the batch of a step: where it is filled up to a number of tokens, these
    are one long sequence."""
    if values.get("by_tokens") == "true" and numbers.get("tokens"):
        yield from (("seq_len", numbers["tokens"]), ("batch_size", 1))
        return
    both = numbers.get("prompt"), numbers.get("answer")
    length = sum(filter(None, both)) if all(both) else numbers.get("seq_len")
    if length:
        yield "seq_len", length
    if numbers.get("batch_size"):
        yield "batch_size", numbers["batch_size"]


def _shard(values: Mapping[str, str], program: str) -> str:
    stage = values.get("zero", "")
    if stage in ("1", "2", "3"):
        return f"zero{stage}"
    return SHARDS.get(values.get("strategy", "fsdp" if program in BY_FSDP else ""), "")


KIND = Kind(
    name="unanswered",
    title=sentence("title.unanswered"),
    syntaxes=("shell",),
    source="https://github.com/NVIDIA/Megatron-LM @ d98e8a6",
    tells=tells,
    read=read,
)

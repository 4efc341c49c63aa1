"""Settings of the model that a program of RL trains, as those of a training by itself: they fill
the command that asks about that part alone (asking.py), and no answer rests on them.

Keys are looked for as they stand in a command, a config or a script, whatever stands before them.

Sources: verl main (trainer/config/ppo_trainer.yaml, workers/fsdp_workers.py), OpenRLHF
(openrlhf/cli/train_ppo_ray.py), TRL (trainer/grpo_config.py), NeMo-RL (examples/configs/).
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.files.runfiles.record import Value

KEYS: Mapping[str, str] = {  # our word -> theirs, as a pattern
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
RANK = re.compile(r"LoraConfig\([^)]{0,600}?\br ?= ?(\d{1,4})\b")
SHARDS = {"fsdp": "fsdp1", "fsdp2": "fsdp2"}
BY_FSDP = ("verl",)  # programs that share the model out by FSDP where nobody says it


def learner(text: str, program: str, *, started: bool) -> dict[str, Value]:
    """Return the settings of what a program trains; `cards` is how many of them train. `started`:
    its command is in the text, so that what it does not say is its default."""
    values = {name: value for name, pattern in KEYS.items() if (value := _value(text, pattern))}
    rank = RANK.search(text)
    if rank is not None:
        values.setdefault("lora_r", rank[1])
    return dict(_settings(values, program, started=started))


def _value(text: str, key: str) -> str:
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

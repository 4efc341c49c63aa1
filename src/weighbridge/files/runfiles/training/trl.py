"""TRL's YAML, and arguments of the same names: what scripts of TRL and of transformers are given.

Sources: trl @ f2cd5771: trainer/base_config.py (checkpointing on, bf16 on), sft_config.py
(max_length 1024), model_config.py (lora_r 16, nested quantization off); what open-instruct's own
scripts call otherwise (max_seq_length, use_lora).
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.files.runfiles import rules
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.reading import KeyReading, reading
from weighbridge.files.runfiles.record import Kind, PlannedRun, Understood, Value
from weighbridge.files.runfiles.tables import phrased, table, worded
from weighbridge.files.runfiles.training import arguments, learned, zero
from weighbridge.files.runfiles.training.zero import contradicted

KEYS = arguments.merged(arguments.KEYS, text_beside(__file__, "trl.txt"))
OWN = ("per_device_train_batch_size", "learning_rate", "num_train_epochs", "torch_dtype")
SAVED = ("per_device_train_batch_size", "output_dir", "learning_rate")  # TrainingArguments
OPEN_INSTRUCT = "with_tracking"  # its scripts load in bfloat16; accelerate decides the rest
LAUNCHED = "how accelerate launches it, and what is shared out, is not in this file"
DROPOUT, ALPHA = 0.05, 32  # of TRL's adapters
LENGTHS = ("max_length", "max_seq_length", "model_max_length", "block_size", "max_seq_len")


def tells(document: Document) -> bool:
    """Return whether a document is TRL's or the Trainer's: it has a model and arguments, or all
    usual arguments."""
    data = document.data
    if not isinstance(data, dict):
        return False
    named = "model_name_or_path" in data and any(key in data for key in OWN)
    return named or all(key in data for key in SAVED)


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of a config; saved arguments of the Trainer name no model."""
    if OPEN_INSTRUCT in document.data:
        run = of_arguments(document, framework="accelerate", note=LAUNCHED)
        halves = {"precision": "bf16-mixed", "dtype": "bfloat16"}
        yield replace(run, settings={**run.settings, **halves})
        return
    saved = all(key in document.data for key in SAVED) and not any(
        key in document.data for key in ("model_name_or_path", "max_length", "packing")
    )
    run = of_arguments(document, framework="trainer" if saved else "trl")
    yield run if saved else with_dropout(run)


# Configs of accelerate that TRL ships, by name or where its repository has them (trl @ f2cd5771
# trl/accelerate_configs/; trl/scripts/utils.py) -> how they share a model out
SHIPPED = re.compile(
    r"(?:.*accelerate_configs/)?(?:deepspeed_)?(single_gpu|multi_gpu|fsdp[12]|zero[123])(?:\.yaml)?"
)
SHARES = {"single_gpu": "none", "multi_gpu": "ddp"}


def shipped(named: object) -> str:
    """Return the sharding of a config that TRL ships; "" for other names."""
    match = SHIPPED.fullmatch(str(named))
    return "" if match is None else SHARES.get(match[1], match[1])


def shared_out(run: PlannedRun, key: str, named: str, line: int) -> PlannedRun:
    """Return a run with the sharding of a config that TRL ships."""
    known = Understood(key=key, value=named, setting="shard", line=line)
    return replace(
        run,
        settings={**run.settings, "shard": shipped(named)},
        understood=(*run.understood, known),
        unread=tuple(one for one in run.unread if one.key != key.lstrip("-")),
        notes=(*run.notes, sentence("base.by_name", base=named)),
    )


def with_dropout(run: PlannedRun) -> PlannedRun:
    """Return a run of TRL's own script with its adapters' dropout and scale, unless a file sets
    them: PEFT's own config, which other scripts use, has other defaults. The scale does not affect
    memory, but a new file for another program must state it."""
    if run.settings.get("tuner", run.settings.get("method")) not in ("lora", "qlora", "dora"):
        return run
    settings = {"lora_alpha": ALPHA, "lora_dropout": DROPOUT, **run.settings}
    usual_dropout = (("lora_dropout", DROPOUT, "TRL's own lora_dropout"),)
    defaults = () if "lora_dropout" in run.settings else usual_dropout
    return replace(run, settings=settings, defaults=(*run.defaults, *defaults))


def of_arguments(
    document: Document, framework: str, note: str = "", method: str = ""
) -> PlannedRun:
    """Return the run of arguments with these names; `method`: what it learns, if its program or
    class shows it."""
    keys = reading(document, KEYS)
    method = method or learned.method_of(keys)
    if method:
        framework = "trl" if framework == "trainer" else framework
        keys = reading(document, learned.keys_of(framework, KEYS))
    keys.settings["framework"] = framework
    model = arguments.name_of(keys, "model_name_or_path")
    if note:
        keys.notes.append(note)
    keys.take(next((name for name in LENGTHS if name in keys.data), LENGTHS[0]), "seq_len")
    keys.used.update(LENGTHS)
    doubled = rules.decide(keys, "TRL")
    arguments.fsdp(keys)
    arguments.sequence(keys)
    _zero(keys)
    if method:
        learned.take(keys, method)
    keys.plain()
    refused = learned.refusal(method)
    if refused:
        keys.used.update(keys.data)
    return keys.run(model, refused=refused or doubled or contradicted(keys))


def _zero(keys: KeyReading) -> None:
    """Read DeepSpeed's config, from the arguments or from its own file."""
    config = keys.value("deepspeed")
    if isinstance(config, dict):
        keys.used.update(f"deepspeed.{name}" for name in config)
        zero.shared(keys, f"deepspeed.{zero.ZERO}")
        keys.zero = ("deepspeed", config)
    elif config is True:  # DeepSpeed's own argument: the script hands it over by itself
        arguments.zero_named(keys, "deepspeed_config")
        keys.zero = None
    else:
        arguments.zero_named(keys)


WRITTEN = table(KEYS).names["written"]
SAID = table(KEYS).phrases
OFFLOADS = {("zero2", "optimizer"): "zero2_offload.json", ("zero3", "params"): "zero3_offload.json"}
NEW: Mapping[str, Value] = {  # keys that it requires and that decide no memory
    "dataset_name": "trl-lib/Capybara",
    "num_train_epochs": 1.0,
    "learning_rate": 0.0002,
    "output_dir": "./out",
}
NAMES: Mapping[str, str] = {
    **WRITTEN,
    "dtype": "dtype",
    "lora_targets": "lora_target_modules",
    "use_reentrant": "gradient_checkpointing_kwargs.use_reentrant",
}


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the keys of a new file that starts a run. Raises UsageError for what TRL rejects."""
    settings = run.settings
    arguments.named_optimizer("trl", settings["optimizer"])
    words = {
        "model_name_or_path": run.model,
        **worded(settings, KEYS, NAMES, {**SAID, **table(KEYS).newly}),
        **NEW,
    }
    return words | arguments.shared_and_evaluated(settings, OFFLOADS)


KIND = Kind(
    name="trl",
    title=sentence("title.config", program="TRL"),
    syntaxes=("yaml", "json"),
    source="https://github.com/huggingface/trl @ f2cd5771",
    tells=tells,
    read=read,
    written=partial(phrased, names=WRITTEN, phrases=SAID),
    fresh=fresh,
)

"""Frameworks that prose names, and what each takes where nobody says it.

    "QLoRA with LLaMA-Factory"   the run of its YAML with that method and nothing else in it

The smallest file of the framework is written and read by the reader of its kind, so that its
defaults stand in one place. What stands in such a file besides, since people hardly leave it out,
is assumed and told.
"""

import re
from collections.abc import Mapping

from weighbridge.records import NamedTuple
from weighbridge.runfiles.claims import claims, counted
from weighbridge.runfiles.document import documents
from weighbridge.runfiles.kinds import named as kind_named
from weighbridge.runfiles.record import Value

NAMES: Mapping[str, str] = {
    "llama-factory": r"(?i)(?<![a-z])llama-?factory(?![a-z])",
    "axolotl": r"(?i)(?<![a-z])axolotl(?![a-z])",
    "unsloth": r"(?i)(?<![a-z])unsloth(?![a-z/:_.])",
    "torchtune": r"(?i)(?<![a-z])torch-?tune(?![a-z])",
    "trl": r"(?<![A-Za-z])(?:TRL|trl|SFTTrainer)(?![A-Za-z])",
}
TITLES = {"llama-factory": "LLaMA-Factory", "trl": "TRL"}
FILES: Mapping[str, Mapping[str, str]] = {  # framework -> method -> its smallest file
    "llama-factory": {
        "full": "finetuning_type: full\n",
        "lora": "finetuning_type: lora\n",
        "qlora": "finetuning_type: lora\nquantization_bit: 4\n",
        "dora": "finetuning_type: lora\nuse_dora: true\n",
    },
    "axolotl": {
        "full": "",
        "lora": "adapter: lora\nlora_target_linear: true\n",
        "qlora": "adapter: qlora\nload_in_4bit: true\nlora_target_linear: true\n",
    },
    "trl": {
        "full": "",
        "lora": "use_peft: true\n",
        "qlora": "use_peft: true\nload_in_4bit: true\n",
    },
}
HEADS: Mapping[str, str] = {
    "llama-factory": "model_name_or_path: a/b\nstage: sft\ncutoff_len: null\nbf16: true\n",
    "axolotl": "base_model: a/b\ndatasets: a\nbf16: auto\n",
    "trl": "model_name_or_path: a/b\ndataset_name: a\nbf16: true\n",
}
METHODS = {"llama-factory": "lora", "unsloth": "qlora"}  # where nobody says it; else full
OWN = "{framework}'s own"
AS_MOST = "as most of {framework}'s files have it (assumed)"
WRITTEN = {"axolotl": ("precision", "lora_targets")}  # what HEADS and FILES say besides


class Recipe(NamedTuple):
    """What a framework takes where nobody says it; `defaults` are told: setting, value, why."""

    framework: str
    settings: Mapping[str, Value]
    defaults: tuple[tuple[str, Value, str], ...]


def named_in(text: str) -> tuple[str, ...]:
    """Return the frameworks that a text says of its run, or asks about."""
    ways = {name: {claim.way for claim in claims(p, text)} for name, p in NAMES.items()}
    return tuple(name for name, found in ways.items() if found and counted(found) != "another")


def recipe(text: str, said: Mapping[str, Value]) -> Recipe | None:
    """Return the recipe of the only framework that a text names, for the method that is `said`;
    None where it names none, or several."""
    names = named_in(text)
    if len(names) != 1:
        return None
    (name,) = names
    title = TITLES.get(name, name)
    usual = METHODS.get(name, "full")
    method = str(said.get("method") or usual)
    told = () if "method" in said else (("method", usual, OWN.format(framework=title)),)
    files = FILES.get(name, {})
    if method not in files:
        return Recipe(name, {"framework": name, "method": method}, told)
    settings, defaults = _of_file(name, f"{HEADS[name]}{files[method]}")
    why = AS_MOST.format(framework=title)
    written = WRITTEN.get(name, ("precision",))
    told = (*told, *defaults, *((n, settings[n], why) for n in written if n in settings))
    if "lora_r" in said:  # which follows from the rank
        settings.pop("lora_alpha", None)
    return Recipe(name, {"method": method, **settings}, told)


def _of_file(name: str, text: str) -> tuple[dict[str, Value], tuple[tuple[str, Value, str], ...]]:
    """Return what the reader of a kind makes of a file: all settings, and its defaults."""
    kind = kind_named(name)
    (document,) = documents(text, "yaml", name)
    (run,) = kind.read(document)
    return dict(run.settings), run.defaults


def spans(text: str) -> list[tuple[int, int]]:
    """Return the characters of a text that name a framework."""
    return [match.span() for pattern in NAMES.values() for match in re.finditer(pattern, text)]

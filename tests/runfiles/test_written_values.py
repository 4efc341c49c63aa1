"""The law of the tables that are read and written: what a word writes is read as it was meant."""

import yaml
from tests.cases import all_of

from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.tables import phrased, table
from weighbridge.files.runfiles.training import (
    axolotl,
    litgpt,
    llama_factory,
    torchtitan,
    torchtune,
    trl,
)

HF = {"model_name_or_path": "org/name", "per_device_train_batch_size": 2, "learning_rate": 1e-4}
BESIDE = {  # a file of each kind, with adapters
    axolotl: {"base_model": "org/name", "micro_batch_size": 1, "adapter": "lora", "lora_r": 8},
    llama_factory: {**HF, "finetuning_type": "lora", "cutoff_len": 512, "lora_target": "all"},
    trl: {**HF, "num_train_epochs": 1, "bf16": True, "use_peft": True, "lora_r": 8},
    torchtune: {
        "model": {"_component_": "torchtune.models.llama3_1.lora_llama3_1_8b", "lora_rank": 8},
        "tokenizer": {"_component_": "torchtune.models.llama3.llama3_tokenizer"},
        "batch_size": 1,
    },
    litgpt: {"checkpoint_dir": "checkpoints/org/name", "out_dir": "o", "train": {}, "lora_r": 8},
    torchtitan: {"model": {"name": "llama3", "flavor": "8B"}, "training": {"seq_len": 512}},
}
MORE = {  # without which a word means another value
    (axolotl, "context_parallel_by"): {"context_parallel_size": 2},
    (axolotl, "nf4-dq"): {"peft_use_dora": True},  # LoRA of it is QLoRA, whose own form it is
    (llama_factory, "qlora"): {"quantization_bit": 4},
    (trl, "qlora"): {"load_in_4bit": True},
    (torchtitan, "pipeline_schedule"): {"parallelism.pipeline_parallel_degree": 2},
    (torchtitan, "context_parallel_by"): {"parallelism.context_parallel_degree": 2},
}


def nested(words):
    data = {}
    for key, value in words.items():
        *above, last = key.rpartition("|")[2].split(".")
        at = data
        for part in above:
            at = at.setdefault(part, {})
        at[last] = list(value) if isinstance(value, tuple) else value
    return data


def merged(data, words):
    for key, value in words.items():
        if isinstance(value, dict):
            data = {**data, key: merged(data.get(key, {}), value)}
        else:
            data = {**data, key: value}
    return data


def settings(kind, words):
    data = merged(BESIDE[kind], nested(words))
    if kind is torchtitan:
        text = "".join(
            f"[{name}]\n" + "".join(f"{k} = {v!r}\n" for k, v in part.items())
            for name, part in data.items()
        )
    else:
        text = yaml.safe_dump(data)
    (run,) = read(text, "run", kind.KIND.name).runs
    return run.settings


ROWS = [
    (kind, setting, value, words)
    for kind in BESIDE
    for rows in (table(kind.KEYS).phrases, table(kind.KEYS).newly)
    for (setting, value), words in rows.items()
]


def ids(row):
    return f"{row[0].KIND.name} {row[1]} {row[2]}"


@all_of(("kind", "setting", "value", "words"), ROWS, ids)
def test_what_a_value_is_written_as_is_read_as_that_value(kind, setting, value, words):
    more = MORE.get((kind, setting), {}) | MORE.get((kind, value), {})
    assert settings(kind, {**more, **words})[setting] == value


SAME = [
    (kind, key, value, meaning)
    for kind in BESIDE
    for key, meanings in table(kind.KEYS).values.items()
    if len(meanings) > 2 and kind is not torchtitan  # selective alone says no operators
    for value, meaning in meanings.items()
]


@all_of(("kind", "key", "value", "meaning"), SAME)
def test_every_spelling_of_a_value_is_read_as_that_value(kind, key, value, meaning):
    assert meaning in settings(kind, {key: yaml.safe_load(value)}).values()


def test_a_table_of_values_is_read_and_written():
    keys = table(
        "[settings]\nb batch_size\n[values]\nloss liger  liger = true; plugins += a.B\n"
        "checkpointing offload  gc = offload | unsloth\ncheckpointing full  gc = true\n"
        "[new]\nloss liger  fused = 1\n"
    )
    assert keys.settings == {"b": "batch_size"}
    assert keys.values["gc"] == {"offload": "offload", "unsloth": "offload", "true": "full"}
    assert keys.phrases["loss", "liger"] == {"liger": True, "plugins": ("a.B",)}
    assert keys.newly == {("loss", "liger"): {"fused": 1}}
    change = {"checkpointing": "offload", "batch_size": 2}
    assert phrased(change, {"batch_size": "b"}, keys.phrases) == {"gc": "offload", "b": 2}
    assert phrased({"loss": "chunked"}, {}, keys.phrases) is None

"""Public run files, as facts: what each says of memory, where it stands, and the run that it is.

`given` holds the keys of a file that decide memory, or may; what decides none is left out.
"""

import json
from pathlib import Path

import pytest
import yaml

from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.kinds import named
from weighbridge.files.runfiles.patching import applied
from weighbridge.workload.train import REWARDS

FOLDER = Path(__file__).parent / "public"
ROWS = [
    pytest.param(path.stem, json.loads(line), id=f"{path.stem}-{number}")
    for path in sorted(FOLDER.glob("*.jsonl"))
    for number, line in enumerate(path.read_text().splitlines())
]


def written(row: dict) -> str:
    """Write the facts of a file in its own syntax."""
    given = row["given"]
    if row["syntax"] == "yaml":
        return yaml.safe_dump_all(given, sort_keys=False)
    if row["syntax"] == "json":
        return json.dumps(given[0], indent=2)
    if row["syntax"] == "toml":
        return "".join(toml(given[0], ()))
    return given


def toml(data: dict, above: tuple[str, ...]):
    values = {name: value for name, value in data.items() if not isinstance(value, dict)}
    if above:
        yield f"[{'.'.join(above)}]\n"
    for name, value in values.items():
        yield f"{name} = {json.dumps(value)}\n"
    for name, value in data.items():
        if isinstance(value, dict):
            yield from toml(value, (*above, name))


def said(run) -> dict:
    told = {
        "task": run.task,
        "model": run.model,
        "name": run.name,
        "settings": dict(run.settings),
        "command": run.command,
        "unread": [one.key for one in run.unread],
        "refused": run.refused,
    }
    return {name: value for name, value in told.items() if value}


@pytest.mark.parametrize(("kind", "row"), ROWS)
def test_a_public_file_is_the_run_that_it_starts(kind, row):
    """A value's place in the text holds that value, too: a patch writes there."""
    text = written(row)
    found = read(text, "run")
    assert row["source"].startswith("https://")
    assert (found.kind, found.title) == (kind, named(kind).title)
    assert json.loads(json.dumps([said(run) for run in found.runs])) == row["runs"]
    for one in (one for run in found.runs for one in run.understood if one.end):
        assert one.line == text.count("\n", 0, one.start) + 1
        stood = text[one.start : one.end].strip()
        assert stood
        if isinstance(one.value, str | int | float) and not isinstance(one.value, bool):
            assert str(one.value)[:8] in stood or yaml.safe_load(stood) == one.value


WRITABLE = ("axolotl", "llama-factory", "trl", "torchtune", "torchtitan", "litgpt")
CHANGES = [
    {"batch_size": 3},
    {"seq_len": 777},
    {"checkpointing": "full"},
    {"gradient_accumulation": 7},
    {"optimizer": "adamw_8bit"},
    {"loss": "liger"},
]
BESIDE = {("litgpt", "batch_size")}  # its accumulation follows from the global batch


@pytest.mark.parametrize("kind", WRITABLE)
def test_a_change_that_is_written_is_read_as_it_was_meant(kind):
    """Every change that a kind has words for, in each public file of it, and nothing else."""
    written_ones = 0
    for row in (case.values[1] for case in ROWS if case.values[0] == kind):
        text = written(row)
        run = read(text, "run", kind).runs[0]
        for change in CHANGES if not run.refused else ():
            words = named(kind).written(change)
            if words is None or (kind, *change) in BESIDE:
                continue
            if run.settings.get("method") in REWARDS and "seq_len" in change:  # of two numbers
                continue
            (document,) = documents(text, row["syntax"])
            after = applied(document, run, words)
            again = read(after, "run", kind).runs[0]
            assert plain(again.settings) == plain({**run.settings, **change}), (
                row["source"],
                change,
            )
            written_ones += 1
    assert written_ones >= 8


def plain(settings: dict) -> dict:
    return json.loads(json.dumps(dict(settings)))


def test_a_builder_names_the_model_where_no_folder_does():
    text = (
        "model: {_component_: torchtune.models.llama3_1.lora_llama3_1_8b, lora_rank: 8}\n"
        "batch_size: 1\ntokenizer: {_component_: torchtune.models.llama3.llama3_tokenizer}\n"
    )
    (run,) = read(text, "run.yaml").runs
    assert run.model == "llama3.1-8b"
    (run,) = read(text.replace("lora_llama3_1_8b", "made_up_8b"), "run.yaml").runs
    assert run.model == ""


def test_a_file_that_a_launcher_is_told_of_is_not_passed_over():
    text = (
        "accelerate launch --config_file fsdp.yaml --num_processes 4 train.py "
        "--model_name_or_path org/name --per_device_train_batch_size 1\n"
    )
    (run,) = read(text, "train.sh").runs
    assert any(one.key == "--config_file" and "fsdp.yaml" in one.why for one in run.unread)

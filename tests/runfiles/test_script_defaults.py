"""Defaults in a training script: what its arguments, data classes and variables are given."""

import pytest
from tests.cases import all_of

from weighbridge.files.runfiles import read

SCRIPT = """\
import os, argparse, torch
from dataclasses import dataclass, field
from transformers import AutoModelForCausalLM, HfArgumentParser
from trl import SFTConfig, SFTTrainer
{before}
model = AutoModelForCausalLM.from_pretrained({model}, dtype=torch.bfloat16)
args = SFTConfig(per_device_train_batch_size={size}, max_length=2048)
SFTTrainer(model=model, args=args)
"""


def of(before="", model='"Qwen/Qwen3-8B"', size="2"):
    (run,) = read(SCRIPT.format(before=before, model=model, size=size), "run.py").runs
    return run


@pytest.mark.parametrize(
    "model",
    ['os.environ.get("MODEL", "a/b")', 'os.getenv("MODEL", "a/b")'],
)
def test_a_model_of_the_environment_is_its_default_and_said_to_be(model):
    run = of(before=f"NAME = {model}", model="NAME")
    assert run.model == "a/b"
    assert any("line 5: 'MODEL' is taken at its default, 'a/b'" in note for note in run.notes)


PARSER = "p = argparse.ArgumentParser()\np.add_argument({})\na = p.parse_args()"
CLASS = "@dataclass\nclass S:\n    bs: int = {}\n(s,) = HfArgumentParser(S).parse_args_into_dataclasses()"


@all_of(
    ("before", "size"),
    [
        (PARSER.format('"--bs", type=int, default=8'), "a.bs"),
        (PARSER.format('"-b", "--batch-size", default=8'), "a.batch_size"),
        (PARSER.format('"--x", dest="bs", default=8'), "a.bs"),
        (CLASS.format("8"), "s.bs"),
        (CLASS.format("field(default=8, metadata={})"), "s.bs"),
        ('config = {"bs": 8}', 'config["bs"]'),
        ('config = {"train": {"bs": 8}}', 'config["train"]["bs"]'),
    ],
)
def test_a_size_is_the_default_of_its_argument(before, size):
    run = of(before=before, size=size)
    assert run.settings["batch_size"] == 8
    assert run.settings["dtype"] == "bfloat16"
    said = any(f"{size} is taken at its default, 8" in note for note in run.notes)
    assert said != size.startswith("config")


def test_what_has_no_default_is_unknown_and_its_line_is_named():
    run = of(before=PARSER.format('"--bs", type=int'), size="a.bs")
    (told,) = run.unread
    assert (told.key, told.line) == ("per_device_train_batch_size", 9)
    assert told.raises and told.lowers
    run = of(before=PARSER.format('"--model"'), model="a.model")
    assert run.model == ""

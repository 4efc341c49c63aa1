"""`--fix` of answers made by hand: a change that fits is written where the file says it, and the text
is read as the run that it was with that change."""

from types import SimpleNamespace

import pytest
from tests.cases import all_of

from weighbridge.base.memory import Bytes
from weighbridge.base.units import GIB
from weighbridge.files.runfiles import patching, read
from weighbridge.files.runfiles.patching import patched, shared_value, unsaid
from weighbridge.memory.report.verdict import Remedy

NOTEBOOK = """{
 "cells": [
  {"cell_type": "code", "source": [
    "from trl import SFTConfig, SFTTrainer\\n",
    "args = SFTConfig(output_dir='x', per_device_train_batch_size=8)\\n",
    "SFTTrainer(model='Qwen/Qwen3-8B', args=args).train()\\n"
  ]}
 ],
 "nbformat": 4, "nbformat_minor": 5, "metadata": {}
}
"""
AXOLOTL = "base_model: org/name\nadapter: qlora\nload_in_4bit: true\nmicro_batch_size: 8\n"
SERVE = "vllm serve org/name --max-model-len 8192 --port 80\n"
TRAIN = "llamafactory-cli train --stage sft --model_name_or_path org/name --cutoff_len 512\n"
CASES = [  # a file, its name, a change, its flags, and the line that there is for another
    (AXOLOTL, "run.yaml", {"batch_size": 1}, "", ("batch_size: 8", "batch_size: 1")),
    (SERVE, "s.sh", {"context": 99}, "--max-model-len 99", ("8192", "99")),
    (
        SERVE,
        "s.sh",
        {"max_num_seqs": 4},
        "--max-num-seqs 4",
        ("serve org/name", "serve org/name --max-num-seqs 4"),
    ),
    (NOTEBOOK, "a.ipynb", {"batch_size": 2}, "", ("batch_size=8", "batch_size=2")),
]


def remedy(change, flags="", fits="yes", **more):
    return Remedy(change=change, peak_bytes=1, fits=fits, cost="", flags=flags, **more)


def weighed(text, name, *remedies, fits="no", verdict=None):
    """A file whose runs have the same answer."""
    file = read(text, name)
    report = SimpleNamespace(remedies=remedies, verdict=verdict)
    runs = [SimpleNamespace(fits=fits, run=run, report=report) for run in file.runs]
    return SimpleNamespace(file=file, runs=runs)


@all_of(("text", "name", "change", "flags", "edit"), CASES)
def test_a_change_is_written_where_it_is_said_and_nowhere_else(text, name, change, flags, edit):
    one = remedy(change, flags)
    patch = patched(weighed(text, name, one))
    assert patch.after == text.replace(*edit)
    assert patch.remedies == (one,)
    assert patch.applies
    assert patched(weighed(text, name, one, fits="yes")).after == text


def test_the_first_that_surely_fits_and_that_a_file_can_say_is_written():
    no, never = remedy({"batch_size": 2}, fits="unknown"), remedy({"gpu": "h100:8"})
    good, later = remedy({"batch_size": 4}), remedy({"batch_size": 1})
    patch = patched(weighed(AXOLOTL, "run.yaml", no, never, good, later))
    assert patch.remedies == (good,)
    assert patched(weighed(AXOLOTL, "run.yaml", no, never)) is None
    silent = SimpleNamespace(fits=None, run=read(AXOLOTL, "r.yaml").runs[0], report=None)
    assert patched(SimpleNamespace(file=read(AXOLOTL, "r.yaml"), runs=[silent])) is None


METHOD = {"method": "lora", "lora_r": 8}


@all_of(
    ("fits", "more", "written"),
    [
        ("yes", {}, True),
        ("no", {}, False),
        ("yes", {"dtype": "bfloat16"}, True),
        ("yes", {"lora_alpha": 3}, True),
        ("yes", {"loss": "liger"}, False),
        ("yes", {"lora_r": 9}, False),
    ],
)
def test_a_method_is_weighed_with_what_its_program_takes_for_it(monkeypatch, fits, more, written):
    """What the file's own program brings besides may be adapters' and the dtype, and no more."""
    monkeypatch.setattr(patching, "_says", lambda *_: False)
    file = weighed(AXOLOTL, "run.yaml", remedy(METHOD))
    monkeypatch.setattr(patching, "_texts", lambda *_: iter(["after"]))
    run = file.runs[0].run
    told = SimpleNamespace(settings={**run.settings, **METHOD, **more})
    report = SimpleNamespace(peak=SimpleNamespace(expected=77))
    again = SimpleNamespace(runs=[SimpleNamespace(fits=fits, run=told, report=report)])
    patch = patched(file, lambda _: again)
    assert (patch is not None) is written
    assert not written or patch.remedies[0].peak_bytes == 77
    assert patched(file) is None


def test_why_no_change_is_written_is_said():
    gpu, long = remedy({"gpu": "h100:8"}), remedy({"zero_sub_group_size": 4}, "--z 4")
    other = remedy({"batch_size": 2}, "--batch-size 2", fits="unknown")
    told = unsaid(weighed(AXOLOTL, "run.yaml", gpu, long, other))
    assert told == ("--z 4", "a axolotl config has no key for it", "--batch-size 2")
    told = unsaid(weighed(SERVE, "s.sh", remedy({"context": 9}, "--x 9")))
    assert told == ("--x 9", patching.IN_A_LINE, "")
    told = unsaid(weighed(AXOLOTL, "run.yaml", remedy({"batch_size": 1}, "-b")))
    assert told.why == patching.NO_PLACE
    assert unsaid(weighed(AXOLOTL, "run.yaml", gpu)) is None
    assert unsaid(weighed(AXOLOTL, "run.yaml", long, fits="yes")) is None


@all_of(
    ("size", "shared"),
    [("x: &mb 4\nmicro_batch_size: *mb", (5, "*mb")), ("micro_batch_size: &mb 4", (4, "&mb"))],
)
def test_a_value_that_aliases_share_has_no_place(size, shared):
    text = AXOLOTL.replace("micro_batch_size: 8", size)
    assert shared_value(weighed(text, "run.yaml", remedy({"batch_size": 1}))) == shared
    assert shared_value(weighed(AXOLOTL, "run.yaml", remedy({"batch_size": 1}))) is None


POD = """apiVersion: v1
kind: Pod
metadata: {name: server}
spec:
  containers:
  - name: vllm
    image: vllm/vllm-openai:v0.26.0
    args: [org/name, --max-model-len, "4096"]
    resources:
      limits:
        nvidia.com/gpu: 1
        memory: 1Gi
"""
SERVICE = """services:
  vllm:
    image: vllm/vllm-openai:v0.26.0
    command: org/name --max-model-len 4096
    mem_limit: "1g"
"""


def short(host="no", count=1, high=5, low=5):
    """A verdict of a run for which host memory is too little, and device memory may be."""
    return SimpleNamespace(
        host=host and SimpleNamespace(fits=host, container=7 * GIB + 5),
        count=count,
        per_device=Bytes(1, 2, high),
        usable=Bytes(low, low, low),
    )


@all_of(
    ("text", "name", "edit"),
    [(POD, "pod.yaml", ("1Gi", "7Gi")), (SERVICE, "compose.yaml", ('"1g"', '"7g"'))],
)
def test_a_limit_that_alone_lacks_is_raised_in_whole_gib(text, name, edit):
    patch = patched(weighed(text, name, verdict=short()))
    assert patch.after == text.replace(*edit)
    (one,) = patch.remedies
    assert (one.change, one.peak_bytes, one.fits) == ({"ram": "7GiB"}, 2, "yes")


@all_of(
    ("changed", "raises"),
    [
        ({"host": "unknown"}, True),
        ({"host": "yes"}, False),
        ({"host": None}, False),
        ({"count": 0}, False),
        ({"high": 6}, False),
        ({"low": 6}, True),
    ],
)
def test_a_limit_is_raised_where_nothing_else_lacks(changed, raises):
    patch = patched(weighed(POD, "pod.yaml", verdict=short(**changed)))
    assert (patch is not None) is raises


def test_a_limit_that_is_not_in_the_file_has_no_place():
    text = POD.replace("        memory: 1Gi\n", "")
    assert patched(weighed(text, "pod.yaml", verdict=short())) is None


@pytest.mark.parametrize("key", ["mem_limit", "other"])
def test_a_limit_has_the_name_that_its_file_gives_it(key):
    text = SERVICE.replace("mem_limit", key)
    patch = patched(weighed(text, "compose.yaml", verdict=short()))
    assert (patch and patch.remedies[0].flags) == (None if key == "other" else "mem_limit 7g")

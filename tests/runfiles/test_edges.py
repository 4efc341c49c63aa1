"""Edges of what texts are read by, each by hand: where one more or one less makes another answer."""

import io
import json
import pickle
import zipfile
from types import SimpleNamespace

import pytest
from tests.cases import all_of
from tests.runfiles.test_jobs import NODES, indexed

from weighbridge.base.memory import Bytes, exactly
from weighbridge.files.runfiles import weighing
from weighbridge.files.runfiles.apart import apart
from weighbridge.files.runfiles.cards import card
from weighbridge.files.runfiles.diffs import as_in
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.flags import flagged
from weighbridge.files.runfiles.kinds import read
from weighbridge.files.runfiles.named import models, unknown_model
from weighbridge.files.runfiles.record import PlannedRun, Understood
from weighbridge.files.runfiles.segments import grows
from weighbridge.files.runfiles.serving.start_logs import starts
from weighbridge.files.runfiles.slurm import SlurmJob, advice, environment
from weighbridge.files.runfiles.tables import phrased
from weighbridge.files.runfiles.training import accelerate, jobs, saved, zero
from weighbridge.files.runfiles.training.arrays import MOST, filled_in


@all_of(
    ("line", "prose"),
    [
        ("vllm serve org/name but it dies", "but it dies"),
        ("vllm serve org/name but", ""),
        ("vllm serve org/name, it dies", "it dies"),
        ("vllm serve but it dies", "but it dies"),
        ("vllm serve org/name 然后", "然后"),
        ("vllm serve org/name --enforce-eager but it dies", "but it dies"),
        ("vllm serve org/name --port but 1", ""),
        ("vllm serve but --port 1 and then it dies", "and then it dies"),
    ],
)
def test_prose_behind_a_line_begins_where_it_is_no_argument(line, prose):
    assert apart(line) == (line.removesuffix(prose).rstrip(" ,"), prose)


@all_of(
    ("raw", "end"),
    [(b"a\r\nb\r\n", "\r\n"), (b"a\r\nb\n", "\n"), (b"a\r\nb\r\nc\n", "\r\n"), (b"a\nb\n", "\n")],
)
def test_a_new_line_ends_as_most_of_the_others(raw, end):
    before = raw.decode().replace("\r\n", "\n")
    was, after = as_in(raw, before, f"{before}new\n")
    assert (was, after) == (raw.decode(), f"{raw.decode()}new{end}")


ITEMS = ("- --port=1\n", "- --seed=2\n")
MODEL = "- org/name\n"
ANOTHER = "- other/name\n- --port=1\n"


@all_of("place", [0, 1, 2])
def test_a_list_is_found_whole_from_each_item_of_it(place):
    """Flags change in the list that the model is in, wherever it stands there, and in no other."""
    items = [*ITEMS[:place], MODEL, *ITEMS[place:]]
    text = f"before:\n{ANOTHER}args:\n{''.join(items)}after:\n{ANOTHER}"
    run = PlannedRun(task="infer", model="org/name", command="vllm serve org/name")
    changed = "".join(items).replace("port=1", "port=7").replace("seed=2", "seed=8")
    assert next(flagged(text, run, "--port 7 --seed 8")) == (
        f"before:\n{ANOTHER}args:\n{changed}after:\n{ANOTHER}"
    )


@all_of(
    ("words", "trains"),
    [
        (("/opt/bin/torchrun", "train.py"), True),
        (("tune", "run"), True),
        (("accelerate", "config"), False),
        (("/usr/bin/python3", "train.py"), True),
        (("bash", "x"), True),
        (("echo", "torchrun", "x"), False),
    ],
)
def test_a_command_that_starts_a_training_is_told_by_its_first_two_words(words, trains):
    """What is set for it is then the training's."""
    script = f"export PYTORCH_ALLOC_CONF=expandable_segments:True\n{' '.join(words)}\n"
    assert grows(script, "shell") is (True if trains else None)


@all_of(
    ("export", "seen"),
    [
        (None, {"A": "1", "B": "2"}),
        ("ALL,C=3", {"A": "1", "B": "2", "C": "3"}),
        ("A", {"A": "1"}),
        ("NONE", {}),
        ("A,C=d=e", {"A": "1", "C": "d=e"}),
    ],
)
def test_what_a_job_sees_of_its_environment(export, seen):
    assert environment(export, {"A": "1", "B": "2"}) == seen


@all_of(
    ("host", "high", "cards"),
    [(None, 1, True), ("yes", 1, True), ("no", 1, False), ("no", 5, False), ("no", 6, True)],
)
def test_more_cards_help_where_it_is_not_the_host_alone(host, high, cards):
    verdict = SimpleNamespace(
        fits="unknown",
        host=host and SimpleNamespace(fits=host, needed=exactly(1)),
        per_device=Bytes(1, 1, high),
        usable=Bytes(5, 5, 5),
        devices_used=1,
        accelerator_id="nvidia-t4",
    )
    four = SimpleNamespace(change={"gpu": "t4:4"}, fits="yes")
    report = SimpleNamespace(verdict=verdict, remedies=(four,), workload={})
    found = advice(SlurmJob(cards=1, memory=2**30), report)
    assert any("4" in line for line in found.lines) is cards
    assert bool(found.lines) is cards


def test_a_line_of_another_rank_starts_nothing():
    line = "Available KV cache memory: 8.5 GiB\n"
    log = f"{line}(Worker_TP1 pid=3) x {line}"
    for text in (log, f"\n{log}"):
        (start,) = starts(documents(text, "text")[0])
        assert start.size("kv_cache") == 8.5 * 2**30


@pytest.mark.slow
@all_of(
    ("line", "without"),
    [
        ('vllm serve org/name "a"', 'vllm serve org/name "a"'),
        ('vllm serve org/name --port 1"', "vllm serve org/name --port 1"),
        ("vllm serve org/name '", "vllm serve org/name"),
        ("vllm serve org/name --port 1`\\", "vllm serve org/name --port 1"),
    ],
)
def test_quotes_of_the_prose_around_a_line_are_not_of_it(line, without):
    (run,) = read(f"We try {line}", "a.txt").runs
    assert run.command == without


@all_of(
    ("text", "cards"),
    [
        ("H100. 8卡", "H100:8"),
        ("my H100, 8 GPUs", "H100:8"),
        ("H100, nothing", "H100"),
        ("H100, 8 GPUs and 4 GPUs", "H100"),
        ("4x H100 and one H100 NVL", "H100 NVL:4"),  # the longer of two names, the larger count
        ("2x H100 NVL, an H100", "H100 NVL:2"),
        ("4x A100 and an H100 NVL", None),  # two kinds
    ],
)
def test_cards_of_one_kind_are_taken_with_their_number(text, cards):
    found = card(documents(text, "text")[0])
    assert (found and found.value) == cards


def test_a_model_behind_an_address_is_named_by_its_last_word():
    text = "Qwen/Qwen3-4B and https://huggingface.co/Qwen/Qwen3-8B"
    assert [piece.value for piece in models(documents(text, "text")[0])][:2] == [
        "Qwen/Qwen3-4B",
        "Qwen3-8B",
    ]
    told = documents("Qwen3-8B, then Qwen7-77B-Odd.", "text")[0]
    assert unknown_model(told) == "Qwen7-77B-Odd"
    assert unknown_model(documents("Qwen3-8B", "text")[0]) == ""


def test_a_list_of_one_name_is_written_as_that_name():
    phrases = {("lora_targets", "all-linear"): {"lora_target_linear": True}}
    names = {"lora_targets": "lora_target_modules"}
    for value, words in [
        ("all-linear", {"lora_target_linear": True}),
        (("all-linear",), {"lora_target_linear": True}),
        (("q_proj", "v_proj"), {"lora_target_modules": ("q_proj", "v_proj")}),
    ]:
        assert phrased({"lora_targets": value}, names, phrases) == words
    assert phrased({"other": 1}, names, phrases) is None


def test_a_variable_is_filled_until_there_is_no_room():
    assert filled_in("X=1\na $X b") == "X=1\na 1 b"
    script = "X=12\n{}" + "." * (MOST - 10)
    assert filled_in(script.format("$X")) == script.format("12")
    script += "."
    assert filled_in(script.format("$X")) == script.format("$X")


@all_of(
    ("said", "pods"), [("12", 12), ("123456", 123_456), ("1234567", None), ("0", 0), ("x", None)]
)
def test_a_count_of_pods_is_a_whole_number(said, pods):
    """Eight ranks in each, of which there is one at least; of what is no number one is counted."""
    (run,) = read(indexed(NODES.format("$(ELSE)"), said, said), "job.yaml").runs
    assert ("parallelism" in {one.key for one in run.unread}) is (pods is None)
    assert run.settings["data_parallel_size"] == 8 * max(1, pods or 0)


def test_machines_of_a_config_are_its_ranks_by_those_of_each():
    run = PlannedRun(task="train", settings={"data_parallel_size": 16, "ranks_per_machine": 8})
    assert jobs._by_config(run) == 2
    assert jobs._by_config(PlannedRun(task="train")) is None


@all_of("own", ["shard", "offload", ""])
def test_what_the_arguments_of_a_run_share_out_stands_beside_a_config(own):
    said = {"shard": "zero3", "offload": "params", "data_parallel_size": 4}
    shared = PlannedRun(task="train", settings=said)
    run = PlannedRun(
        task="train", understood=(Understood(key="k", value=1, setting=own),) if own else ()
    )
    settings = accelerate.launched(run, shared, counted=False).settings
    assert settings["data_parallel_size"] == 4
    assert ("shard" in settings) is (own == "")
    assert ("offload" in settings) is (own != "offload")
    counted = accelerate.launched(run, shared, counted=True).settings
    assert "data_parallel_size" not in counted


def test_a_notebook_is_read_as_what_its_cells_start():
    """The lines for a shell are a script of their own, whatever the notebook is called."""
    book = (
        '{"cells": [{"cell_type": "code", "source": ["!vllm serve org/name\\n"]}], "nbformat": 4}'
    )
    found = read(book, "a.ipynb")
    assert (found.kind, found.runs[0].model) == ("command", "org/name")
    assert found.text == book


@all_of(
    ("contexts", "chosen"),
    [((8, 9), 1), ((8, 7), None), ((8,), 0), ((), None), ((9, 9), 0)],
)
def test_the_start_of_a_run_is_that_of_its_context_else_the_only_one(contexts, chosen):
    started = [SimpleNamespace(counts={"context": one}) for one in contexts]
    run = SimpleNamespace(report=SimpleNamespace(workload={"context": 9}))
    wanted = None if chosen is None else started[chosen]
    assert weighing._its_start(run, started) is wanted


def test_what_a_config_says_is_no_default_of_the_run():
    run = PlannedRun(task="train", defaults=(("shard", 1, "x"), ("loss", 2, "y")))
    said = {"shard": "zero3", "offload": "params"}
    own = (("offload", "params", "z"), ("precision", "no", "w"))
    shared = PlannedRun(task="train", settings=said, defaults=own)
    after = accelerate.launched(run, shared, counted=False)
    assert after.defaults == (("loss", 2, "y"), ("offload", "params", "z"))


@all_of(("stage", "written"), [("zero3", True), ("zero2", False)])
def test_a_model_is_gathered_to_be_saved_by_the_third_stage_alone(stage, written):
    settings = {"offload": "none", "gather_on_save": True}
    more = {"shard": stage, "framework": "trainer", "context_parallel_size": 1}
    words = zero.fresh(PlannedRun(task="train", settings=settings | more))
    assert words.get(f"{zero.ZERO}.{zero.GATHERS}") is (True if written else None)
    assert not any("offload" in key for key in words)


class Made:
    """What a pickle makes of something, told by what that is made of."""

    def __init__(self, *made_of):
        self.made_of = made_of

    def __reduce__(self):
        return Made, self.made_of


class Arguments:
    def __init__(self, **said):
        self.__dict__ |= said


@all_of(("made_of", "plain"), [((3,), 3), (("no",), "no"), ((), None), ((1, 2), None)])
def test_an_enumeration_that_is_saved_is_what_it_was_made_of(made_of, plain):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        value = Arguments(kind=Made(*made_of), size=1)
        opened.writestr("training_args/data.pkl", pickle.dumps(value))
    found = json.loads(saved.arguments(file.getvalue(), "training_args.bin"))
    assert found == {"size": 1} | ({} if plain is None else {"kind": plain})

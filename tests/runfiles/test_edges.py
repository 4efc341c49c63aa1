"""Edges of what texts are read by, each by hand: where one more or one less makes another answer."""

from types import SimpleNamespace

from tests.cases import all_of

from weighbridge.base.memory import Bytes
from weighbridge.files.runfiles import weighing
from weighbridge.files.runfiles.apart import apart
from weighbridge.files.runfiles.cards import _counted_apart, _without_shorter
from weighbridge.files.runfiles.diffs import as_in
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.flags import _block
from weighbridge.files.runfiles.kinds import read
from weighbridge.files.runfiles.named import Piece, models, unknown_model
from weighbridge.files.runfiles.record import PlannedRun, Understood
from weighbridge.files.runfiles.segments import _trains
from weighbridge.files.runfiles.serving.start_logs import starts
from weighbridge.files.runfiles.slurm import _by_cards, environment
from weighbridge.files.runfiles.tables import phrased
from weighbridge.files.runfiles.text import _without_end
from weighbridge.files.runfiles.training import accelerate, jobs, saved, zero
from weighbridge.files.runfiles.training.arrays import MOST, _filled


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


LIST = "args:\n- a\n- b\n- c\nother: 1\n"


@all_of("at", [LIST.index(item) for item in ("- a", "- b", "- c")])
def test_a_list_is_found_whole_from_each_item_of_it(at):
    assert _block(LIST, at, "") == (LIST.index("- a"), LIST.index("other"))


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
    assert _trains(words) is trains


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
        host=host and SimpleNamespace(fits=host),
        per_device=Bytes(1, 1, high),
        usable=Bytes(5, 5, 5),
    )
    assert _by_cards(verdict) is cards


def test_a_line_of_another_rank_starts_nothing():
    line = "Available KV cache memory: 8.5 GiB\n"
    log = f"{line}(Worker_TP1 pid=3) x {line}"
    for text in (log, f"\n{log}"):
        (start,) = starts(documents(text, "text")[0])
        assert start.size("kv_cache") == 8.5 * 2**30


@all_of(
    ("line", "without"),
    [('vllm "a"', 'vllm "a"'), ('vllm a"', "vllm a"), ("vllm a`\\", "vllm a"), ("'", "")],
)
def test_quotes_of_the_prose_around_a_line_are_not_of_it(line, without):
    assert _without_end(line) == without


@all_of(("text", "count"), [("8卡", 8), ("8 GPUs", 8), ("nothing", 1), ("8 GPUs and 4 GPUs", 1)])
def test_cards_that_are_counted_apart_from_their_name(text, count):
    assert _counted_apart(text) == count


def test_the_longer_of_two_names_of_a_card_has_the_larger_count():
    short, long = Piece("H100", 1), Piece("H100 NVL", 2)
    assert _without_shorter({"a": (4, short), "b": (1, long)}) == {"b": (4, long)}
    both = {"a": (4, Piece("A100", 1)), "b": (1, long)}
    assert _without_shorter(both) == both


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
    assert _filled("a $X b", {"X": "1"}) == "a 1 b"
    whole, left = "$X" + "." * (MOST - 5), "$X" + "." * (MOST - 4)
    assert _filled(whole, {"X": "12"}) == "12" + "." * (MOST - 5)
    assert _filled(left, {"X": "12"}) == left


@all_of(("said", "number"), [("123456", 123_456), ("1234567", None), (0, 0), ("x", None)])
def test_a_count_of_pods_is_a_whole_number(said, number):
    assert jobs._whole(said) == number


@all_of(
    ("machines", "together", "unread", "notes"),
    [(4, False, 0, 0), (1, False, 0, 1), (2, False, 0, 1), (2, True, 1, 0), (3, False, 1, 0)],
)
def test_pods_are_held_against_the_machines_of_a_command(machines, together, unread, notes):
    told = jobs._compared(machines, jobs.Pods(4, ()), together=together)
    assert tuple(map(len, told)) == (unread, notes)


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
    words = zero._on_the_host(settings, stage[-1])
    assert words == ({f"{zero.ZERO}.{zero.GATHERS}": True} if written else {})


@all_of(("made_of", "plain"), [((3,), 3), (("no",), "no"), ((), None), ((1, 2), None)])
def test_an_enumeration_that_is_saved_is_what_it_was_made_of(made_of, plain):
    assert saved._plain(saved.Record(*made_of)) == plain

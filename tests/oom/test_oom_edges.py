"""Edges of what a pasted message is read by, each by hand."""

from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.base.errors import BadFileError
from weighbridge.base.memory import Component, Device, Instant, exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.files.oom import causes, changes, reconcile
from weighbridge.files.oom.reading import _after
from weighbridge.files.oom.record import Judged, OomReading
from weighbridge.files.oom.text import decoded, log, read_size


def test_a_log_of_four_mib_is_read_and_of_a_byte_more_is_not():
    assert decoded(b"x" * (4 * MIB)) == "x" * (4 * MIB)
    with pytest.raises(BadFileError):
        decoded(b"x" * (4 * MIB + 1))


@all_of(
    ("text", "nbytes"),
    [
        (f"{2**63} bytes", None),
        (f"{2**63 - 1} bytes", 2**63 - 1),
        ("1,5 KiB", 1536),
        ("5 xy", 5),
        ("2 TiB", 2 << 40),
    ],
)
def test_sizes_are_powers_of_1024_and_no_limit_is_none(text, nbytes):
    assert read_size(text) == nbytes


def test_lines_are_found_by_where_they_begin_without_blanks():
    """Two numbers at the break of short lines stay two; one that was broken is one."""
    pasted = log("a b c 1\n2 d\ne f\n")
    assert (pasted.packed, pasted.starts) == ("abc1\n2def", (0, 4, 7))
    assert pasted.around(pasted.packed.index("ef"), 1) == "2 d\ne f"
    long = log("x" * 200 + "1\n2 d\n")
    assert long.packed == "x" * 200 + "12d"
    assert long.starts == (0, 201)


@all_of(
    ("text", "after"),
    [("n=5", "5"), ("an=4 n=5", "5"), ("a_n=4", None), ("n= n=5", "5"), ("(n=5", "5")],
)
def test_a_figure_stands_right_behind_its_own_word(text, after):
    assert _after(text, "n", r"=(\d)") == after


def reading(**sizes):
    return OomReading("torch", "torch", {f"{name}_bytes": size for name, size in sizes.items()})


@all_of(
    ("theirs", "capacity", "named"),
    [
        (GIB, 5 * GIB, True),
        (GIB - 1, 4 * GIB, False),
        (GIB, 5 * GIB + 1, False),
        (None, 5 * GIB, False),
        (GIB, None, False),
    ],
)
def test_others_are_named_from_a_fifth_of_a_card_and_a_gib_on(monkeypatch, theirs, capacity, named):
    monkeypatch.setattr(causes, "others", lambda _: theirs)
    before = Judged("activations", "full", "likely", ("logits",))
    after = causes.with_others(reading(capacity=capacity), before)
    assert after.others == (("other_process",) if named else ()) + ("logits",)


def reported(task="infer", usable=None, workload=None, **parts):
    """A report of one device, which does not fit, whose components have so many bytes."""
    made = tuple(Component(name=n, bytes=exactly(b), basis="computed") for n, b in parts.items())
    fullest = Device(index=0, kind="gpu", phases=(Instant("step", made),))
    verdict = None if usable is None else SimpleNamespace(fits="no", usable_bytes=usable)
    return SimpleNamespace(
        task=task, fullest=fullest, verdict=verdict, workload=workload or {}, derived={}
    )


def model(**config):
    return SimpleNamespace(
        parts=(SimpleNamespace(config=config, blueprint=SimpleNamespace(distinct=lambda: ())),)
    )


FULL = Judged("activations", "full", "likely", ("logits",))


@all_of(
    ("task", "parts", "cause", "nbytes"),
    [
        ("infer", {"weights": 5, "kv_cache": 3}, "weights_too_big", 5),
        ("infer", {"weights": 5, "kv_cache": 6}, "kv_cache_too_big", 6),
        # what a step adds to weights that are loaded is the question of a training
        ("train", {"weights": 5, "gradients": 3, "logits": 2}, "optimizer_states", 3),
        ("train", {"weights": 5}, "weights_too_big", 0),
    ],
)
def test_the_largest_part_is_the_one_whose_components_add_up_to_most(task, parts, cause, nbytes):
    """On a card of 100 bytes, which no weights fill alone."""
    told = reconcile.rejudged(reading(), FULL, reported(task, usable=100, **parts), ())
    assert (told.cause, told.figures["model"]) == (cause, nbytes)
    (held,) = (
        one
        for one in reconcile.matches(reading(), reported(**parts), model())
        if one.matches == "device"
    )
    assert held.nbytes == max(parts.values())


@all_of(
    ("size", "usable", "capacity"),
    [(7, 5, 7), (None, 5, 5), (None, None, 1 << 60), (None, 0, 1 << 60)],
)
def test_the_bytes_of_a_device_are_those_of_the_message_first(size, usable, capacity):
    """Weights of more than that did not run as far as a step."""
    found = OomReading("torch", "torch", {"capacity_bytes": size}, place="optimizer")
    assert not reconcile.mismatch(found, reported(usable=usable, weights=capacity))
    assert reconcile.mismatch(found, reported(usable=usable, weights=capacity + 1))


def test_caches_are_told_with_how_they_are_counted():
    cache = 30 * MIB
    found = reported(weights=5, kv_cache=cache)
    told = reconcile.matches(reading(requested=cache), found, model())
    assert [
        (one.component, one.nbytes, one.formula) for one in told if one.matches == "request"
    ] == [("kv_cache", cache, "")]


@all_of(
    ("workload", "rows", "length"),
    [
        ({"seq_len": 4, "context": 9, "batch_size": 2}, 2, 4),
        ({"context": 9}, 1, 9),
        ({"prompt_len": 3, "context": 9}, 1, 3),
    ],
)
def test_rows_and_tokens_of_a_question(workload, rows, length):
    """Logits of 10 x 2^20 words in 16 bits, 20 MiB a token: a request of that size is for them."""
    words = 10 * MIB
    nbytes = rows * length * words * 2
    found = reported(workload=workload, weights=5)
    (told, *_) = reconcile.matches(reading(requested=nbytes), found, model(vocab_size=words))
    assert told.formula == f"{rows} x {length:,} tokens x 10,485,760 x 2 B"
    nothing = reported(weights=5)
    (told, *_) = reconcile.matches(reading(requested=nbytes), nothing, model(vocab_size=words))
    assert told.matches == "device"


@all_of(("settings", "half"), [({}, 256), ({"ubatch_size": 100}, 50), ({"ubatch_size": 33}, 32)])
def test_half_of_llama_cpps_micro_batch(settings, half):
    assert changes.figures(reading(), settings)["half_ubatch"] == half


def row(cause, change):
    return SimpleNamespace(cause=cause, tags=(), change={change: ""})


@all_of(
    ("cause", "others", "told"),
    [
        ("a", (), [0, 1, 3, 4]),
        ("b", (), [2]),
        (None, ("b", "a", "c"), [2, 0]),
    ],
)
def test_four_changes_are_told_or_the_first_of_each_possible_cause(
    monkeypatch, cause, others, told
):
    rows = [row(name, name + str(i)) for i, name in enumerate("aabaaa")]
    for name, made in {
        "rows": lambda: rows,
        "tags_of": lambda *_: set(),
        "_known": lambda *_: True,
        "_is_set": lambda *_: False,
        "filled": lambda row, _: next(i for i, one in enumerate(rows) if one is row),
    }.items():
        monkeypatch.setattr(changes, name, made)
    judged = Judged(cause, "", "likely", others)
    assert list(changes.changes(reading(), judged, {})) == told

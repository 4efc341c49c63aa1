"""Log-probability heads beside the functions of frameworks themselves, by release.

tests/torch/heads_oracle.py ran them on the fake GPU with torch 2.13, cut out of the wheels, and
wrote heads.jsonl: bytes above what was there before, kept between forward and backward, and at most
in each, and without gradients.
"""

import json
from itertools import product

import pytest

from tests.cases import all_of, some
from tests.training.heads_here import CASES, RECORD, SHAPES, here, measured
from weighbridge.training.forward import heads
from weighbridge.training.forward.heads import head

LINES = [json.loads(line) for line in RECORD.read_text().splitlines()]
BY_NAME = {case.name: case for case in CASES}
CLOSE = 0.006
SMALL = 1 << 18  # sums and numbers of tokens that tiles keep, which no share of a peak tells
METHODS = "dpo ipo orpo kto cpo simpo reward gkd grpo rloo ppo gspo dapo cispo reinforce"
FRAMEWORKS = (
    "trl ms-swift llama-factory axolotl verl easyr1 openrlhf nemo-rl unsloth agilerl slime megatron"
)


@pytest.mark.parametrize("x", LINES, ids=lambda x: f"{x['name']} {x['precision']}")
def test_a_head_takes_what_the_function_of_the_release_takes(x):
    mine = here(BY_NAME[x["name"]], x["precision"])
    for name, nbytes in mine.items():
        assert nbytes == pytest.approx(x[name], rel=CLOSE, abs=SMALL), name


def test_every_case_is_recorded():
    assert {(x["name"], x["precision"]) for x in LINES} == {
        (case.name, precision) for case in CASES for precision in case.precisions
    }


def each(nbytes, shape="rows", *, answer=True):
    """Bytes a scored token and entry of the vocabulary."""
    s = SHAPES[shape]
    return nbytes / (s["rows"] * s["answer" if answer else "length"] * s["vocab"])


@pytest.mark.parametrize(
    ("release", "forward", "backward", "quiet"),
    [
        ((0, 14), 8, 8, 6),  # logits of a row after the other, each with its log_softmax kept
        ((0, 15), 6, 12, 6),  # 16 bits and float32; gradients of rows, stacked, beside the logits
        ((0, 24), 8, 12, 8),  # a copy divided by the temperature
        ((1, 0), 9, 16, 6),  # divided in place: the gradient is there four times
        ((1, 12), 9, 12, 9),  # logits, the copy and a row
        ((1, 14), 6, 8, 6),  # one kernel: logits and their gradient
    ],
)
def test_bytes_of_trls_grpo_by_hand(release, forward, backward, quiet):
    made = head("grpo", "trl", release)
    seen = measured(made, "bf16-mixed", **SHAPES["rows"])
    assert each(seen["forward"]) == pytest.approx(forward, abs=0.5)
    assert each(seen["backward"]) == pytest.approx(backward, abs=0.5)
    assert each(measured(made, "bf16-mixed", quiet=True, **SHAPES["rows"])) == pytest.approx(
        quiet, abs=0.1
    )


def test_bytes_of_other_frameworks_by_hand():
    """verl's gradient is written over its logits, but dividing them in place copies it; OpenRLHF
    has 16 bits and float32, and a gradient; slime a softmax that becomes the gradient."""
    old, new = (
        measured(head("grpo", "verl", v), "bf16", **SHAPES["packed"]) for v in ((0, 4), None)
    )
    assert each(old["backward"], "packed", answer=False) == pytest.approx(8, abs=0.1)
    assert each(new["backward"], "packed", answer=False) == pytest.approx(4, abs=0.1)
    for framework, most in (("openrlhf", 8), ("nemo-rl", 14), ("slime", 8)):
        seen = measured(head("grpo", framework, None), "bf16", **SHAPES["rows"])
        found = each(max(seen["forward"], seen["backward"]), answer=False)
        assert found == pytest.approx(most, abs=0.1), framework


def test_tiles_do_not_grow_with_the_vocabulary():
    made = head("grpo", "trl", None)
    few, many = (
        measured(made, "bf16-mixed", quiet=True, **(SHAPES["rows"] | {"vocab": n}))
        for n in (131_072, 262_144)
    )
    assert many == pytest.approx(few, rel=0.01)


@pytest.mark.parametrize(
    ("method", "framework"), some(7, product(METHODS.split(), FRAMEWORKS.split()))
)
def test_every_method_of_every_framework_has_a_head(method, framework):
    shape = {"rows": 2, "length": 32, "answer": 16, "width": 32, "vocab": 500}
    made = head(method, framework, None)
    seen = measured(made, "bf16-mixed", **shape)
    assert 0 < seen["kept"] <= seen["forward"]
    assert measured(made, "bf16-mixed", quiet=True, **shape) <= seen["forward"]
    assert made.rows == (2 if method in ("dpo", "ipo", "orpo", "cpo", "simpo", "reward") else 1)
    assert made.source


def test_what_was_read_by_eye_alone_is_not_known():
    assert head("grpo", "trl", (0, 24)).known and head("dpo", "llama-factory", None).known
    assert not head("grpo", "unsloth", None).known
    assert not head("dpo", "axolotl", None).known  # TRL's, whatever release is installed
    assert not head("grpo", "verl", (0, 9), entropy=True).known
    assert not head("grpo", "trl", (0, 24), liger=True).known


def test_the_reference_of_dpo_runs_under_the_graph_in_trl():
    assert head("dpo", "trl", (0, 24)).under_graph
    assert not head("dpo", "ms-swift", None).under_graph
    assert not head("grpo", "trl", None).under_graph


def test_entropies_with_gradients_take_more():
    plain, more = (
        measured(head("grpo", "openrlhf", None, entropy=x), "bf16", **SHAPES["rows"])
        for x in (False, True)
    )
    assert more["backward"] > plain["backward"]


def test_rows_of_the_table_are_in_order_and_none_is_there_twice():
    seen = [(x.framework, method, x.since) for x in heads.table() for method in x.methods]
    assert len(set(seen)) == len(seen)


@all_of(
    ("method", "framework", "release"),
    [
        ("grpo", "trl", "1.0"),  # kernels since 1.14, tiles since 1.15
        ("gspo", "trl", "1.0"),
        ("orpo", "trl", "1.0"),
        ("gkd", "trl", None),  # one row
        ("reward", "trl", None),  # no logits
        ("grpo", "verl", "0.4"),  # of no major release: the one before
        ("grpo", "nobody", None),
    ],
)
def test_what_nobody_excludes_who_names_no_release(method, framework, release):
    assert heads.another(method, framework) == release

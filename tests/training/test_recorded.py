"""Steps of real classes of transformers 5.23 beside our programs, as torch 2.13 ran them.

tests/torch/recording.py writes such lines while the tests of tests/torch run; of those here each
runs lines of the programs that no other does. `off` is how far our peaks were from the class's, and
`apart` how many bytes more or less we took in each phase: in most not one.
"""

import json
from pathlib import Path

import pytest

from tests.cases import some
from tests.torch.training_oracle import stepped

RECORDED = Path(__file__).with_name("recorded.jsonl")
LINES = [json.loads(line) for line in RECORDED.read_text().splitlines()]


def named(x):
    said = "-".join(str(v) for v in x["settings"].values())
    return f"{x['config']['model_type']}-{said}"


# Of these the fast suite has others that run nearly the same lines
HEAVY = ("gemma", "gemma2", "granitemoehybrid", "olmo2")


def slow(x):
    again = x["settings"].get("framework") == "trainer" or "lora_r" in x["settings"]
    return again or x["config"]["model_type"] in HEAVY


@pytest.mark.parametrize(
    "x",
    [
        *some(3, [pytest.param(x, id=named(x)) for x in LINES if not slow(x)]),
        *(pytest.param(x, id=named(x), marks=pytest.mark.slow) for x in LINES if slow(x)),
    ],
)
def test_a_step_takes_what_the_class_takes(x, all_read, fits):
    said = {k: tuple(v) if isinstance(v, list) else v for k, v in x["settings"].items()}
    found = stepped(x["config"], reentrant=x.get("reentrant", False), **said)
    assert [name for name, *_ in found.moments] == [name for name, *_ in x["moments"]]
    for (name, left, most, _), (_, *seen) in zip(found.moments, x["moments"], strict=True):
        assert [left, most] == pytest.approx(seen, rel=x["off"]), name
    if "saved" in x:  # tensors that live at the end of the first forward
        assert [found.saved.total(), found.saved_bytes] == x["saved"]
    for (name, *_), ours, there, apart in zip(
        x["moments"], found.taken, x.get("taken", ()), x.get("apart", ()), strict=False
    ):  # also of tensors that are gone when the peak comes
        assert abs(ours - there) <= apart, name

"""Steps of real classes of transformers 5.23 beside our programs, as torch 2.13 ran them.

tests/torch/recording.py writes such lines while the tests of tests/torch run; of those here each
runs lines of the programs that no other does. `off` is how far our peaks were from the class's, and
`apart` how many bytes more or less we took in each phase: in most not one.
"""

import json
from pathlib import Path

import pytest

from tests.torch.training_oracle import stepped

RECORDED = Path(__file__).with_name("recorded.jsonl")
LINES = [json.loads(line) for line in RECORDED.read_text().splitlines()]


def named(x):
    said = "-".join(str(v) for v in x["settings"].values())
    return f"{x['config']['model_type']}-{said}"


# Of all of them these run the most functions of the programs in two or three seconds
QUICK = frozenset(
    (
        "deberta-v2-fp32-full",
        "deepseek_v32-bf16-200",
        "distilbert-bf16-full",
        "electra-bf16-200",
        "falcon-100-bf16-eager",
        "gpt_neo-100-bf16-1-full",
        "gpt_oss-lora-8-['q_proj', 'v_proj']-bf16-mixed-200",
        "mamba-40-bf16-mixed",
        "modernbert-fp32-full",
        "mpnet-bf16-200",
        "nemotron_h-100-bf16-mixed-full",
        "opt-128",
        "pegasus-fp32-200",
        "phimoe-bf16-mixed-200",
        "qwen3_5_text-448-fp32-1",
        "recurrent_gemma-70-bf16",
        "siglip-60-bf16",
        "t5-bf16-200",
        "vit-fp32-full",
    )
)


def test_the_quick_ones_are_recorded():
    assert {named(x) for x in LINES} >= QUICK


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(x, id=named(x), marks=() if named(x) in QUICK else pytest.mark.slow)
        for x in LINES
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

"""Stages of torchtitan's pipelines: whose layers they have, and what torch holds for them."""

import pytest

from tests.training.test_sharding import CONFIG, most_of, trained
from weighbridge.errors import UsageError
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.training.sharding.schedule import torchtitans

OLD, NEW = (2025, 7, 29), (2025, 7, 30)
DEEP = {**CONFIG, "num_hidden_layers": 8, "tie_word_embeddings": False}
TOKENS, WIDTH, WORDS = 256, CONFIG["hidden_size"], CONFIG["vocab_size"]


def dealt(count, stages, date, order="1f1b"):
    return torchtitans(Sharding(pipeline=stages, schedule=order), count, date)


@pytest.mark.parametrize(
    ("count", "stages", "date", "found"),
    [
        (126, 8, OLD, (15, *[16] * 6, 15)),  # the last has what the first has: 126 = 8 x 15 + 6
        (32, 4, OLD, (8, 8, 8, 8)),
        (32, 4, NEW, (8, 9, 8, 7)),  # 34 = 9 + 9 + 8 + 8, less one at each end
        (7, 4, OLD, (1, 2, 2, 2)),  # three over: two in the middle, and one is left
        (3, 2, NEW, (2, 1)),  # as its docstring has it, with weights of one
    ],
)
def test_layers_of_stages(count, stages, date, found):
    assert dealt(count, stages, date) == found


def test_where_parts_take_turns_a_stage_has_two():
    # 16 parts: 7, fourteen of 8, 7
    assert dealt(126, 8, OLD, "interleaved") == (15, *[16] * 6, 15)
    # 6 + 2 in 4 parts of 2: 1, 2, 2, 1; in a V the first has the last, too
    assert dealt(6, 2, NEW, "interleaved") == (3, 3)
    assert dealt(6, 2, NEW, "zero-bubble") == (2, 4)
    with pytest.raises(UsageError, match="leaves a stage none"):
        dealt(4, 6, NEW)


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("date", [OLD, NEW, None])
@pytest.mark.parametrize("order", ["1f1b", "interleaved", "gpipe", "zero-bubble"])
def test_stages_add_up_to_the_model(stages, date, order):
    for count in (19, 32, 61, 126):
        parts = dealt(count, stages, date, order)
        assert sum(parts) == (count if stages > 1 else 0)
        both = 2 if order in ("interleaved", "zero-bubble") else 1
        assert not parts or max(parts) - min(parts) <= 2 * both


# ---- what torch holds


def staged(**settings):
    usual = {"framework": "torchtitan", "checkpointing": "full", "seq_len": TOKENS}
    usual |= {"pipeline_parallel_size": 4, "gradient_accumulation": 8, "torch_version": "2.7"}
    usual |= {"framework_version": "2025-10-21", "data_parallel_size": 2, "precision": "bf16"}
    report = trained(DEEP, **{**usual, **settings})
    return [device for device in report.devices if device.kind == "gpu"][::2]


def test_places_for_what_comes():
    """16 bits a number of the tokens, 8 micro-batches: from the left, and from the right."""
    one = 2 * TOKENS * WIDTH
    found = [most_of(stage, "buffers") for stage in staged()]
    assert [n // one for n in found] == [8, 16, 16, 8]
    assert max(n % one for n in found) < 4096  # positions
    told = {"framework": "torchtitan", "framework_version": "2025-10-21", "seq_len": TOKENS}
    alone = trained(DEEP, precision="bf16", **told)
    assert most_of(alone.devices[0], "buffers") < one


def step(stage, name):
    phase = next(p for p in stage.phases if p.name == "step")
    return sum(c.bytes.expected for c in phase.components if c.name == name)


def test_outputs_stay_to_the_next_step():
    """The last stage keeps logits in 16 bits, and joins them at the end; up to torch 2.7 others
    keep what they sent."""
    sent, logits = 8 * 2 * TOKENS * WIDTH, 8 * 2 * TOKENS * WORDS
    old, new = staged(), staged(torch_version="2.8")
    for before, after in zip(old[:-1], new[:-1], strict=True):
        assert step(before, "activations") - step(after, "activations") == sent
    assert step(new[0], "activations") == 0
    assert [step(stages[-1], "logits") for stages in (old, new)] == [2 * logits] * 2
    assert step(staged(framework_version="2025-10-22")[-1], "logits") < logits // 8


def test_gathered_layers_stay_and_gradients_wait():
    """Two layers a stage under FSDP2: gradients of all of them in float32 at the end."""
    stage = staged(precision="bf16-mixed")[1]
    layer = 4 * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2 + 3 * WIDTH * 704 + 2 * WIDTH)
    assert most_of(stage, "gradients") >= 2 * layer

"""What torch's pipelines hold of a stage of torchtitan's beside the micro-batches in flight."""

import pytest

from tests.training.test_sharding import CONFIG, most_of, trained

DEEP = {**CONFIG, "num_hidden_layers": 8, "tie_word_embeddings": False}
TOKENS, WIDTH, WORDS = 256, CONFIG["hidden_size"], CONFIG["vocab_size"]


def staged(**settings):
    usual = {"framework": "torchtitan", "checkpointing": "full", "seq_len": TOKENS}
    usual |= {"pipeline_parallel_size": 4, "gradient_accumulation": 8, "torch_version": "2.7"}
    usual |= {"framework_version": "2025-10-21", "data_parallel_size": 2, "precision": "bf16"}
    report = trained(DEEP, **{**usual, **settings})
    return [device for device in report.devices if device.kind == "gpu"][::2]


@pytest.mark.slow
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


@pytest.mark.slow
def test_outputs_stay_to_the_next_step():
    """The last stage keeps logits in 16 bits, which are joined at the end; the others, up to torch
    2.7, what they sent."""
    sent, logits = 8 * 2 * TOKENS * WIDTH, 8 * 2 * TOKENS * WORDS
    old, new = staged(), staged(torch_version="2.8")
    for before, after in zip(old[:-1], new[:-1], strict=True):
        assert step(before, "activations") - step(after, "activations") == sent
    assert step(new[0], "activations") == 0
    assert [step(stages[-1], "logits") for stages in (old, new)] == [2 * logits] * 2
    assert step(staged(framework_version="2025-10-22")[-1], "logits") < logits // 8


@pytest.mark.slow
def test_gathered_layers_stay_and_gradients_wait():
    """Two layers a stage under FSDP2: gradients of all of them in float32 at the end."""
    stage = staged(precision="bf16-mixed")[1]
    layer = 4 * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2 + 3 * WIDTH * 704 + 2 * WIDTH)
    assert most_of(stage, "gradients") >= 2 * layer

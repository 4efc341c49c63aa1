"""gpt-oss with flash-attention 3, whose memory is that without sinks: by hand and by laws."""

import pytest

from weighbridge.base.errors import UsageError
from weighbridge.faces import api

HEADS, KV_HEADS, DIM, LAYERS = 64, 8, 64, 24  # of gpt-oss-20b
LENGTH = 1024


def report(attention, length=LENGTH):
    given = {
        "method": "lora",
        "framework": "trainer",
        "lora_targets": ("q_proj", "v_proj"),
        "attention": attention,
    }
    return api.train("gpt-oss-20b", offline=True, seq_len=length, gpu="h100", **given)


@pytest.fixture(scope="module")
def saved():
    return {
        (name, n): report(name, n).derived["saved_activation_bytes"]
        for name in (None, "flash")
        for n in (LENGTH, 2 * LENGTH)
    }


@pytest.mark.slow
def test_flash_saves_no_scores(saved):
    """Eager keeps a row of scores, with the sink's column, in 16 bits for every token and head."""
    scores = 2 * HEADS * LENGTH * (LENGTH + 1) * LAYERS
    less = saved[None, LENGTH] - saved["flash", LENGTH]
    assert less > 0.9 * scores


@pytest.mark.slow
def test_flash_grows_with_the_tokens(saved):
    assert saved["flash", 2 * LENGTH] == pytest.approx(2 * saved["flash", LENGTH], rel=0.01)
    assert saved[None, 2 * LENGTH] > 2.5 * saved[None, LENGTH]


@pytest.mark.slow
def test_the_report_says_that_sinks_are_not_trained():
    assert any("sinks" in said for said in report("flash", 16).warnings)


def test_kernels_that_know_no_sinks_are_refused():
    with pytest.raises(UsageError, match="eager"):
        report("efficient", 16)

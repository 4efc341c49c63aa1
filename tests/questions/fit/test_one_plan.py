"""The screen of `fit` has one list of what works: the first sentence and the rows below it agree."""

import pytest

import weighbridge


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "gpu"), [("kimi-k3", "h200:8"), ("qwen3-32b", "3060"), ("gpt-oss-120b", "4060")]
)
def test_other_cards_are_named_once(model, gpu):
    """A plan on other cards names those of the ladder, or those of the row of inference, where that
    has a way on these cards, too."""
    found = weighbridge.fit(model, gpu=gpu, offline=True)
    changes = [r.change for r in found.question("infer").remedies if r.fits == "yes"]
    here = any("gpu" not in change for change in changes)
    told = str(found)
    if found.plan.why == "elsewhere" and not here:
        assert "\n  infer " not in told
    if found.plan.rung is None:
        assert "\n  infer " in told

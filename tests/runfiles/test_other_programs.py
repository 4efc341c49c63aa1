"""Programs that are not answered for: what of them is sure, and what their text does not say."""

import weighbridge

CARD = "qwen3-8b with GRPO on {gpu}{more}"


def found(text: str):
    weighed = weighbridge.weigh(text, name="a", offline=True)
    return weighed, {one.key: one.values for one in weighed.findings}


def test_an_engine_that_was_not_read_is_asked_with_what_it_has_to_be_told():
    weighed, _ = found("lmdeploy of qwen3-8b on a 3090: memory?")
    (run,) = weighed.runs
    assert run.report is not None
    assert run.run.settings == {"engine": "lmdeploy", "gpu": "3090"}
    asks = "infer qwen3-8b --engine lmdeploy --context N --batch-size N --gpu 3090"
    assert any(asks in note for note in run.run.notes)

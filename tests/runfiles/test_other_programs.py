"""Programs that are not answered for: what of them is sure, and what their text does not say."""

import pytest

import weighbridge

CARD = "qwen3-8b with GRPO on {gpu}{more}"


def found(text: str):
    weighed = weighbridge.weigh(text, name="a", offline=True)
    return weighed, {one.key: one.values for one in weighed.findings}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lmdeploy: memory?", "infer MODEL --engine vllm --context N --batch-size N --gpu NAME"),
        (
            "lmdeploy of qwen3-8b on a 3090: memory?",
            "infer qwen3-8b --engine vllm --context N --batch-size N --gpu 3090",
        ),
    ],
)
def test_the_nearest_engine_is_named_with_what_it_has_to_be_told(text, line):
    weighed, _ = found(text)
    assert line in weighed.runs[0].why

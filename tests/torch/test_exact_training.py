"""`train --exact`: the class's own steps on a fake GPU, beside the closed form."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import weighbridge
from tests.cases import each
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import UnsupportedError

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 8000,
    "max_position_embeddings": 4096,
}
CLOSE = 0.02  # the closed form and the trace, of each phase


@pytest.mark.parametrize(
    "settings",
    each(
        2,
        [
            {"checkpointing": "full", "optimizer": "adamw_torch_fused"},
            {"precision": "bf16"},
            {
                "method": "lora",
                "framework": "trainer",
                "lora_targets": ("all-linear",),
                "gradient_accumulation": 2,
            },
            {"precision": "fp32", "framework": "plain", "optimizer": "sgd-momentum"},
        ],
    ),
    ids=["mixed-checkpointed", "bf16", "lora-accumulated", "plain-momentum"],
)
def test_every_phase_is_what_the_class_takes(settings):
    report = weighbridge.train(CONFIG, seq_len=512, batch_size=2, exact=True, **settings)
    pairs = report.devices[0].exact.phases
    assert [closed.name for closed, _ in pairs] == ["load", "forward", "loss", "backward", "step"]
    for closed, traced in pairs:
        for level in ("allocated", "reserved"):
            there = traced.at(level).expected
            assert closed.at(level).expected == pytest.approx(there, rel=CLOSE), closed.name
    own = [c for c in report.devices[0].phases[1].components if c.detail != "margin"]
    assert {c.basis for c in own} == {"traced", "assumed"}


def test_a_request_may_ask_for_it():
    workload = {"exact": True, "seq_len": 64, "precision": "bf16"}
    line = json.dumps({"task": "train", "model": {"config": CONFIG}, "workload": workload})
    told = Requests().answer(line)
    assert told["devices"][0]["exact"]["phases"][0]["name"] == "load"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"optimizer": "adamw_8bit"}, "optimizers that are traced"),
        ({"shard": "fsdp2", "data_parallel_size": 8}, "world-size"),
        ({"loss": "liger"}, "--loss"),
        ({"method": "qlora"}, "nf4"),
        ({"framework": "litgpt"}, "litgpt"),
    ],
)
def test_what_is_not_traced_is_one_line(settings, says):
    with pytest.raises(UnsupportedError, match=says) as error:
        weighbridge.train(CONFIG, exact=True, seq_len=64, **settings)
    assert "\n" not in str(error.value)

"""What is meant by adapters where no framework is named: the recipe that PEFT and TRL document."""

import pytest

import weighbridge
from tests.ask import usual

BODY = ("framework", "dtype", "checkpointing", "loss", "kbit_upcast")
RECIPE = ("trl", "bfloat16", "full", "trl", "none")


asked = usual("train", "llama-3.2-1b", offline=True, seq_len=256)


def body(report):
    return tuple(report.workload[name] for name in BODY)


@pytest.mark.parametrize("method", ["lora", "qlora", "dora"])
def test_adapters_without_a_framework_are_trained_by_trl_over_16_bits(method):
    report = asked(method=method)
    assert body(report) == RECIPE
    assert report.derived["recipe"] == "PEFT + TRL"


def test_it_equals_what_it_says_it_is():
    meant = asked(method="qlora")
    named = asked(method="qlora", framework="trl", dtype="bfloat16")
    assert meant.devices == named.devices
    assert "recipe" not in named.derived


def test_the_usual_framework_typed_is_the_usual_framework():
    """The newest release, too. What TRL loads where it is given a name is asked by its dtype."""
    for method in ("lora", "qlora", "dora", "ia3"):
        meant, wide = asked(method=method), asked(method=method, dtype="float32")
        for typed in ({"framework": "trl"}, {"framework": "trl", "framework_version": "1.16"}):
            named = asked(method=method, **typed)
            assert named.devices == meant.devices
            assert named.workload["dtype"] == "bfloat16"
        assert wide.peak.expected > meant.peak.expected
    full, typed = (asked(method="dpo", framework=f) for f in (None, "trl"))
    assert full.devices == typed.devices


def test_deepspeed_converts_what_was_loaded_in_float32():
    """runtime/engine.py: module.bfloat16(), whatever the dtype that it was loaded in."""
    shared = usual(asked, "llama-3.2-1b", method="lora", shard="zero3", gpu="4090:2")
    assert shared(dtype="float32").devices == shared(dtype="bfloat16").devices
    assert shared(precision="fp32").peak.expected > shared().peak.expected


@pytest.mark.parametrize(
    ("model", "settings", "framework", "checkpointing"),
    [
        ("llama-3.2-1b", {"method": "full"}, "trainer", "none"),
        ("llama-3.2-1b", {"method": "lora", "framework": "trainer"}, "trainer", "none"),
        ("llama-3.2-1b", {"method": "lora", "checkpointing": "none"}, "trl", "none"),
        ("bert-base-uncased", {"method": "lora"}, "trainer", "none"),  # TRL trains no such class
        ("whisper-base", {"method": "lora"}, "trainer", "none"),
        # TRL 1.16 asks for transformers 4.56; before, PEFT's preparation checkpoints a packed base
        ("llama-3.2-1b", {"method": "qlora", "engine_version": "4.55"}, "trainer", "full"),
        ("llama-3.2-1b", {"method": "lora", "engine_version": "4.55"}, "trainer", "none"),
        ("llama-3.2-1b", {"method": "qlora", "engine_version": "4.56"}, "trl", "full"),
    ],
)
def test_what_is_named_or_cannot_be_is_as_it_was(model, settings, framework, checkpointing):
    report = asked(model, **settings)
    assert report.workload["framework"] == framework
    assert report.workload["checkpointing"] == checkpointing


def test_the_dtype_that_is_named_stands():
    assert asked(method="lora", dtype="float32").workload["dtype"] == "float32"
    assert asked(method="lora", precision="fp16-mixed").workload["dtype"] == "float16"


def test_qlora_of_8b_fits_a_card_of_24_gb():
    """5.6 GiB of packed and plain weights, one layer's states: what people have run since 2023."""
    report = weighbridge.train("llama-3.1-8b", method="qlora", gpu="4090", offline=True)
    assert report.verdict.fits == "yes"
    assert 7 < report.verdict.per_device.expected / 2**30 < 9

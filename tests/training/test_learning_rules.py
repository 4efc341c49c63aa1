"""Rules of frameworks that learn from rewards and preferences (training/learning), by what their
sources say: dtypes, what they refuse, and what they have no word for."""

import pytest

import weighbridge
from tests.tiny import config
from weighbridge.base.errors import UsageError
from weighbridge.training import learning
from weighbridge.workload import Train

SMALL = config("llama", vocab_size=32000, max_position_embeddings=4096, torch_dtype=None)


def run(cards=1, **asked):
    return learning.run(Train(**{"method": "grpo", "seq_len": 512} | asked), cards)


def answer(**asked):
    asked = {"method": "dpo", "gpu": "h100", "batch_size": 2, "seq_len": 128} | asked
    return weighbridge.prepare(SMALL).train(remedies=False, **asked)


# ---- the dtype that weights are loaded in


@pytest.mark.parametrize(
    ("framework", "asked", "dtype"),
    [
        ("trl", {}, "float32"),  # model_init_kwargs: dtype, "float32" since 0.27
        ("trl", {"tuner": "lora"}, "float32"),
        ("trl", {"tuner": "lora", "framework_version": "0.26"}, "bfloat16"),  # "auto"
        ("trl", {"tuner": "lora", "dtype": "bfloat16"}, "bfloat16"),
        (None, {}, "float32"),
        (None, {"tuner": "lora"}, "bfloat16"),  # the recipe of PEFT's and TRL's guides
        ("ms-swift", {}, "bfloat16"),  # that of config.json, else what the card has
        ("axolotl", {}, "bfloat16"),  # bf16: auto
        ("axolotl", {"precision": "fp16-mixed"}, "float16"),
        ("axolotl", {"precision": "fp32"}, "float32"),
        ("llama-factory", {}, "float32"),  # Upcasting trainable params to float32
        ("llama-factory", {"precision": "bf16"}, "bfloat16"),  # pure_bf16
        ("llama-factory", {"tuner": "lora"}, "bfloat16"),
        ("agilerl", {}, "bfloat16"),
    ],
)
def test_each_framework_loads_in_a_dtype_of_its_own(framework, asked, dtype):
    assert answer(framework=framework, **asked).workload["dtype"] == dtype


def test_only_the_loader_of_trl_is_warned_of():
    def warned(**asked):
        return any("model_init_kwargs" in line for line in answer(**asked).warnings)

    assert warned(framework="trl")
    assert warned(framework="trl", tuner="lora")
    assert not warned(framework="trl", dtype="float32")  # as it was named
    assert not any(map(lambda f: warned(framework=f), ("llama-factory", "axolotl", "agilerl")))


def test_a_reference_of_llama_factory_stays_in_16_bits():
    def copies(**asked):
        phases = answer(framework="llama-factory", **asked).devices[0].phases
        parts = next(one for one in phases if one.name == "forward").components
        weights = [c.bytes.expected for c in parts if c.name == "weights"]
        return weights if len(weights) == 2 else weights * 2

    policy, reference = sorted(copies(), reverse=True)
    assert policy == 2 * reference
    assert len(set(copies(precision="bf16"))) == 1

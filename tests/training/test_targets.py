"""Which modules have adapters where state spaces are: PEFT refuses the last linear of those."""

import pytest

import weighbridge
from weighbridge.base.errors import UsageError

CONFIG = {
    "model_type": "mamba2",
    "architectures": ["Mamba2ForCausalLM"],
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_heads": 4,
    "head_dim": 64,
    "state_size": 16,
    "n_groups": 1,
    "vocab_size": 500,
}
RANK = 8
INSIDE = 2 * (2 * 256 + 2 * 16 + 4 + 128) * RANK  # of in_proj: 128 to 548, in two layers


def trained(config, **asked):
    return weighbridge.train(config, seq_len=64, **asked).derived["trainable_parameters"]


def test_every_linear_that_peft_takes_where_it_has_no_choice_of_its_own():
    assert trained(CONFIG, method="lora") == INSIDE
    assert trained(CONFIG, method="lora", lora_targets="in_proj") == INSIDE


@pytest.mark.parametrize("method", ["lora", "dora", "adalora", "randlora"])
@pytest.mark.parametrize("targets", ["all-linear", "out_proj", "in_proj,out_proj"])
def test_adapters_that_peft_refuses_are_refused(method, targets):
    with pytest.raises(UsageError, match=r"PEFT refuses backbone.layers.0.mixer.out_proj of mamba"):
        trained(CONFIG, method=method, lora_targets=targets)


def test_what_is_not_like_lora_is_taken():
    """VeRA trains a number an output and 256 more of each linear."""
    outs = 2 * (2 * 256 + 2 * 16 + 4 + 128 + 2 * 256)
    assert trained(CONFIG, method="vera", lora_targets="all-linear") == outs


@pytest.mark.slow
def test_a_hybrid_that_peft_does_not_name_is_taken_whole():
    name = "granite-4.0-h-tiny"
    assert trained(name, method="lora", lora_targets="all-linear") > 0


NEMOTRON_H = {
    "model_type": "nemotron_h",
    "architectures": ["NemotronHForCausalLM"],
    "hybrid_override_pattern": "M*-",
    "num_hidden_layers": 3,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "mamba_num_heads": 4,
    "mamba_head_dim": 32,
    "ssm_state_size": 16,
    "n_groups": 2,
    "vocab_size": 1000,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(("targets", "said"), [("in_proj,out_proj", True), ("in_proj", False)])
def test_what_newer_releases_of_peft_refuse_is_answered_and_said(targets, said):
    """PEFT 0.19.1 has no nemotron_h among its mamba_model_types, 0.20.0 has."""
    found = weighbridge.train(
        NEMOTRON_H, framework="plain", method="lora", lora_targets=targets, seq_len=64, offline=True
    )
    assert any("PEFT 0.20 and newer refuses out_proj" in line for line in found.warnings) == said

"""What PEFT trains before the tokens: what it takes, and what is refused."""

import pytest

import weighbridge
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.workload.train import PROMPTS

LLAMA = "llama-3.2-1b"  # 16 layers, 2,048 wide, 8 heads of keys of 64 numbers


def trained(method, model=LLAMA, **more):
    return weighbridge.train(model, **{"method": method, "seq_len": 64, **more})


def saved(method, **more):
    asked = {"checkpointing": "none", "precision": "bf16", **more}
    return trained(method, **asked).derived["saved_activation_bytes"]


def test_a_prompt_makes_the_sequence_longer():
    """Nothing but the vectors themselves tells it from a sequence with as many tokens more."""
    longer = saved("prompt-tuning", seq_len=128, virtual_tokens=64)
    assert longer == pytest.approx(saved("prompt-tuning", seq_len=64, virtual_tokens=128), rel=0.01)
    assert longer > 1.4 * saved("prompt-tuning", seq_len=64, virtual_tokens=64)


def test_p_tuning_keeps_what_its_linears_read():
    """Three linears read [20, 2,048] in float32 of one sequence; the vectors are copied for each."""
    found = saved("p-tuning", batch_size=2) - saved("prompt-tuning", batch_size=2)
    assert found == 3 * 20 * 2048 * 4


@pytest.mark.slow
def test_a_prefix_has_keys_and_no_queries():
    """Each layer keeps its keys and values for all 32 heads, which a mask has copied, and no more
    than that of what it reads."""
    few, many = (saved("prefix-tuning", virtual_tokens=n) for n in (20, 40))
    each = 16 * 2 * 64 * 2 * 32  # layers, keys and values, numbers, bytes, heads
    assert (many - few) / 20 == pytest.approx(each, rel=0.02)


def test_a_prefix_is_not_checkpointed_where_nobody_asks():
    assert trained("prefix-tuning").workload["checkpointing"] == "none"
    assert trained("prompt-tuning").workload["checkpointing"] == "full"


@pytest.mark.parametrize("method", PROMPTS)
def test_how_many_tokens_is_said_where_it_is_assumed(method):
    line = "20 tokens are taken to be trained, as in PEFT's examples"
    assert any(w.startswith(line) for w in trained(method).warnings)
    told = trained(method, virtual_tokens=20)
    assert not any("taken to be trained" in w for w in told.warnings)
    assert told.workload["virtual_tokens"] == 20
    assert told.workload["lora_targets"] is None


REFUSED = [
    ({"method": "prompt-tuning", "lora_r": 8}, "--lora-r: prompt tuning adapts no linear"),
    ({"method": "p-tuning", "lora_targets": "q_proj"}, "--lora-targets: P-tuning adapts no linear"),
    ({"method": "lora", "virtual_tokens": 8}, "--virtual-tokens is of prompt-tuning, p-tuning"),
    ({"method": "full", "virtual_tokens": 8}, "--virtual-tokens"),
    ({"method": "prefix-tuning", "checkpointing": "full"}, "PEFT refuses it beside"),
    ({"method": "prompt-tuning", "framework": "unsloth"}, "unsloth has none of PEFT's methods"),
    ({"method": "p-tuning", "shard": "fsdp2", "gpu": "2xh100"}, "on one device and with"),
]


@pytest.mark.parametrize(("asked", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_what_has_no_meaning_is_refused_in_a_line(asked, line):
    with pytest.raises(UsageError, match=line):
        weighbridge.train(LLAMA, seq_len=64, **asked)


@pytest.mark.parametrize(
    ("method", "model", "line"),
    [
        ("prompt-tuning", "bert-base", "causal language models of text alone"),
        ("prefix-tuning", "mamba-2.8b", "where each layer has keys and values of one size"),
        ("prefix-tuning", "deepseek-v2-lite", "where each layer has keys and values of one size"),
        ("prefix-tuning", "bloom-7b1", "bloom: what is trained before its tokens is not modelled"),
    ],
)
def test_a_class_that_takes_none_is_refused(method, model, line):
    with pytest.raises(UnsupportedError, match=line):
        trained(method, model)


def test_a_packed_base_takes_them():
    """QLoRA's base; what is trained is a prompt in float32."""
    found = trained("prompt-tuning", quantization="nf4", gpu="4090", seq_len=512)
    assert found.derived["trainable_parameters"] == 20 * 2048
    assert found.verdict.fits == "yes"

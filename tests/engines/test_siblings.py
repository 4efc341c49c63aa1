"""Releases that were not read, which one of the same name and size stands for."""

import pytest

import weighbridge
from weighbridge.engines.ignorance import shares
from weighbridge.models import catalogue
from weighbridge.models.catalogue import everyday

# Releases of one name and size, of which both were read: the pairs of ignorance.py
PAIRS = [
    "qwen2-0.5b",
    "qwen2.5-0.5b",
    "qwen2-1.5b",
    "qwen2.5-1.5b",
    "qwen2-7b",
    "qwen2.5-7b",
    "qwen2-vl-7b",
    "qwen2.5-vl-7b",
    "qwen3-4b",
    "qwen3.5-4b",
    "qwen3.5-27b",
    "qwen3.6-27b",
    "qwen3.5-35b-a3b",
    "qwen3.6-35b-a3b",
    "qwen3.6-27b",
    "qwen3.8-27b",
    "deepseek-v3",
    "deepseek-v3.1",
    "deepseek-v3.1",
    "deepseek-v3.2",
    "kimi-k2",
    "kimi-k2.5",
    "kimi-k2.5",
    "kimi-k2.6",
    "llama-3-8b",
    "llama-3.1-8b",
    "llama-3-70b",
    "llama-3.1-70b",
    "llama-3.1-70b",
    "llama-3.3-70b",
    "phi-3-mini",
    "phi-3.5-mini",
    "glm-4.5",
    "glm-4.6",
    "glm-4.6",
    "glm-4.7",
    "minimax-m2",
    "minimax-m2.5",
    "mistral-7b-v0.1",
    "mistral-7b-v0.2",
    "mistral-7b-v0.2",
    "mistral-7b-v0.3",
    "qwen3-vl-8b",
    "qwen3.5-9b",
    "olmo-2-7b",
    "olmo-3-7b",
    "gemma-3-12b",
    "gemma-4-12b",
    "qwen2.5-14b",
    "qwen3-14b",
    "gemma-2-27b",
    "gemma-3-27b",
    "llama-2-70b",
    "llama-3-70b",
    "phi-3.5-mini",
    "phi-4-mini",
]


def weights(name, dtype=None):
    return weighbridge.load(name, dtype=dtype).devices[0].phases[-1].of("weights")


def test_siblings_that_were_read_differ_by_no_more():
    """One maker went to 4 bits between two releases; all others lie within."""
    doubt, figures = shares("sibling")
    pairs = [*zip(PAIRS[::2], PAIRS[1::2], strict=True)]
    sizes = [[weights(name, "bfloat16").expected for name in pair] for pair in pairs]
    ratios = [later / earlier for earlier, later in sizes]
    less, more = doubt.weights
    assert len(pairs) == figures
    assert sum(1 - less <= ratio <= 1 + more for ratio in ratios) == len(pairs) - 1
    assert max(ratios) > 0.99 * (1 + more)  # and it is no wider than they are


def wide(bytes_):
    return (bytes_.high - bytes_.low) / bytes_.expected


@pytest.mark.parametrize("name", sorted(everyday.SIBLINGS))
def test_a_sibling_is_told_and_is_wider(name):
    """By every task, and in another spelling."""
    entry = everyday.meaning(name).entry.name
    assert catalogue.has(entry)
    own, other = weighbridge.load(entry), weighbridge.load(name.upper())
    assert other.peak.expected == own.peak.expected
    assert wide(weights(name)) > wide(weights(entry)) + 0.14
    assert any("not known apart" in line for line in other.warnings)
    assert any("28 pairs" in line for line in other.warnings)
    assert not any("not known apart" in line for line in own.warnings)


@pytest.mark.parametrize(
    ("ask", "component"),
    [
        (lambda name: weighbridge.infer(name, context=4096), "kv_cache"),
        (lambda name: weighbridge.infer(name, engine="vllm", context=4096, gpu="3090"), "weights"),
        (lambda name: weighbridge.train(name, method="full", seq_len=512), "optimizer_states"),
        (lambda name: weighbridge.train(name, method="lora", seq_len=512), "weights"),
    ],
)
def test_every_task_is_wider(ask, component):
    own, other = (
        ask(name).fullest.phases[-1].of(component)
        for name in ("granite-4.0-micro", "granite-4.1-3b")
    )
    assert other.expected == own.expected
    assert wide(other) > wide(own) + 0.14


def test_a_release_whose_shapes_are_known_is_none():
    assert everyday.meaning("minimax-m2.1").entry.name == "minimax-m2"
    assert "not known apart" not in everyday.meaning("minimax-m2.1").note

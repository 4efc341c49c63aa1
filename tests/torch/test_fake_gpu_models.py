"""A large model's training step, traced: its figures by hand, and what it costs."""

import resource

import pytest
import torch

from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())
transformers = pytest.importorskip("transformers")
GIB = 1 << 30
LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def step(layers, *, tokens=4096, checkpointing=False, steps=1):
    """The tape of training steps in bfloat16 with AdamW."""
    config = transformers.LlamaConfig(num_hidden_layers=layers, use_cache=False, **LLAMA)
    with FakeGPU("b300", torch_version="2.13") as gpu:
        with torch.device("cuda"):
            torch.set_default_dtype(torch.bfloat16)
            model = transformers.LlamaForCausalLM(config)
        if checkpointing:
            model.activation_checkpointing_enable()
        model.train()
        optimizer = torch.optim.AdamW(model.parameters())
        ids = torch.zeros(1, tokens, dtype=torch.long).cuda()
        for _ in range(steps):
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return gpu.tape


def at_peak(tape):
    roles = {}
    for s in tape.alive(tape.allocated.event):
        roles[s.role] = roles.get(s.role, 0) + s.nbytes
    return roles


def test_llama_8b_trains():
    """Weights 8.03e9 x 2, as much of gradients and of each of two states; at the step's peak
    torch's foreach AdamW holds one more list, of square roots."""
    tape = step(32, checkpointing=True)
    weights = 2 * 8_030_261_248
    roles = at_peak(tape)
    assert roles["weight"] == roles["gradient"] == weights
    assert roles["optimizer state"] == 2 * weights
    assert roles["temporary"] == pytest.approx(weights, rel=0.001)
    assert tape.storages[tape.events[tape.allocated.event] - 1].op == "aten._foreach_sqrt.default"
    assert tape.allocated.nbytes == pytest.approx(5 * weights, rel=0.002)


def test_activations_of_a_layer_by_hand():
    """Per token and layer, in bytes of bfloat16 (H hidden, F feed-forward, K keys' width):

    two norms   x, x in float32, its product, 1/rms      2 (2H + 4H + 2H + 4)
    attention   q, k, v rotated or not, output, lse       2H + 2K + 2K + 2H + 4 heads
    MLP         gate, act, up, product                    4 x 2F
    """
    tapes = [step(n, tokens=1024) for n in (1, 2)]
    saved = [sum(s.nbytes for s in tape.storages if s.role == "saved activation") for tape in tapes]
    layer = (saved[1] - saved[0]) / 1024
    hidden, feed, keys = 4096, 14336, 1024
    norms = 2 * (4 * hidden + 2 * hidden + 4)
    attention = 2 * hidden + 4 * keys + 2 * hidden + 4 * 32
    mlp = 4 * 2 * feed
    residuals = 2 * 2 * hidden
    assert layer == pytest.approx(norms + attention + mlp + residuals, rel=0.05)


def test_cost_is_linear_in_layers_and_small():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    few, many = (len(step(n).events) for n in (4, 8))
    more = len(step(12).events)
    assert more - many == many - few
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GIB >> 10

"""Steps with the kernels of packages: their own Python on the fake GPU, where launches do nothing.

fla is the real one. causal-conv1d has a compiled part that needs a card: what stands in for it here
takes and keeps what its interface and its C++ do (CausalConv1dFn; csrc/causal_conv1d.cpp makes the
gradients of weights in float32).
"""

import sys
from types import ModuleType

import pytest

pytest.importorskip("torch")
pytest.importorskip("fla", reason="by hand: pip install fla-core==0.6.0 triton einops, alone")

import torch
from triton.runtime import jit

from tests.torch.training_oracle import differences, ours, real

SMALL = 2048


class Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight, bias)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, given):
        x, weight, bias = ctx.saved_tensors
        wide = [
            None if w is None else torch.zeros_like(w, dtype=torch.float32) for w in (weight, bias)
        ]
        dx = torch.empty_like(x)
        return dx, *(None if w is None else w.to(weight.dtype) for w in wide)


def causal_conv1d_fn(x, weight, bias=None, activation=None):
    return Conv.apply(x, weight, bias)


@pytest.fixture(scope="module", autouse=True)
def packages():
    """The packages, without a card: no kernel is launched."""
    stand_in = ModuleType("causal_conv1d")
    stand_in.causal_conv1d_fn = causal_conv1d_fn
    stand_in.causal_conv1d_update = causal_conv1d_fn
    was = jit.KernelInterface.__getitem__
    jit.KernelInterface.__getitem__ = lambda *_: lambda *_, **__: None
    sys.modules["causal_conv1d"] = stand_in
    for name in [n for n in sys.modules if n.startswith("transformers.models.qwen3_")]:
        del sys.modules[name]
    yield
    jit.KernelInterface.__getitem__ = was
    del sys.modules["causal_conv1d"]


COMMON = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "head_dim": 64,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 128,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 128,
}
MODELS = [
    ("qwen3_next", {**COMMON, **EXPERTS}),
    ("qwen3_5_text", COMMON),
    ("qwen3_5_text", {**COMMON, "linear_num_value_heads": 2}),
    (
        "lfm2",
        {
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 1000,
            "layer_types": ["conv", "full_attention"],
        },
    ),
]
WAYS = [
    {"precision": "bf16"},
    {"precision": "bf16-mixed"},
    {"precision": "bf16-mixed", "checkpointing": True},
    {"precision": "bf16", "seq_len": 200, "padded": True},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))
@pytest.mark.parametrize(("kind", "given"), MODELS, ids=["next", "3.5", "3.5-even", "lfm2"])
def test_a_step_with_kernels(kind, given, way):
    seen = real(kind, given, **way)
    mine = ours(kind, given, kernels="installed", **way)
    assert differences(seen, mine, small=SMALL) == []

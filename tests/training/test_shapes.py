"""Programs of frameworks and of classes that nobody recorded: shapes fit, as autograd asserts.

view        has as many numbers as what it sees, or is a mask that is expanded
broadcast   dimensions are equal, or one of them is 1
linear      the weight has the inputs' width on one of its sides
gradient    has as many numbers as what it is the gradient of
"""

from math import prod

import pytest

from tests.torch.training_oracle import settled
from weighbridge.autograd import engine, machine, tensors
from weighbridge.autograd.ops import matrix, pointwise
from weighbridge.training.run import run


@pytest.fixture
def asserted(monkeypatch):
    """Each of the four laws, wherever a program could break it."""
    view, broadcast, ahead = tensors.Tensor.view, pointwise._broadcast, matrix.ahead

    def viewed(self, *shape):
        expands = 1 in self.shape and prod(shape) % self.numel == 0
        assert prod(shape) == self.numel or expands, (self.shape, shape)
        return view(self, *shape)

    def broadcasted(a, b):
        sides = zip(reversed(a.shape), reversed(b.shape), strict=False)
        assert all(x == y or 1 in (x, y) for x, y in sides), (a.shape, b.shape)
        return broadcast(a, b)

    def saved(m, inputs, kept):
        x, w, *_ = inputs
        assert x.shape[-1] in w.shape, (x.shape, w.shape)
        return ahead(m, inputs, kept)

    monkeypatch.setattr(tensors.Tensor, "view", viewed)
    monkeypatch.setattr(pointwise, "_broadcast", broadcasted)
    monkeypatch.setattr(matrix, "ahead", saved)
    _gradients(monkeypatch)


def _gradients(monkeypatch):
    numels, alive = {}, []
    edge, call = machine._edge, engine._call

    def edged(t):
        source, slot = edge(t)
        alive.append(source)  # its id is nobody else's
        numels.setdefault((id(source), slot), t.numel)
        return source, slot

    def called(m, node, grads):
        found = call(m, node, grads)
        for (source, slot), grad in zip(node.inputs, found, strict=False):
            if source is not None and grad is not None:
                assert grad.numel == numels[id(source), slot], node.back.__qualname__
        return found

    monkeypatch.setattr(machine, "_edge", edged)
    monkeypatch.setattr(engine, "_call", called)


WIDE = {"num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 512}
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    **WIDE,
}
MHA = {**LLAMA, "num_key_value_heads": 8}
FEW = {"num_local_experts": 8, "num_experts_per_tok": 2}
LORA = {"method": "lora"}
TWO = {"gpu": "h100:2"}


def of(kind, cls, config):
    return {"model_type": kind, "architectures": [cls], **config}


CASES = (
    *((LLAMA, {"framework": "litgpt", **more}) for more in ({}, LORA, {"checkpointing": "full"})),
    (MHA, {"framework": "litgpt"}),
    ({**LLAMA, "num_key_value_heads": 1}, {"framework": "litgpt", "attention": "math"}),
    *((LLAMA, {"framework": "torchtune", **more}) for more in ({}, LORA, {"loss": "standard"})),
    (LLAMA, {"framework": "torchtitan"}),
    (LLAMA, {"framework": "torchtitan", **TWO, "shard": "fsdp2"}),
    (LLAMA, {"framework": "torchtitan", **TWO, "tensor_parallel_size": 2}),
    *((LLAMA, {"framework": "unsloth", **LORA, "checkpointing": c}) for c in ("none", "offload")),
    (LLAMA, {"framework": "trl", "loss": "trl"}),
    (LLAMA, {"framework": "trainer", "loss": "liger"}),
    (LLAMA, {"framework": "axolotl", **LORA}),
    *((LLAMA, {**TWO, "shard": shard}) for shard in ("fsdp2", "zero2", "zero3", "ddp")),
    ({**LLAMA, **FEW, "head_dim": 16, **of("llama4_text", "Llama4ForCausalLM", {})}, {}),
    ({**LLAMA, **FEW, **of("mixtral", "MixtralForCausalLM", {})}, {}),
)


@pytest.mark.parametrize(("config", "said"), CASES)
def test_shapes_fit(asserted, all_read, config, said):
    asked = {"batch_size": 2, "seq_len": 64, **said}
    if "framework" not in said:
        asked["precision"] = "bf16"
    assert run(settled(config, **asked)).moments

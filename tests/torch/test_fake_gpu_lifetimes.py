"""Lifetimes on the fake GPU against real runs of the same programs on the CPU: the whole stream of
requests and releases is the same, event by event."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.torch.programs import WIDTH, Net, real, recorded, step_in_backward, train
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())


def clip(model):
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"checkpoints": "frames"},
        {"optimizer": "adamw"},
        {"optimizer": "adagrad"},
        {"accumulate": 3},
        {"set_to_none": False},
        {"accumulate": 2, "optimizer": "adamw", "checkpoints": "frames", "between": clip},
    ],
    ids=lambda settings: ", ".join(settings) or "plain",
)
def test_the_same_events_as_a_real_run(settings):
    with FakeGPU("a100-80gb") as gpu:
        train("cuda", **settings)
    assert recorded(gpu.tape) == real(train, **settings)


def test_reentrant_checkpoints_but_for_random_states():
    """The CPU keeps 5,056 bytes a region; a GPU's state is 16 bytes in host memory."""
    with FakeGPU("a100-80gb") as gpu:
        train("cuda", checkpoints="reentrant")
    assert recorded(gpu.tape) == real(train, checkpoints="reentrant")


def test_optimizers_that_step_in_backward():
    with FakeGPU("a100-80gb") as gpu:
        step_in_backward("cuda")
    assert recorded(gpu.tape) == real(step_in_backward)
    assert max(
        sum(s.nbytes for s in gpu.tape.alive(e) if s.role == "gradient")
        for e in range(len(gpu.tape.events))
    ) < sum(p.numel() * 4 for p in Net().parameters())


def test_roles():
    with FakeGPU("a100-80gb") as gpu:
        train("cuda", optimizer="adamw")
    weights = sum(p.numel() * 4 for p in Net().parameters())
    by_role = {}
    for s in gpu.tape.storages:
        if s.died is None or s.died > s.born:
            by_role[s.role] = by_role.get(s.role, 0) + s.nbytes
    assert by_role["weight"] == weights
    assert by_role["gradient"] == 2 * weights  # of each step
    assert by_role["optimizer state"] == 2 * weights
    assert by_role["input"] == 2 * 64 * WIDTH * 4
    saved = [s for s in gpu.tape.storages if s.role == "saved activation"]
    assert {s.phase for s in saved} == {"forward"}
    assert {s.freed_in for s in saved} == {"backward"}


def test_modules_are_known_in_backward_too():
    with FakeGPU("a100-80gb") as gpu:
        train("cuda")
    wide = 64 * 2 * WIDTH * 4
    assert [
        s.module
        for s in gpu.tape.storages
        if s.phase == "backward" and s.nbytes == wide and s.op == "aten.mm.default"
    ] == [f"blocks.{i}.down" for i in (2, 1, 0)] * 2
    assert {s.phase for s in gpu.tape.storages} == {"load", "forward", "loss", "backward", "step"}


def test_modules_of_recomputed_ones():
    with FakeGPU("a100-80gb") as gpu:
        train("cuda", checkpoints="frames")
    made = [s.module for s in gpu.tape.storages if s.op == "aten.relu.default"]
    assert made == [f"blocks.{i}" for i in (0, 1, 2, 2, 1, 0)] * 2


def test_a_gradient_that_is_shared_is_cloned():
    """Two leaves get one tensor: the first may not steal what the second still needs."""
    with FakeGPU("a100-80gb") as gpu:
        a = torch.ones(2048, device="cuda", requires_grad=True)
        b = torch.ones(2048, device="cuda", requires_grad=True)
        (a + b).backward(torch.ones(2048, device="cuda"))
        assert a.grad is not b.grad
        grads = {a.grad.untyped_storage()._cdata, b.grad.untyped_storage()._cdata}
        assert len(grads) == 2
    copies = [s.op for s in gpu.tape.storages if s.phase == "backward"]
    assert copies == ["aten.new_empty_strided.default"] * 2  # clone_obey_contract


def test_sums_of_what_is_computed_again_are_not_gradients():
    """They are made anew: the engine alone adds in place, with gradients off."""

    def layer(x):
        return (x * 2 + x * 3).sigmoid()

    with FakeGPU("a100-80gb") as gpu:
        x = torch.zeros(1000, device="cuda", requires_grad=True)
        torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False).sum().backward()
        gpu.tape.settle()
    made = (gpu.tape.storages[n - 1].op for n in gpu.tape.events if n > 0)
    assert list(made).count("aten.add.Tensor") == 2


def test_python_functions_add_for_themselves():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            first = grad * 1
            return first + grad

    def program(device):
        x = torch.ones(4096, device=device, requires_grad=True)
        Twice.apply(x).backward(torch.ones(4096, device=device))

    with FakeGPU("a100-80gb") as gpu:
        program("cuda")
    assert recorded(gpu.tape) == real(program)


def test_sums_of_a_layer_that_is_computed_again_are_its_own():
    """What is added to may be dropped at once, and is no gradient."""

    def layer(x):
        return torch.exp(x / 2 + x) + x

    def program(device):
        x = torch.ones(4096, device=device, requires_grad=True)
        out = checkpoint(layer, x, use_reentrant=False)
        out.backward(torch.ones(4096, device=device))

    with FakeGPU("a100-80gb") as gpu:
        program("cuda")
    assert recorded(gpu.tape) == real(program)


def test_convolutions_without_kernels_insides():
    """cuDNN's outputs: activations, their statistics, gradients."""
    with FakeGPU("t4", torch_version="2.5") as gpu:
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).cuda()
        net(torch.ones(2, 3, 34, 34, device="cuda")).sum().backward()
    image = 2 * 8 * 32 * 32 * 4
    saved = [s for s in gpu.tape.storages if s.role == "saved activation"]
    assert [(s.op, s.nbytes) for s in saved if s.nbytes >= 1024] == [
        ("aten.convolution.default", image),
        ("aten.relu.default", image),
    ]

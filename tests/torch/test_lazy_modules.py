"""Lazy modules on a fake GPU: what they take is what modules of the same shapes take."""

import pytest
import torch
from torch import nn

from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings("ignore:Lazy modules"),
]


def lazy_net():
    return nn.Sequential(
        nn.LazyConv2d(16, 3),
        nn.LazyBatchNorm2d(),
        nn.Flatten(),
        nn.LazyLinear(128),
        nn.ReLU(),
        nn.LazyLinear(10, bias=False),
    )


def named_net():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.Flatten(),
        nn.Linear(16 * 14 * 14, 128),
        nn.ReLU(),
        nn.Linear(128, 10, bias=False),
    )


def trained(make):
    with FakeGPU("t4") as gpu:
        net, x = make().to("cuda"), torch.randn(4, 3, 16, 16, device="cuda")
        net(x)
        step = torch.optim.AdamW(net.parameters())
        for _ in range(2):
            net(x).sum().backward()
            step.step()
        return gpu.devices[0].allocated


def test_a_lazy_net_takes_what_one_of_the_same_shapes_takes():
    ours, same = trained(lazy_net), trained(named_net)
    assert ours.allocated == same.allocated
    assert ours.roles == same.roles


def test_torch_s_own_are_there_again_behind_the_card():
    with FakeGPU("t4"):
        lazy_net()
    layer = nn.LazyLinear(4)
    assert type(layer.weight) is nn.parameter.UninitializedParameter
    assert layer(torch.zeros(2, 3)).shape == (2, 4) and type(layer.weight) is nn.Parameter

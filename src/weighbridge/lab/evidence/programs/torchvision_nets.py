"""torchvision's networks.

xmem        Stone-ResearchLife/xMem, perf_estimator/trainer/train_loop.py: 86x86 images, 4 steps
gpumemnet   itu-rad/GPUMemNet, Test_Pipeline/cnn_models: an epoch of ImageNet and its validation
"""

import torch
import torchvision
from torch import nn
from torchvision.models import MNASNet

from weighbridge.lab.evidence.programs.training import evaluated, images, optimizer

MADE = {"mnasnet": lambda: MNASNet(alpha=1.0, num_classes=10)}  # others by torchvision's name
LAST = (15, 80)  # images of the last batch of ImageNet's parts, of 128


def xmem(device: str, *, model: str, batch: int, optimizer_name: str, iterations: int = 4) -> None:
    net = _net(model).to(device)
    net.train()
    steps = optimizer(optimizer_name, net)
    criterion = nn.CrossEntropyLoss()
    for _ in range(iterations):
        inputs, labels = images(batch, 86)
        steps.zero_grad()
        inputs, labels = inputs.to(device), labels.to(device)
        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        steps.step()
        _, _chosen = torch.max(outputs, 1)


def gpumemnet(device: str, *, model: str, batch: int, side: int = 224) -> None:
    net = _net(model).to(device)
    net(torch.rand(2, 3, side, side, device=device))  # torchsummary's
    criterion = nn.CrossEntropyLoss()
    steps = optimizer("Adam", net)
    net.train()
    for size in (batch, batch, batch, LAST[0] % batch):
        inputs, labels = images(size, side)
        inputs, labels = inputs.to(device), labels.to(device)
        steps.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        steps.step()
        loss.item()
    evaluated(
        net, (images(size, side) for size in (batch, batch, LAST[1] % batch or batch)), device
    )


def _net(name: str) -> nn.Module:
    if name in MADE:
        return MADE[name]()
    more = {"aux_logits": False} if name == "inception_v3" else {}
    return torchvision.models.get_model(name, weights=None, **more)

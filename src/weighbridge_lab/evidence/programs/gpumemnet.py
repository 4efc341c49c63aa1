"""Networks of itu-rad/GPUMemNet, each trained as its own script trains it.

convolutional   Test_Pipeline/cnn_models: torchvision's networks, an epoch of ImageNet and its
                validation
perceptron      NeuroNetGen_scripts/MLP/mlp_next.py, one minute of training
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from weighbridge_lab.evidence.programs.xmem import images, vision_net

SAMPLES = 4096  # of the data set; the last batch of an epoch is what is left
FULL = 12  # full batches of it at most: more of them change nothing
LAST = (15, 80)  # images of the last batch of ImageNet's parts, of 128


def convolutional(device: str, *, model: str, batch: int, side: int = 224) -> None:
    net = vision_net(model).to(device)
    net(torch.rand(2, 3, side, side, device=device))  # torchsummary's
    criterion = nn.CrossEntropyLoss()
    steps = torch.optim.Adam(net.parameters(), lr=1e-3)
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
    _evaluate(net, [(size, side) for size in (batch, batch, LAST[1] % batch or batch)], device)


def _evaluate(net: nn.Module, sizes: Sequence[tuple[int, int]], device: str) -> None:
    """Run a validation pass, as most scripts do after an epoch."""
    net.eval()
    criterion = nn.CrossEntropyLoss()
    with torch.no_grad():
        for size, side in sizes:
            inputs, labels = images(size, side)
            inputs, labels = inputs.to(device), labels.to(device)
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.item()
            torch.max(outputs.data, 1)


def perceptron(
    device: str, *, inputs: int, layers: Sequence[Sequence[str | int]], batch: int
) -> None:
    """Train a perceptron; `layers` is (kind, width) in order."""
    net = nn.Sequential(*_layers(inputs, layers)).to(device)
    net.train()
    net(torch.rand(2, inputs, device=device))  # torchsummary's
    optimizer = torch.optim.Adam(net.parameters())
    outputs = int(layers[-1][1])
    criterion = nn.CrossEntropyLoss() if outputs > 1 else nn.BCEWithLogitsLoss()
    whole, remainder = divmod(SAMPLES, batch)
    for size in (*[batch] * min(whole, FULL), remainder or batch, batch):
        batch_inputs, labels = torch.zeros(size, inputs), torch.zeros(size, dtype=torch.long)
        batch_inputs, labels = batch_inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        scores = net(batch_inputs.view(size, -1))
        if outputs == 1:
            labels = labels.view(-1, 1).float()
        loss = criterion(scores, labels)
        loss.backward()
        optimizer.step()
        loss.item()


def _layers(width: int, layers: Sequence[Sequence[str | int]]) -> Iterator[nn.Module]:
    for kind, size in layers:
        out = int(size)
        if kind == "linear":
            yield nn.Linear(width, out)
        elif kind == "batch_normalization":
            yield nn.BatchNorm1d(out)
        elif kind == "dropout":
            yield nn.Dropout(0.5)
        elif kind == "Softmax":
            yield nn.Softmax(dim=1)
        else:
            yield getattr(nn, str(kind))()
        width = out

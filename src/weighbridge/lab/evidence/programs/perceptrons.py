"""Perceptrons: itu-rad/GPUMemNet, NeuroNetGen_scripts/MLP/mlp_next.py, one minute of training."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

SAMPLES = 4096  # of the data set; the last batch of an epoch is what is left
FULL = 12  # full batches of it at most: more of them change nothing


def mlp(device: str, *, inputs: int, layers: Sequence[Sequence[str | int]], batch: int) -> None:
    """Train a perceptron; `layers` is (kind, width) in their order."""
    net = nn.Sequential(*_made(inputs, layers)).to(device)
    net.train()
    net(torch.rand(2, inputs, device=device))  # torchsummary's
    optimizer = torch.optim.Adam(net.parameters())
    outputs = int(layers[-1][1])
    criterion = nn.CrossEntropyLoss() if outputs > 1 else nn.BCEWithLogitsLoss()
    whole, remainder = divmod(SAMPLES, batch)
    for size in (*[batch] * min(whole, FULL), remainder or batch, batch):
        inputs_, labels = torch.zeros(size, inputs), torch.zeros(size, dtype=torch.long)
        inputs_, labels = inputs_.to(device), labels.to(device)
        optimizer.zero_grad()
        scores = net(inputs_.view(size, -1))
        if outputs == 1:
            labels = labels.view(-1, 1).float()
        loss = criterion(scores, labels)
        loss.backward()
        optimizer.step()
        loss.item()


def _made(width: int, layers: Sequence[Sequence[str | int]]) -> Iterator[nn.Module]:
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

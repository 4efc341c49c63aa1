"""What training loops share: optimizers by name, batches, and the position of `zero_grad`."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


def optimizer(name: str, net: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer with torch's defaults but for the step size, which Adafactor needs to be
    its own."""
    more = {"relative_step": False} if name == "Adafactor" else {}
    return _class(name)(net.parameters(), lr=1e-3, **more)


def _class(name: str) -> Callable[..., torch.optim.Optimizer]:
    if name == "Adafactor":  # torch has one as well, since 2.5
        from transformers.optimization import Adafactor

        return Adafactor  # type: ignore[no-any-return]
    return getattr(torch.optim, name)  # type: ignore[no-any-return]


def images(batch: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, 3, side, side), torch.zeros(batch, dtype=torch.long)


def evaluated(
    net: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], device: str
) -> None:
    """A validation pass, as most scripts have one after an epoch."""
    net.eval()
    criterion = nn.CrossEntropyLoss()
    with torch.no_grad():
        for inputs, labels in batches:
            inputs, labels = inputs.to(device), labels.to(device)
            outputs = net(inputs)
            loss: Any = criterion(outputs, labels)
            loss.item()
            torch.max(outputs.data, 1)

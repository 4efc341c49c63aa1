"""timm's networks under its own training script: float32, SGD with momentum, cuDNN's search for
the fastest convolution, the loader that normalizes on the GPU one batch ahead, a validation pass.

    itu-rad/GPUMemNet, Related_works/FakeTensor: "TIMM library models, added some lines"; what the
    script was called with is not said
"""

from collections.abc import Iterator

import timm
import torch
from timm.data.loader import PrefetchLoader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2


class Images:
    """Batches of uint8 images, as workers of timm's loader collate them."""

    def __init__(self, batch: int, side: int, count: int) -> None:
        self.batch, self.side, self.count = batch, side, count

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(self.count):
            shape = (self.batch, 3, self.side, self.side)
            yield torch.zeros(shape, dtype=torch.uint8), torch.zeros(self.batch, dtype=torch.long)


def train(device: str, *, model: str, batch: int, iterations: int = 2) -> None:
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        _train(torch.device(device), model, batch, iterations)


def _train(device: torch.device, model: str, batch: int, iterations: int) -> None:
    net = timm.create_model(model, pretrained=False).to(device)
    side = net.default_cfg["input_size"][-1]
    optimizer = create_optimizer_v2(net, opt="sgd", lr=0.1, momentum=0.9, weight_decay=2e-5)
    criterion = LabelSmoothingCrossEntropy(smoothing=0.1)
    net.train()
    optimizer.zero_grad()
    for inputs, target in PrefetchLoader(Images(batch, side, iterations), device=device):
        loss = criterion(net(inputs), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    net.eval()
    with torch.no_grad():
        for inputs, target in PrefetchLoader(Images(batch, side, 1), device=device):
            torch.nn.functional.cross_entropy(net(inputs), target)

"""Small networks in plain PyTorch, where every block of memory can be counted by hand, and the
optimizers of all golden programs.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import nn, optim
from torch.nn import functional

from weighbridge_lab.golden import phase, steps

SIZES = (784, 8192, 4096, 2048, 1024, 512, 10)  # of a published measurement: 204.03 MB on load
ROWS = 128


def _bitsandbytes(weights: Iterable[Any]) -> Any:
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(weights, lr=1e-4)


# State per weight: sgd none, momentum 1 copy; adam, adamw 2 copies; adam8bit 2 bytes; adafactor a
# row and a column
OPTIMIZERS: dict[str, Callable[[Iterable[Any]], Any]] = {
    "sgd": lambda weights: optim.SGD(weights, lr=1e-3),
    "momentum": lambda weights: optim.SGD(weights, lr=1e-3, momentum=0.9),
    "adam": lambda weights: optim.Adam(weights, lr=1e-4),
    "adamw": lambda weights: optim.AdamW(weights, lr=1e-4),  # foreach, on CUDA
    "adamw-fused": lambda weights: optim.AdamW(weights, lr=1e-4, fused=True),
    "adamw-for-loop": lambda weights: optim.AdamW(weights, lr=1e-4, foreach=False),
    "adamw8bit": _bitsandbytes,
    "adafactor": lambda weights: optim.Adafactor(weights, lr=1e-3),
    "adagrad": lambda weights: optim.Adagrad(weights, lr=1e-3),
    "rmsprop": lambda weights: optim.RMSprop(weights, lr=1e-4),
}


def _perceptron() -> nn.Module:
    layers = [m for a, b in pairwise(SIZES) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def _digits(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(ROWS, 1, 28, 28).to(device)
    return images, torch.randint(0, SIZES[-1], (ROWS,)).to(device)


def perceptron(device: str, *, optimizer: str) -> None:
    phase("load")
    model = _perceptron().to(device)
    chosen = OPTIMIZERS[optimizer](model.parameters())
    for _ in steps():
        images, digits = _digits(device)
        chosen.zero_grad()
        functional.cross_entropy(model(images), digits).backward()
        chosen.step()
    phase("infer")
    with torch.no_grad():
        model(_digits(device)[0])


def accumulation(device: str) -> None:
    """Accumulate the gradients of four batches before a step."""
    phase("load")
    model = _perceptron().to(device)
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    for _ in steps():
        for _ in range(4):
            images, digits = _digits(device)
            (functional.cross_entropy(model(images), digits) / 4).backward()
        optimizer.step()
        optimizer.zero_grad()


def scaler(device: str) -> None:
    """Train in float16 by autocast: cast weights are cached until the region ends."""
    phase("load")
    model = _perceptron().to(device)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    scale = torch.amp.GradScaler(device)
    for _ in steps():
        images, digits = _digits(device)
        optimizer.zero_grad()
        with torch.autocast(device, torch.float16):
            loss = functional.cross_entropy(model(images), digits)
        scale.scale(loss).backward()
        scale.step(optimizer)
        scale.update()


def clipping(device: str) -> None:
    """Compute the norm over all gradients before a step."""
    phase("load")
    model = _perceptron().to(device)
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    for _ in steps():
        images, digits = _digits(device)
        optimizer.zero_grad(set_to_none=False)
        functional.cross_entropy(model(images), digits).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def step_in_backward(device: str) -> None:
    """Step each weight, and drop its gradient, as soon as it has one."""
    phase("load")
    model = _perceptron().to(device)
    optimizers = {p: OPTIMIZERS["adamw"]([p]) for p in model.parameters()}

    def step(weight: torch.Tensor) -> None:
        optimizers[weight].step()
        optimizers[weight].zero_grad()

    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(step)
    for _ in steps():
        images, digits = _digits(device)
        functional.cross_entropy(model(images), digits).backward()


def encoder(device: str) -> None:
    """Train torch's own transformer layers, and run the fast path that they take without
    gradients."""
    phase("load")
    layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
    model = nn.TransformerEncoder(layer, 6).to(device)
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    for _ in steps():
        optimizer.zero_grad()
        model(torch.randn(16, 256, 512, device=device)).square().mean().backward()
        optimizer.step()
    phase("infer")
    with torch.no_grad():
        model.eval()(torch.randn(16, 256, 512, device=device))


def convolutions(device: str) -> None:
    """Train convolutions of one size, where cuDNN's workspace is nearly all of the memory."""
    phase("load")
    blocks = [
        nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        for _ in range(4)
    ]
    model = nn.Sequential(*blocks).to(device)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    for _ in steps():
        optimizer.zero_grad()
        model(torch.randn(16, 64, 56, 56, device=device)).mean().backward()
        optimizer.step()


def embeddings(device: str) -> None:
    """Train on a long batch and a large vocabulary: the backward of an embedding sorts its
    indices."""
    phase("load")
    model = nn.Embedding(50_000, 256).to(device)
    optimizer = OPTIMIZERS["adagrad"](model.parameters())
    for _ in steps():
        ids = torch.randint(0, 50_000, (64, 512), device=device)
        optimizer.zero_grad()
        model(ids).mean().backward()
        optimizer.step()

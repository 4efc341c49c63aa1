"""Image models of transformers and diffusers, trained: from a config, without weights."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import transformers
from torch.nn import functional

from weighbridge_lab.golden import phase, steps
from weighbridge_lab.golden.nets import OPTIMIZERS

CLASSES = 1000
MODELS: dict[str, Callable[[], Any]] = {
    "resnet50": lambda: transformers.ResNetForImageClassification(
        transformers.ResNetConfig(num_labels=CLASSES)
    ),
    "convnext": lambda: transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(num_labels=CLASSES)
    ),
    "vit": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(num_labels=CLASSES)
    ),
}


def classify(
    device: str,
    *,
    model: str,
    optimizer: str,
    autocast: str | None = None,
    memory_format: str = "contiguous_format",
) -> None:
    """Train on 32 images of 224 pixels."""
    layout = getattr(torch, memory_format)
    phase("load")
    net = MODELS[model]().to(device, memory_format=layout).train()
    chosen = OPTIMIZERS[optimizer](net.parameters())
    for _ in steps():
        images = torch.randn(32, 3, 224, 224, device=device).to(memory_format=layout)
        labels = torch.randint(0, CLASSES, (32,), device=device)
        chosen.zero_grad()
        with torch.autocast(device, getattr(torch, autocast)) if autocast else nullcontext():
            loss = functional.cross_entropy(net(images).logits, labels)
        loss.backward()
        chosen.step()
    phase("infer")
    with torch.no_grad():
        net.eval()(images)


def unet(device: str, *, dtype: str = "float32", train: bool = True) -> None:
    """Train a small network of Stable Diffusion's kind: latents, a time, and cross-attention to a
    text."""
    from diffusers import UNet2DConditionModel

    phase("load")
    model = UNet2DConditionModel(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=1,
        cross_attention_dim=512,
        attention_head_dim=8,
    ).to(device, getattr(torch, dtype))
    place = {"device": device, "dtype": getattr(torch, dtype)}

    def denoise() -> Any:
        latents, text = torch.randn(2, 4, 64, 64, **place), torch.randn(2, 77, 512, **place)
        times = torch.randint(0, 1000, (2,), device=device)
        return functional.mse_loss(model(latents, times, text).sample, latents)

    if train:
        optimizer = OPTIMIZERS["adamw"](model.parameters())
        for _ in steps():
            optimizer.zero_grad()
            denoise().backward()
            optimizer.step()
    phase("infer")
    with torch.no_grad():
        denoise()

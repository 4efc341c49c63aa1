"""Networks of Stone-ResearchLife/xMem, trained for a few steps in float32.

convolutional   perf_estimator/trainer/train_loop.py: torchvision's networks on 86x86 images
transformer     trainer/train_loop.py: transformers' language models from a config, in training;
                lines of WikiText-2 cut at 128 tokens and padded to the longest of the batch, 128 in
                all but the smallest batches
"""

from collections.abc import Callable

import torch
from torch import nn

from weighbridge_lab.evidence.records import config, origins

ENCODER_DECODER = ("t5",)


def convolutional(
    device: str, *, model: str, batch: int, optimizer_name: str, iterations: int = 4
) -> None:
    net = vision_net(model).to(device)
    net.train()
    steps = _optimizer(optimizer_name, net)
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


def transformer(
    device: str,
    *,
    model: str,
    batch: int,
    tokens: int = 128,
    optimizer_name: str,
    iterations: int = 4,
) -> None:
    net = _language_net(model)
    steps = _optimizer(optimizer_name, net)
    net.to(device)
    for _ in range(iterations):
        ids = torch.zeros(batch, tokens, dtype=torch.long)
        mask = torch.ones_like(ids)
        if batch > 1:  # shorter lines are padded
            mask[0, -1] = 0
        inputs = {"input_ids": ids, "attention_mask": mask, "labels": ids.clone()}
        steps.zero_grad()
        inputs = {name: value.to(device) for name, value in inputs.items()}
        outputs = net(**inputs)
        loss = outputs.loss
        loss.backward()
        steps.step()


def vision_net(name: str) -> nn.Module:
    """Return one of torchvision's networks by name, without weights."""
    from torchvision import models

    if name == "mnasnet":
        return models.MNASNet(alpha=1.0, num_classes=10)
    more = {"aux_logits": False} if name == "inception_v3" else {}
    return models.get_model(name, weights=None, **more)


def images(batch: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return square images of `side` pixels, and their labels."""
    return torch.zeros(batch, 3, side, side), torch.zeros(batch, dtype=torch.long)


def _language_net(name: str) -> nn.Module:
    import transformers

    settings = transformers.AutoConfig.for_model(**config(origins()[name]))
    kind = transformers.AutoModelForCausalLM
    if settings.model_type in ENCODER_DECODER:
        kind = transformers.AutoModelForSeq2SeqLM
        settings.decoder_start_token_id = settings.pad_token_id
    return kind.from_config(settings, dtype=torch.float32).train()


def _optimizer(name: str, net: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer with torch's defaults, except Adafactor's step size, which it must set
    itself."""
    more = {"relative_step": False} if name == "Adafactor" else {}
    return _class(name)(net.parameters(), lr=1e-3, **more)


def _class(name: str) -> Callable[..., torch.optim.Optimizer]:
    if name == "Adafactor":  # torch has one as well, since 2.5
        from transformers.optimization import Adafactor

        return Adafactor  # type: ignore[no-any-return]
    return getattr(torch.optim, name)  # type: ignore[no-any-return]

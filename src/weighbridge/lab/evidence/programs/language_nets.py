"""transformers' language models: Stone-ResearchLife/xMem, trainer/train_loop.py.

Float32 weights from a config, in training mode; lines of WikiText-2 cut at 128 tokens and padded
to the longest of the batch, 128 in all but the smallest batches; 4 steps.
"""

import torch
import transformers

from weighbridge.lab.evidence.programs.training import optimizer
from weighbridge.lab.evidence.records import config, origins

ENCODER_DECODER = ("t5",)


def xmem(
    device: str,
    *,
    model: str,
    batch: int,
    tokens: int = 128,
    optimizer_name: str,
    iterations: int = 4,
) -> None:
    net = _net(model)
    steps = optimizer(optimizer_name, net)
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


def _net(name: str) -> torch.nn.Module:
    values = dict(config(origins()[name]))
    settings = transformers.AutoConfig.for_model(**values)
    kind = transformers.AutoModelForCausalLM
    if settings.model_type in ENCODER_DECODER:
        kind = transformers.AutoModelForSeq2SeqLM
        settings.decoder_start_token_id = settings.pad_token_id
    return kind.from_config(settings, dtype=torch.float32).train()

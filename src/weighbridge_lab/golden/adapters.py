"""Adapters of PEFT on a frozen model: as it is, and with its weights in 4 or 8 bits."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from weighbridge_lab.golden import phase, steps
from weighbridge_lab.golden.language import causal_model
from weighbridge_lab.golden.nets import OPTIMIZERS

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora(
    device: str,
    *,
    config: str,
    bits: int = 16,
    checkpointing: bool = False,
    dora: bool = False,
    optimizer: str = "adamw",
) -> None:
    phase("load")
    model = causal_model(config, device, "bfloat16").train()
    if bits < 16:
        _quantize(model, bits, device)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(r=16, target_modules=TARGETS, use_dora=dora))
    chosen = OPTIMIZERS[optimizer](p for p in model.parameters() if p.requires_grad)
    for _ in steps():
        ids = torch.randint(0, model.config.vocab_size, (2, 512), device=device)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        chosen.step()
        chosen.zero_grad()


def _quantize(model: Any, bits: int, device: str) -> None:
    """Quantize the model in place as `from_pretrained` with a BitsAndBytesConfig does: all but the
    head."""
    for name, old in list(model.model.named_modules()):
        if isinstance(old, nn.Linear):
            parent, _, last = name.rpartition(".")
            setattr(model.model.get_submodule(parent), last, _packed(old, bits, device))


def _packed(old: nn.Linear, bits: int, device: str) -> Any:
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    size = old.in_features, old.out_features
    if bits == 4:
        new = Linear4bit(*size, bias=False, compute_dtype=torch.bfloat16, device="meta")
        new.weight = Params4bit(old.weight.data, requires_grad=False, quant_type="nf4")
    else:
        new = Linear8bitLt(*size, bias=False, has_fp16_weights=False, device="meta")
        new.weight = Int8Params(old.weight.data, requires_grad=False, has_fp16_weights=False)
    return new.to(device)

"""Language models of transformers, trained: from a config, on the device, without weights."""

from contextlib import nullcontext
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from weighbridge.lab.golden.configs import CONFIGS
from weighbridge.lab.golden.optimizers import OPTIMIZERS
from weighbridge.lab.golden.phases import phase, steps


def causal_model(config: str, device: str, dtype: str, attention: str | None = None) -> Any:
    """Make a model on the device, as `device_map=` loads it. Attention is the class's own
    choice."""
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            CONFIGS[config](), dtype=getattr(torch, dtype), attn_implementation=attention
        )


def causal(
    device: str,
    *,
    config: str,
    dtype: str = "bfloat16",
    optimizer: str = "adamw",
    rows: int = 2,
    tokens: int = 512,
    **options: Any,
) -> None:
    """Train a causal model. `options`: autocast (a dtype), attention, checkpointing (what
    `gradient_checkpointing_enable` takes), batches (of one step)."""
    phase("load")
    model = causal_model(config, device, dtype, options.get("attention"))
    model.train()
    if "checkpointing" in options:
        model.gradient_checkpointing_enable(options["checkpointing"])
    chosen = OPTIMIZERS[optimizer](model.parameters())
    cast = options.get("autocast")
    for _ in steps():
        for _ in range(options.get("batches", 1)):
            ids = torch.randint(0, model.config.vocab_size, (rows, tokens), device=device)
            with torch.autocast(device, getattr(torch, cast)) if cast else nullcontext():
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
        chosen.step()
        chosen.zero_grad()
    phase("infer")
    with torch.no_grad():
        model.eval()(input_ids=ids)


def bert(device: str, *, optimizer: str) -> None:
    """Train bert-base-cased, with the head that it was trained with."""
    phase("load")
    model = BertForMaskedLM(BertConfig(vocab_size=28996)).to(device)
    chosen = OPTIMIZERS[optimizer](model.parameters())
    for _ in steps():
        ids = torch.randint(0, 28996, (8, 128), device=device)
        mask = torch.ones_like(ids)
        chosen.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
        chosen.step()
    phase("infer")
    with torch.no_grad():
        model.eval()(input_ids=ids, attention_mask=mask)


def t5(device: str) -> None:
    """Train T5 small."""
    phase("load")
    model = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0)).to(device)
    optimizer = OPTIMIZERS["adafactor"](model.parameters())
    for _ in steps():
        ids = torch.randint(0, 32128, (8, 256), device=device)
        labels = torch.randint(0, 32128, (8, 64), device=device)
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    phase("infer")
    with torch.no_grad():
        model.eval().generate(ids, max_new_tokens=4, eos_token_id=None)


def whisper(device: str) -> None:
    """Train Whisper tiny: two convolutions over 30 seconds of sound, then T5's shape."""
    phase("load")
    model = WhisperForConditionalGeneration(WhisperConfig()).to(device)
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    for _ in steps():
        sound = torch.randn(4, 80, 3000, device=device)
        ids = torch.randint(0, 50000, (4, 64), device=device)
        optimizer.zero_grad()
        model(input_features=sound, labels=ids).loss.backward()
        optimizer.step()

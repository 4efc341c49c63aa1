"""Text generated with each kind of cache: a prompt, then token by token."""

from typing import Any

import torch

from weighbridge.lab.golden.language import causal_model
from weighbridge.lab.golden.phases import phase

NEW = 8  # tokens


def generate(
    device: str,
    *,
    config: str,
    dtype: str = "bfloat16",
    rows: int = 4,
    prompt: int = 512,
    **options: Any,
) -> None:
    """Generate 8 tokens. `options`: cache (an implementation by name), beams, padded (rows of
    different lengths, so that attention gets a mask)."""
    phase("load")
    model = causal_model(config, device, dtype).eval()
    ids = torch.randint(0, model.config.vocab_size, (rows, prompt), device=device)
    mask = torch.ones_like(ids)
    if "padded" in options:
        mask[0, : prompt // 2] = 0
    phase("generate")
    model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW,
        do_sample=False,
        num_beams=options.get("beams", 1),
        cache_implementation=options.get("cache"),
        eos_token_id=None,
        pad_token_id=0,
        disable_compile=True,
    )

"""Text generated with each kind of cache: a prompt, then token by token."""

import torch

from weighbridge.golden.language import causal_model
from weighbridge.golden.phases import phase


def generate(
    device: str,
    *,
    config: str,
    dtype: str = "bfloat16",
    cache: str | None = None,
    rows: int = 4,
    prompt: int = 512,
    new: int = 16,
    beams: int = 1,
    padded: bool = False,
) -> None:
    """`padded`: the rows are of different lengths, so that attention gets a mask."""
    phase("load")
    model = causal_model(config, device, dtype).eval()
    ids = torch.randint(0, model.config.vocab_size, (rows, prompt), device=device)
    mask = torch.ones_like(ids)
    if padded:
        mask[0, : prompt // 2] = 0
    phase("generate")
    model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=new,
        do_sample=False,
        num_beams=beams,
        cache_implementation=cache,
        eos_token_id=None,
        pad_token_id=0,
        disable_compile=True,
    )

"""What changed between releases of mlx-lm, and which models it has a class for.

Source: github.com/ml-explore/mlx-lm at d78bf58 (0.32, August 2026) and its tags; mlx at 846d176.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from weighbridge.arch.table import column
from weighbridge.engines.engine import Version

STEP = 256  # tokens by which a cache grows: models/cache.py (KVCache.step)
KEPT = 4  # first tokens that --max-kv-size never drops (make_prompt_cache, keep=4)
PROMPTS = 8  # prompts that the server reads at once (--prompt-concurrency)
DECODED = 32  # requests that it answers at once (--decode-concurrency)
QUANTIZED_FROM = 5000  # tokens: --quantized-kv-start of mlx_lm.generate
NEAR = 0.9  # share of the working set beyond which mlx-lm warns (generate.py, wired_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Defaults of one release."""

    prefill_step: int = 512  # tokens of a prompt that are computed at once
    stored_scores: bool = True  # of a prompt: its mask was an array, which no kernel took
    last_logits: bool = False  # of a prompt's last piece only the last token has logits
    llama_windows: bool = False  # Llama's class keeps windows, and has a cache of its own making
    whole_scans: bool = True  # a state-space layer's matrices are of the whole piece


CHANGES: Mapping[Version, Mapping[str, Any]] = {
    (0, 22, 2): {
        "prefill_step": 2048,
        "stored_scores": False,
    },  # fd175f1, pull request 40, March 2025
    (0, 27, 1): {"last_logits": True},  # 24fefe3, #406, August 2025
    (0, 28, 2): {"llama_windows": True},  # dcb4b9b, #505, September 2025
    (0, 28, 3): {"whole_scans": False},  # #525, October 2025
}


@cache
def mlx_rules(version: Version) -> Rules:
    """The oldest release's rules with every change up to `version`."""
    found = Rules()
    for since, change in CHANGES.items():
        if version >= since:
            found = replace(found, **change)
    return found


def has(model_type: str, word: str) -> bool:
    """Whether mlx-lm has `word` for it: a "class" (utils.py MODEL_REMAPPING, mlx_lm/models), caches
    of its own (make_cache), of which some let windows slide (RotatingKVCache)..."""
    return word in column("mlx").get(model_type, "").split(",")


# Heads that Metal's kernel of attention takes for a prompt; scores of others are stored (mlx
# backend/metal/scaled_dot_product_attention.cpp, use_fallback)
FUSED = frozenset((64, 72, 80, 96, 128))

"""Differences between releases of mlx-lm, and the models that it has a class for.

Source: github.com/ml-explore/mlx-lm at d78bf58 (0.32, August 2026) and its tags; mlx at 846d176.
"""

from functools import cache

from weighbridge.base.records import frozen_record
from weighbridge.engines.engine import Version, by_release, changes

STEP = 256  # tokens by which a cache grows: models/cache.py (KVCache.step)
KEPT = 4  # first tokens that --max-kv-size never drops (make_prompt_cache, keep=4)
# Limits of a command buffer, in operations and in 2 ** 20 elements: for chips called Max and Ultra,
# and for others (mlx 846d176 backend/metal/device.cpp)
COMMITS, COMMITS_OF_OTHERS = 50, 40
PROMPTS = 8  # prompts that the server prefills together (--prompt-concurrency)
DECODED = 32  # requests that it decodes together (--decode-concurrency)
QUANTIZED_FROM = 5000  # tokens: --quantized-kv-start of mlx_lm.generate
NEAR = 0.9  # share of the working set beyond which mlx-lm warns (generate.py, wired_limit)


@frozen_record
class MlxRules:
    """The behaviour of one release, with the mlx of its day. The scores of a prompt are stored if
    no kernel supports its heads (mlx backend/metal/scaled_dot_product_attention.cpp, use_fallback,
    v0.24.0 to v0.32.1)."""

    prefill_step: int = 512  # tokens per prefill chunk
    stored_scores: bool = True  # for prompts: their mask was an array, which no kernel supports
    last_logits: bool = False  # only the last token of a prompt has logits
    llama_windows: bool = False  # Llama's class supports windows, and makes its own cache
    # MlxFacts.expands of classes that store keys and values of all heads instead of latents
    expands: frozenset[str] = frozenset(("always", "once", "longer"))
    fused: frozenset[int] = frozenset((64, 80, 128))  # head dims that a prefill kernel supports
    whole_scans: bool = True  # an SSM layer's matrices cover the whole chunk


CHANGES = changes(__file__, expands=frozenset, fused=frozenset)


@cache
def mlx_rules(version: Version) -> MlxRules:
    """Return the behaviour of the release `version`."""
    return by_release(MlxRules(), CHANGES, version)

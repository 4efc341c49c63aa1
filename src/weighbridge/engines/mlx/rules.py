"""What changed between releases of mlx-lm, and which models it has a class for.

Source: github.com/ml-explore/mlx-lm at d78bf58 (0.32, August 2026) and its tags; mlx at 846d176.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

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


# Model types of a class that is called otherwise (utils.py, MODEL_REMAPPING)
_CALLED = """
mistral llava phi-msft falcon_mamba joyai_llm_flash kimi_k2 qwen2_5_vl minimax_m2 iquestcoder
gemma4_unified
"""
# Files of mlx_lm/models, which are called as the model types that they are for
_CLASSES = """
Klear afm7 afmoe apertus baichuan_m1 bailing_moe bailing_moe_linear bitnet cohere cohere2 dbrx
deepseek deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5 ernie4_5_moe exaone exaone4 exaone_moe
falcon_h1 gemma gemma2 gemma3 gemma3_text gemma3n gemma4 gemma4_text glm glm4 glm4_moe glm4_moe_lite
glm_moe_dsa gpt2 gpt_bigcode gpt_neox gpt_oss granite granitemoe granitemoehybrid helium hunyuan
hunyuan_v1_dense internlm2 internlm3 iquestloopcoder jamba kimi_k25 kimi_linear kimi_vl laguna
lfm2-vl lfm2 lfm2_moe lille-130m llama llama4 llama4_text longcat_flash longcat_flash_ngram mamba
mamba2 mellum mimo mimo_v2_flash minicpm minicpm3 minimax ministral3 mistral3 mixtral nanochat
nemotron-nas nemotron nemotron_h olmo olmo2 olmo3 olmoe openelm phi phi3 phi3small phimoe phixtral
pixtral plamo plamo2 qwen qwen2 qwen2_moe qwen2_vl qwen3 qwen3_5 qwen3_5_moe qwen3_moe qwen3_next
qwen3_vl qwen3_vl_moe recurrent_gemma rwkv7 seed_oss smollm3 solar_open stablelm starcoder2 step3p5
telechat3 youtu_llm
"""
SERVED = frozenset((*_CALLED.split(), *_CLASSES.split()))
# Classes that make their caches themselves: --max-kv-size changes nothing there (make_cache)
_OWN_CACHES = """
afm7 afmoe baichuan_m1 bailing_moe_linear cohere2 deepseek_v32 exaone4 exaone_moe falcon_h1 gemma3
gemma3_text gemma3n gemma3n_text gemma4 gemma4_text gemma4_unified gpt_oss granitemoehybrid jamba
kimi_linear laguna lfm2 lfm2_moe llama4 llama4_text longcat_flash mamba falcon_mamba mamba2 mellum
mimo_v2_flash ministral3 nemotron-nas nemotron_h olmo3 plamo2 qwen3_5 qwen3_5_moe qwen3_next
recurrent_gemma rwkv7 step3p5 qwen3_5_text qwen3_5_moe_text step3p7_text
"""
OWN_CACHES = frozenset(_OWN_CACHES.split())
# ... of which these let windows slide (RotatingKVCache); all others keep every token
_WINDOWED = """
afmoe baichuan_m1 cohere2 exaone4 exaone_moe gemma3 gemma3_text gemma3n gemma3n_text gemma4
gemma4_text gemma4_unified gpt_oss laguna llama4 llama4_text mellum mimo_v2_flash ministral3 olmo3
recurrent_gemma step3p5
"""
WINDOWED = frozenset(_WINDOWED.split())
LLAMAS = frozenset(("llama", "mistral"))  # one class
# Heads that Metal's kernel of attention takes for a prompt; scores of others are stored (mlx
# backend/metal/scaled_dot_product_attention.cpp, use_fallback)
FUSED = frozenset((64, 72, 80, 96, 128))
CAPPED = frozenset(("gemma2",))  # models that store scores to cap them (models/gemma2.py)
# Latents as such; DeepSeek-V2's and MiniCPM3's classes store every head's keys and values
EXPANDED = frozenset(("deepseek_v2", "minicpm3"))

"""How SGLang spreads a model over devices.

Source: sglang 0.5.23: srt/distributed/utils.py, srt/layers/moe/fused_moe_triton/layer.py,
srt/layers/quantization/mxfp4.py, srt/models/*.py, srt/lora/mem_pool.py.
"""

from functools import cache

from weighbridge.dtypes import FLOAT32
from weighbridge.engines.engine import Version
from weighbridge.engines.parallel import rules as parallel
from weighbridge.engines.parallel import stages
from weighbridge.engines.parallel.kernels import HOPPER, Kernel
from weighbridge.engines.sglang import ENGINE

# srt/models/gemma3_causal.py, gemma3n_causal.py, gemma4_causal.py (Gemma3TextScaledWordEmbedding)
WHOLE_EMBEDDING = frozenset({"gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text"})
_EMBEDDING = "bailing_moe falcon_h1 lfm2 lfm2_moe minimax_m2 opt phi starcoder2"
EMBEDDING = frozenset(_EMBEDDING.split())
_HEAD = """
    apertus arcee bailing_moe bailing_moe_v2 exaone_moe falcon_h1 glm4_moe glm4_moe_lite gpt_oss
    granitemoehybrid lfm2 lfm2_moe llama mistral mixtral nemotron-nas opt phi phi3 qwen2_moe
    qwen3_moe starcoder2

"""
HEAD = frozenset(_HEAD.split())
BLACKWELL = Kernel(columns=128, hidden=128, bias_bytes=4)


def bounds(layers: int, ranks: int) -> tuple[int, ...]:
    """Give each stage layers // stages, and one more of the rest to the last ones."""
    rest = layers % ranks
    return stages.bounds([layers // ranks + (i >= ranks - rest) for i in range(ranks)])


@cache
def spread(version: Version, *, towers: bool = True) -> parallel.Rules:
    """Return the same object each time: what `shards` keeps is found again by it."""
    return parallel.Rules(
        name=ENGINE.name,
        version=version,
        bounds=bounds,
        embedding=EMBEDDING,
        head=HEAD,
        grows=True,
        uneven=False,
        replicas_share=False,
        absorbs=True,
        rotary=FLOAT32,
        whole_embedding=WHOLE_EMBEDDING,
        towers=towers,
        hopper=HOPPER,
        blackwell=BLACKWELL,
        lora_source="sglang srt/lora/mem_pool.py",
    )

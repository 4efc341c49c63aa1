"""How vLLM spreads a model over devices.

Source: vllm 0.33 and 0.19: distributed/utils.py (get_pp_indices, VLLM_PP_LAYER_PARTITION),
model_executor/layers/{linear,mla,vocab_parallel_embedding}.py, fused_moe/{config,
expert_map_manager}.py and the get_pp_group() of model_executor/models/*.py; lora/layers/*.py and
config/lora.py (MaxLoRARanks).
"""

from functools import cache

from weighbridge.dtypes import FLOAT32
from weighbridge.engines.parallel import rules as parallel
from weighbridge.engines.parallel import stages
from weighbridge.engines.vllm import ENGINE
from weighbridge.engines.vllm.rules import Version, rules

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# vLLM's classes whose embedding and head take adapters (embedding_modules)
_EMBEDDED = """
    apertus exaone exaone4 exaone_moe falcon_h1 granite granitemoe granitemoehybrid
    granitemoeshared hyperclovax jamba lfm2 lfm2_moe llama phi3 minicpm minicpm3 mixtral nemotron
    nemotron_h nemotron-nas phimoe qwen3 qwen3_moe qwen3_5_text qwen3_5_moe_text solar
"""
EMBEDDED = frozenset(_EMBEDDED.split())
# Model types whose class makes the embedding, or the head, on every stage.
_EMBEDDING = """
    bloom chatglm cohere cohere2 cohere2_moe dbrx falcon gemma gemma2 gemma3_text gemma4_text gpt2
    gptj gpt_oss granitemoe granitemoehybrid granitemoeshared hy_v3 internlm2 jamba lfm2 lfm2_moe
    mamba mamba2 minicpm minicpm3 mixtral molmo nemotron_h olmo_hybrid olmoe opt orion phi3_v
    phimoe qwen2_moe qwen3_moe qwen3_next qwen3_5_text qwen3_5_moe_text qwen3_vl_moe_text stablelm

"""
EMBEDDING = frozenset(_EMBEDDING.split())
HEAD = EMBEDDING - frozenset(["lfm2", "lfm2_moe", "qwen3_5_text", "qwen3_5_moe_text"])
# is_sequence_parallel of vllm model_executor/models/*.py
WHOLE_SHARED = frozenset(
    {
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "glm_moe_dsa",
        "kimi_k2",
        "llama4_text",
        "nemotron_h",
        "qwen2_moe",
        "qwen3_5_moe_text",
        "qwen3_next",
    }
)
LIBRARY_TOWERS = frozenset({"gemma4", "gemma3n"})  # AutoModel.from_config in gemma*_mm.py


def bounds(layers: int, ranks: int) -> tuple[int, ...]:
    """Give each stage layers // stages; the rest go to the last but one and those before it."""
    sizes = [layers // ranks] * ranks
    for i in range(2, layers % ranks + 2):
        sizes[-i] += 1
    return stages.bounds(sizes)


@cache
def spread(version: Version, *, eager: bool = False, towers: bool = True) -> parallel.Rules:
    """Return the same object each time: what `shards` keeps is found again by it."""
    r = rules(version)
    return parallel.Rules(
        name=ENGINE.name,
        version=version,
        bounds=bounds,
        embedding=EMBEDDING,
        head=HEAD,
        grows=False,
        uneven=True,
        replicas_share=True,
        absorbs=False,
        rotary_latent=FLOAT32 if eager and r.wide_latents else None,
        towers_everywhere=r.towers_everywhere,
        whole_shared=WHOLE_SHARED,
        library_towers=LIBRARY_TOWERS,
        towers=towers,
        shared_hold=r.shared_hold,
        hopper=r.hopper,
        blackwell=r.blackwell,
        lora_source="vllm lora/layers/*.py",
        lora_ranks=LORA_RANKS,
        adapted=EMBEDDED,
        extra_vocabulary=r.extra_vocabulary,
    )

"""How vLLM spreads a model over devices.

Source: vllm 0.33 and 0.19: distributed/utils.py (get_pp_indices, VLLM_PP_LAYER_PARTITION),
model_executor/layers/{linear,mla,vocab_parallel_embedding}.py, fused_moe/{config,
expert_map_manager}.py and the get_pp_group() of model_executor/models/*.py; lora/layers/*.py and
config/lora.py (MaxLoRARanks).
"""

from functools import cache

from weighbridge.arch.table import column
from weighbridge.dtypes import FLOAT32
from weighbridge.engines.parallel import rules as parallel
from weighbridge.engines.parallel import stages
from weighbridge.engines.vllm import ENGINE
from weighbridge.engines.vllm.rules import Version, rules

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def bounds(layers: int, ranks: int) -> tuple[int, ...]:
    """Give each stage layers // stages; the rest go to the last but one and those before it."""
    sizes = [layers // ranks] * ranks
    for i in range(2, layers % ranks + 2):
        sizes[-i] += 1
    return stages.bounds(sizes)


@cache
def spread(version: Version, *, eager: bool = False, towers: bool = True) -> parallel.SplitRules:
    """Return the same object each time: what `shards` keeps is found again by it."""
    r = rules(version)
    return parallel.SplitRules(
        name=ENGINE.name,
        version=version,
        bounds=bounds,
        embedding=stages.every_stage(column("vllm.every_stage"), "embedding"),
        head=stages.every_stage(column("vllm.every_stage"), "head"),
        grows=False,
        uneven=True,
        replicas_share=True,
        absorbs=False,
        rotary_latent=FLOAT32 if eager and r.wide_latents else None,
        towers_everywhere=r.towers_everywhere,
        # is_sequence_parallel of vllm model_executor/models/*.py
        whole_shared=frozenset(column("vllm.whole_shared_experts")),
        library_towers=frozenset(column("vllm.library_towers")),  # AutoModel.from_config
        towers=towers,
        shared_hold=r.shared_hold,
        hopper=r.hopper,
        blackwell=r.blackwell,
        lora_source="vllm lora/layers/*.py",
        lora_ranks=LORA_RANKS,
        adapted=frozenset(column("vllm.adapted_embedding")),
        extra_vocabulary=r.extra_vocabulary,
    )

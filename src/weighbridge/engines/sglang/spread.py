"""How SGLang spreads a model over devices.

Source: sglang 0.5.23: srt/distributed/utils.py, srt/layers/moe/fused_moe_triton/layer.py,
srt/layers/quantization/mxfp4.py, srt/models/*.py, srt/lora/mem_pool.py.
"""

from functools import cache

from weighbridge.arch.table import column
from weighbridge.dtypes import FLOAT32
from weighbridge.engines.engine import Version
from weighbridge.engines.parallel import rules as parallel
from weighbridge.engines.parallel import stages
from weighbridge.engines.parallel.kernels import HOPPER, WeightKernel
from weighbridge.engines.sglang import ENGINE
from weighbridge.engines.sglang.rules import rules

DATA_CENTRE = 10  # compute capability of Blackwell with TensorRT-LLM's kernels
BLACKWELL = WeightKernel(columns=128, hidden=128, bias_bytes=4)


def bounds(layers: int, ranks: int) -> tuple[int, ...]:
    """Give each stage layers // stages, and one more of the rest to the last ones."""
    rest = layers % ranks
    return stages.bounds([layers // ranks + (i >= ranks - rest) for i in range(ranks)])


@cache
def spread(version: Version, *, towers: bool = True, major: int = 0) -> parallel.SplitRules:
    """Return the same object each time: what `shards` keeps is found again by it. `major`: of the
    card's compute capability."""
    r = rules(version)
    return parallel.SplitRules(
        name=ENGINE.name,
        version=version,
        bounds=bounds,
        embedding=stages.every_stage(column("sglang.every_stage"), "embedding"),
        head=stages.every_stage(column("sglang.every_stage"), "head"),
        grows=True,
        uneven=False,
        replicas_share=False,
        absorbs=True,
        rotary=FLOAT32,
        # srt/models/gemma{3,3n,4}_causal.py (Gemma3TextScaledWordEmbedding)
        whole_embedding=frozenset(column("sglang.whole_embedding")),
        towers=towers,
        hopper=HOPPER,
        blackwell=BLACKWELL,
        mixed_scale=r.mixed_scale_blackwell if major == DATA_CENTRE else r.mixed_scale,
        lora_source="sglang srt/lora/mem_pool.py",
    )

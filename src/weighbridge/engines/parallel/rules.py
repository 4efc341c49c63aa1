"""What differs between the engines, and between their versions, in how a model is spread.

    rules("vllm", (0, 19)) -> Rules

Source: vllm 0.33 and 0.19: distributed/utils.py, model_executor/layers/{linear,mla,
vocab_parallel_embedding}.py, fused_moe/{config,expert_map_manager}.py, model_executor/models/;
sglang 0.5.23: srt/distributed/utils.py, srt/layers/moe/fused_moe_triton/layer.py, srt/models/.
"""

from dataclasses import dataclass, replace

from weighbridge.arch.table import column
from weighbridge.dtypes import FLOAT32, DType
from weighbridge.engines.parallel import stages

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How an engine splits."""

    name: str
    version: Version
    bounds: stages.Bounds  # of the layers of each pipeline stage
    embedding: frozenset[str]  # model types with the embedding on every stage
    head: frozenset[str]  # and with the head
    grows: bool  # the vocabulary is padded to 64 a rank where 64 rows do not divide
    uneven: bool  # experts may be shared out unevenly
    replicas_share: bool  # experts are spread over data-parallel replicas
    absorbs: bool  # MLA keeps the up-projection a second time, though it is not packed
    rotary: DType | None = None  # of tables of positions; None is the model's
    rotary_latent: DType | None = None  # of YaRN's beside latent attention; None is `rotary`
    towers_everywhere: bool = False  # on every pipeline stage
    # model types whose shared experts are whole where every rank routes tokens of its own
    whole_shared: frozenset[str] = frozenset()
    library_towers: frozenset[str] = frozenset()  # model types whose towers are transformers' own
    # model types whose embedding is torch's own, whole on every rank
    whole_embedding: frozenset[str] = frozenset()
    towers: bool = True  # are loaded
    shared_hold: bool = True  # layers that share another's cache hold keys and values of their own


VLLM = Rules(
    name="vllm",
    version=(0, 33),
    bounds=stages.vllm,
    embedding=stages.every_stage("vllm", "embedding"),
    head=stages.every_stage("vllm", "head"),
    grows=False,
    uneven=True,
    replicas_share=True,
    absorbs=False,
    # is_sequence_parallel of vllm model_executor/models/*.py
    whole_shared=frozenset(column("vllm.whole_shared_experts")),
    library_towers=frozenset(column("vllm.library_towers")),  # AutoModel.from_config
)
SGLANG = Rules(
    name="sglang",
    version=(0, 5, 23),
    bounds=stages.sglang,
    embedding=stages.every_stage("sglang", "embedding"),
    head=stages.every_stage("sglang", "head"),
    grows=True,
    uneven=False,
    replicas_share=False,
    absorbs=True,
    rotary=FLOAT32,
    # srt/models/gemma{3,3n,4}_causal.py (Gemma3TextScaledWordEmbedding)
    whole_embedding=frozenset(column("sglang.whole_embedding")),
)
SHARED_HOLD_NOTHING = (0, 30)  # vllm model_executor/models/gemma4.py (is_kv_shared_layer)
FIRST_STAGE_TOWERS = (0, 30)  # vLLM's second model runner, which encodes on the first stage alone


def rules(engine: str, version: Version) -> Rules:
    if engine == "sglang":
        return replace(SGLANG, version=version)
    return replace(
        VLLM,
        version=version,
        towers_everywhere=version < FIRST_STAGE_TOWERS,
        shared_hold=version < SHARED_HOLD_NOTHING,
    )

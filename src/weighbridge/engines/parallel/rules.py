"""What differs between the engines, and between their versions, in how a model is spread.

Each engine makes its own: see spread.py of its folder.

Source: vllm 0.33 and 0.19: distributed/utils.py, model_executor/layers/{linear,mla,
vocab_parallel_embedding}.py, fused_moe/{config,expert_map_manager}.py, model_executor/models/;
sglang 0.5.23: srt/distributed/utils.py, srt/layers/moe/fused_moe_triton/layer.py, srt/models/.
"""

from dataclasses import dataclass

from weighbridge.dtypes import DType
from weighbridge.engines.parallel.kernels import MARLIN, WeightKernel
from weighbridge.engines.parallel.stages import Bounds

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """How an engine splits."""

    name: str
    version: Version
    bounds: Bounds  # of the layers of each pipeline stage
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
    hopper: WeightKernel  # that multiplies MXFP4 on compute capability 9
    blackwell: WeightKernel  # and on 10
    # bytes of a block's scale where experts alone are in MXFP4, beside others in float8
    mixed_scale: int = 1
    lora_source: str
    lora_ranks: tuple[int, ...] = ()  # those that adapters may have; () is any
    adapted: frozenset[str] = frozenset()  # model types whose embedding and head take adapters
    extra_vocabulary: int = 0  # rows that each adapter adds to them
    shared_hold: bool = True  # layers that share another's cache hold keys and values of their own

    def kernel(self, major: int) -> WeightKernel:
        """Find the kernel for MXFP4 by the major number of the compute capability."""
        return {9: self.hopper, 10: self.blackwell}.get(major, MARLIN)

"""What differs between the engines, and between their versions, in how a model is spread.

Each engine makes its own: see spread.py of its folder.

Source: vllm 0.33 and 0.19: distributed/utils.py, model_executor/layers/{linear,mla,
vocab_parallel_embedding}.py, fused_moe/{config,expert_map_manager}.py, model_executor/models/;
sglang 0.5.23: srt/distributed/utils.py, srt/layers/moe/fused_moe_triton/layer.py, srt/models/.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from weighbridge.dtypes import DType
from weighbridge.engines.parallel.kernels import MARLIN, WeightKernel
from weighbridge.engines.parallel.stages import Bounds

Version = tuple[int, ...]


class ClassSplit(NamedTuple):
    """How an engine's class of one model type is split otherwise than most."""

    embedding: bool  # every pipeline stage has the embedding
    head: bool  # and every one the head
    whole_shared: bool = False  # shared experts are whole where every rank routes its own tokens
    library_towers: bool = False  # its towers are transformers' own
    whole_embedding: bool = False  # the embedding is torch's own, whole on every rank
    adapted: bool = False  # embedding and head take adapters


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRules:
    """How an engine splits."""

    name: str
    version: Version
    bounds: Bounds  # of the layers of each pipeline stage
    of_class: Callable[[str], ClassSplit]  # by model type
    grows: bool  # the vocabulary is padded to 64 a rank where 64 rows do not divide
    uneven: bool  # experts may be shared out unevenly
    replicas_share: bool  # experts are spread over data-parallel replicas
    absorbs: bool  # MLA keeps the up-projection a second time, though it is not packed
    rotary: DType | None = None  # of tables of positions; None is the model's
    rotary_latent: DType | None = None  # of YaRN's beside latent attention; None is `rotary`
    towers_everywhere: bool = False  # on every pipeline stage
    towers: bool = True  # are loaded
    hopper: WeightKernel  # that multiplies MXFP4 on compute capability 9
    blackwell: WeightKernel  # and on 10
    # bytes of a block's scale where experts alone are in MXFP4, beside others in float8
    mixed_scale: int = 1
    lora_source: str
    lora_ranks: tuple[int, ...] = ()  # those that adapters may have; () is any
    extra_vocabulary: int = 0  # rows that each adapter adds to them
    shared_hold: bool = True  # layers that share another's cache hold keys and values of their own

    def kernel(self, major: int) -> WeightKernel:
        """Find the kernel for MXFP4 by the major number of the compute capability."""
        return {9: self.hopper, 10: self.blackwell}.get(major, MARLIN)

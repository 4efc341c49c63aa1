"""Rules by which engines shard a model over devices: the differences between their versions, and
the number of devices per kind of parallelism in a launch.

    Spread        tensor-parallel ranks, pipeline stages, replicas, expert parallelism
    SplitRules    an engine's own, which each makes in weights.py of its folder
    WeightKernel  the layout of MXFP4 experts in memory, which depends on the matmul kernel

    Triton on Hopper    F / ranks to 64; values in rows and bytes of 64 (not today's copy of the
                        kernels); scales in rows of 256, in addition to the file's own until those
                        were dropped; biases in float32
    Marlin              F / ranks to 128, D to 256
    TensorRT-LLM        F / ranks to 128 (to 256 before), D to 256: on Blackwell

Layers are split over the stages of a pipeline:

    vllm      layers // stages, the remainder from the last but one backwards
    sglang    layers // stages, the remainder to the last ones

Modules before the layers are on the first stage, those after them on the last. A head that is tied
to the embedding makes a second copy of it there. Many classes build the embedding or the head on
every stage.

Source: vllm 0.33 and 0.19: distributed/utils.py (get_pp_indices, VLLM_PP_LAYER_PARTITION),
model_executor/layers/{linear,mla,vocab_parallel_embedding}.py, fused_moe/{config,
expert_map_manager}.py, fused_moe/oracle/mxfp4.py (mxfp4_round_up_hidden_size_and_intermediate_size,
TRITON_BACKENDS), third_party/triton_kernels/tensor_details/layout_details/hopper_{value,scale}.py,
the get_pp_group() of model_executor/models/*.py; sglang 0.5.23: srt/distributed/utils.py,
srt/layers/moe/fused_moe_triton/layer.py, srt/layers/quantization/mxfp4.py, srt/models/*.py. vLLM's
logs on an H100 (0.11 and 0.19, gpt-oss-20b) agree with the first row.
"""

from collections.abc import Callable
from typing import TypedDict

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.model_types import NEVER

Version = tuple[int, ...]
Bounds = Callable[[int, int], tuple[int, ...]]  # (layers, stages) -> bounds


class WeightKernel(NamedTuple):
    """Multiples to which a matmul kernel pads the sizes of MXFP4, and what it keeps."""

    columns: int = 1  # F per rank
    hidden: int = 1
    value_rows: int = 1
    value_bytes: int = 1
    scale_rows: int = 1
    scale_columns: int = 1
    file_scales: bool = False  # keeps the stored scales in addition to the kernel's
    bias_bytes: int = 2


PLAIN = WeightKernel()
HOPPER = WeightKernel(columns=64, scale_rows=256, scale_columns=2, bias_bytes=4)
MARLIN = WeightKernel(columns=128, hidden=256)


def given(partition: tuple[float, ...], layers: int, stages: int) -> tuple[int, ...]:
    """Return the bounds of stages with the user's layers each, as both engines' environment
    variables set them. Raises UsageError if they do not add up, or one is empty."""
    sizes = [int(number) for number in partition]
    if len(sizes) != stages or sum(partition) != layers or min(sizes) < 1 or sizes != [*partition]:
        each = [layers // stages] * (stages - 1)
        even = ",".join(map(str, (*each, layers - sum(each))))
        raise UsageError(
            sentence(
                "partition",
                partition=",".join(f"{n:g}" for n in partition),
                sum=sum(partition),
                count=len(partition),
                layers=layers,
                stages=stages,
                unit="stage" if stages == 1 else "stages",
                even=even,
            )
        )
    return bounds(sizes)


def bounds(sizes: list[int]) -> tuple[int, ...]:
    """Return the number of each stage's first layer, and the number of all layers."""
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    return tuple(ends)


class ClassSplit(NamedTuple):
    """Exceptions of one model type: parts that an engine splits differently than usual."""

    embedding: bool  # every pipeline stage has the embedding
    head: bool  # every pipeline stage has the head
    whole_shared: bool = False  # shared experts are replicated if every rank routes its own tokens
    library_towers: bool = False  # its encoders are transformers' own
    whole_embedding: bool = False  # the embedding is torch's own, replicated on every rank
    adapted: bool = False  # embedding and head take adapters
    partial_blocks: bool = False  # as in SplitRules, for its attention only
    fills_shared: Version = NEVER  # first release that splits shared experts in whole blocks


@frozen_record
class SplitRules:
    """An engine's rules for splitting weights among ranks."""

    name: str
    version: Version
    bounds: Bounds  # first layers of the pipeline stages
    of_class: Callable[[str], ClassSplit]  # by model type
    grows: bool  # the vocabulary is padded to 64 rows per rank if 64 in all do not divide
    uneven: bool  # ranks may have unequal numbers of experts
    replicas_share: bool  # experts are split over data-parallel replicas
    absorbs: bool  # MLA keeps the up-projection a second time, even if it is not quantized
    rotary: DType | None = None  # of rotary tables; None: the model's
    rotary_latent: DType | None = None  # of YaRN's with MLA; None: `rotary`
    towers_everywhere: bool = False  # encoders are on every pipeline stage
    towers: bool = True  # encoders are loaded
    hopper: WeightKernel  # for MXFP4 on compute capability 9
    blackwell: WeightKernel  # on 10
    # bytes per scale if only experts are in MXFP4 and the others in float8
    mixed_scale: int = 1
    uneven_seen: str = ""  # the engine's message for sizes that ranks do not divide
    lora_source: str
    lora_ranks: tuple[int, ...] = ()  # ranks that adapters may have; (): any
    extra_vocabulary: int = 0  # vocabulary rows that each adapter adds
    partial_blocks: bool = False  # matrices side by side may end within a block of scales
    shared_hold: bool = True  # layers that share a cache hold key and value weights

    def kernel(self, major: int) -> WeightKernel:
        """Return the kernel for MXFP4 by the major number of the compute capability."""
        return {9: self.hopper, 10: self.blackwell}.get(major, MARLIN)


@frozen_record
class ExpertGroup:
    """`width` ranks split every expert, `number` ranks divide them; one of the two is 1."""

    width: int = 1
    number: int = 1
    kernel: WeightKernel = PLAIN


class SpreadArgs(TypedDict, total=False):
    """The fields of `Spread` as keyword arguments."""

    tensor: int
    pipeline: int
    data: int
    expert_parallel: bool
    partition: tuple[float, ...]
    capability: int
    groups: int


@frozen_record
class Spread:
    """Devices per kind of parallelism. `partition`: the user's layers per stage; `capability`:
    major compute capability, which decides the layout of MXFP4; `groups`: of tensor ranks, each
    with all of attention and its own requests (SGLang's data-parallel attention)."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert_parallel: bool = False
    partition: tuple[float, ...] = ()
    capability: int = 9
    groups: int = 1

    def __post_init__(self) -> None:
        least = min(self.tensor, self.pipeline, self.data)
        if least < 1:
            raise UsageError(sentence("parallel_sizes", least=least))
        if self.tensor % self.groups:
            raise UsageError(sentence("attention_groups", groups=self.groups, tensor=self.tensor))

    @property
    def attention(self) -> int:
        """Return the ranks that split attention."""
        return self.tensor // self.groups

    @property
    def tokens_shared(self) -> bool:
        """Return whether ranks of a tensor group send their own tokens to the experts: vllm
        config/parallel.py (use_sequence_parallel_moe)."""
        return self.expert_parallel and self.tensor > 1 and self.data > 1

    def group(self, rules: SplitRules) -> ExpertGroup:
        """Return the ranks that hold the experts."""
        ranks = self.tensor * (self.data if rules.replicas_share else 1)
        kernel = rules.kernel(self.capability)
        if self.expert_parallel:
            return ExpertGroup(number=ranks, kernel=kernel)
        return ExpertGroup(width=ranks, kernel=kernel)

"""Rules by which engines spread a model over devices: what differs between their versions, and how
many devices a launch has in which ways.

    Spread        ranks of tensor parallelism, stages of a pipeline, replicas, expert parallelism
    SplitRules    an engine's own, which each makes in weights.py of its folder
    WeightKernel  how MXFP4 experts lie in memory, which depends on the kernel that multiplies

    Triton on Hopper    F / ranks to 64; values in rows and bytes of 64 (not today's copy of the
                        kernels); scales in rows of 256, beside the file's own until those were
                        dropped; biases in float32
    Marlin              F / ranks to 128, D to 256
    TensorRT-LLM        F / ranks to 128 (to 256 before), D to 256: on Blackwell

Layers are shared out over the stages of a pipeline:

    vllm      layers // stages, the remainder from the last but one backwards
    sglang    layers // stages, the remainder to the last ones

What comes before the layers is on the first stage, what comes after on the last. A head that is
tied to the embedding makes a second copy of it there. Many classes build the embedding or the
head on every stage.

Source: vllm 0.33 and 0.19: distributed/utils.py (get_pp_indices, VLLM_PP_LAYER_PARTITION),
model_executor/layers/{linear,mla,vocab_parallel_embedding}.py, fused_moe/{config,
expert_map_manager}.py, fused_moe/oracle/mxfp4.py (mxfp4_round_up_hidden_size_and_intermediate_size,
TRITON_BACKENDS), third_party/triton_kernels/tensor_details/layout_details/hopper_{value,scale}.py,
the get_pp_group() of model_executor/models/*.py; sglang 0.5.23: srt/distributed/utils.py,
srt/layers/moe/fused_moe_triton/layer.py, srt/layers/quantization/mxfp4.py, srt/models/*.py.
vLLM's logs on an H100 (0.11 and 0.19, gpt-oss-20b) agree with the first row.
"""

from collections.abc import Callable
from typing import TypedDict

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.model_types import NEVER

Version = tuple[int, ...]
Bounds = Callable[[int, int], tuple[int, ...]]  # of (layers, stages)


class WeightKernel(NamedTuple):
    """Multiples to which sizes are padded, and what is kept."""

    columns: int = 1  # F of a rank
    hidden: int = 1
    value_rows: int = 1
    value_bytes: int = 1
    scale_rows: int = 1
    scale_columns: int = 1
    file_scales: bool = False  # the scales as stored, beside those that the kernel reads
    bias_bytes: int = 2


PLAIN = WeightKernel()
HOPPER = WeightKernel(columns=64, scale_rows=256, scale_columns=2, bias_bytes=4)
MARLIN = WeightKernel(columns=128, hidden=256)


def given(partition: tuple[float, ...], layers: int, stages: int) -> tuple[int, ...]:
    """Return the bounds of stages whose layers are given, as the environment variables of both
    engines do. Raises UsageError where they do not add up, or a stage has none."""
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
    """Numbers of the first layer of each stage, and of all layers."""
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    return tuple(ends)


class ClassSplit(NamedTuple):
    """Exceptions of one model type: parts that an engine splits otherwise than of most."""

    embedding: bool  # every pipeline stage has the embedding
    head: bool  # and every one the head
    whole_shared: bool = False  # shared experts are whole where every rank routes its own tokens
    library_towers: bool = False  # its towers are transformers' own
    whole_embedding: bool = False  # the embedding is torch's own, whole on every rank
    adapted: bool = False  # embedding and head take adapters
    partial_blocks: bool = False  # as of the rules, of its attention
    fills_shared: Version = NEVER  # shared experts are cut in whole blocks of scales, since


@frozen_record
class SplitRules:
    """An engine's rules for splitting weights among ranks."""

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
    uneven_seen: str = ""  # what the engine says of sizes that ranks do not divide
    lora_source: str
    lora_ranks: tuple[int, ...] = ()  # those that adapters may have; () is any
    extra_vocabulary: int = 0  # rows that each adapter adds to them
    partial_blocks: bool = False  # matrices held side by side may end within a block of scales
    shared_hold: bool = True  # layers that share another's cache hold keys and values of their own

    def kernel(self, major: int) -> WeightKernel:
        """Find the kernel for MXFP4 by the major number of the compute capability."""
        return {9: self.hopper, 10: self.blackwell}.get(major, MARLIN)


@frozen_record
class ExpertGroup:
    """`width` ranks split every expert, `number` ranks share them out; one of the two is 1."""

    width: int = 1
    number: int = 1
    kernel: WeightKernel = PLAIN


class SpreadArgs(TypedDict, total=False):
    """`Spread` as keyword arguments."""

    tensor: int
    pipeline: int
    data: int
    expert_parallel: bool
    partition: tuple[float, ...]
    capability: int
    groups: int


@frozen_record
class Spread:
    """`partition`: layers of each stage, where they are given; `capability`: the major number of
    the device's, which decides how MXFP4 lies in memory; `groups`: of the tensor ranks, each with
    the whole of attention and requests of its own (SGLang's data-parallel attention)."""

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
        """Ranks that share attention."""
        return self.tensor // self.groups

    @property
    def tokens_shared(self) -> bool:
        """Tell whether ranks of a tensor group take tokens of their own to the experts: vllm
        config/parallel.py (use_sequence_parallel_moe)."""
        return self.expert_parallel and self.tensor > 1 and self.data > 1

    def group(self, rules: SplitRules) -> ExpertGroup:
        """The ranks that share the experts."""
        ranks = self.tensor * (self.data if rules.replicas_share else 1)
        kernel = rules.kernel(self.capability)
        if self.expert_parallel:
            return ExpertGroup(number=ranks, kernel=kernel)
        return ExpertGroup(width=ranks, kernel=kernel)

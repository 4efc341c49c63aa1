"""Differences between vLLM releases in what they allocate.

Read in the wheels of 0.9.0, 0.9.2, 0.10.0, 0.10.2, 0.11 to 0.20, 0.22 to 0.33 (one of each minor
version): config/cache.py and config/vllm.py (defaults), engine/arg_utils.py (get_batch_defaults),
v1/worker/gpu_worker.py (determine_available_memory), utils/mem_utils.py (memory_profiling),
v1/sample/ops/topk_topp_sampler.py, v1/worker/gpu/sample/, model_executor/layers/fused_moe/,
v1/worker/gpu/model_runner.py (profile_cudagraph_memory, profile_run), device_allocator/cumem.py,
platforms/cuda.py (get_valid_backends) with v1/attention/backends/mla/{flashinfer,cutlass}_mla.py.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from weighbridge.base.records import frozen_record, replace
from weighbridge.base.units import KIB
from weighbridge.engines.engine import Version, by_release, changes, release_of
from weighbridge.engines.parallel.rules import HOPPER, MARLIN, WeightKernel

Sampler = Literal["sort", "triton", "flashinfer"]
Arrives = Literal["whole", "both", "between", "streamed"]
Second = Literal["none", "float32", "own", "warm"]

BLOCKS = (1, 8, 16, 32, 64, 128)
# Piecewise CUDA graphs only: they take less, and no state blocks (pull request 38270)
PIECEWISE = "usual_graphs"
WITH_SCALES = HOPPER._replace(file_scales=True)
WIDE_COLUMNS = WeightKernel(columns=256, hidden=256, bias_bytes=4)
KERNELS = {  # for MXFP4, as changes.toml names them
    "marlin": MARLIN,
    "hopper": HOPPER,
    "with scales": WITH_SCALES,
    "values of 64": WITH_SCALES._replace(value_rows=64, value_bytes=64),
    "columns of 128": WIDE_COLUMNS._replace(columns=128),
}


@frozen_record
class VllmRules:
    """Behaviour of one vLLM release. `second_*` are about model runner V2: `second_runner` the
    classes it serves, `second` its logits in the profile run: a float32 copy, none, or both after a
    pass with every kind of request."""

    version: Version
    utilization: float = 0.90
    communication_inside: bool = True  # NCCL starts after the first free-memory snapshot
    rounds_up: bool = False  # the budget, to a byte
    graphs_inside: bool = False  # CUDA graphs' estimate is deducted from the KV cache
    rocm_graphs: bool = False  # ... on ROCm, too (pull request 44825)
    full_graphs: bool = False  # full graphs besides piecewise ones
    state_each: bool = False  # full graphs need a state block for every sequence
    adapters_apart: bool = False  # LoRA: each size is captured with and without adapter slots
    graph_step: int = 8  # tokens between sizes above 256
    graphs_by_sequences: bool = True  # sizes stop at twice max_num_seqs
    least_graphs: int = 0  # smallest limit of sizes, however few sequences
    sparse_less: bool = False  # logs show small graphs of MoE layers: see graphs.py
    wide_graphs: bool = False  # sizes up to 1,024 tokens on data-center Blackwell
    widest_graphs: int = 1024  # largest size of model classes that raise the limit
    asks_vram: bool = False  # ROCm: defaults depend on VRAM (_query_total_memory_from_amdsmi)
    largest_tier: bool = False  # separate defaults for cards of 160 GiB
    sampler: Sampler = "sort"
    workspace_kept: bool = False  # MoE workspace: allocated once, never freed
    # V0: longest context with unchunked prefill, and tokens per chunk for longer ones
    whole_to: int = 0
    pieces: int = 0
    chunk: int | None = None  # max tokens per MoE kernel call
    fused_gelu: bool = False  # FlashInfer's NVFP4 MoE kernel supports GELU
    consumed: bool = False  # the budget counts all used memory, reserved instead of allocated
    # Number of 128 MiB workspaces that MLA backends allocate on import: on Blackwell, where two
    # backends are tried, and on other cards. Since 0.25 one of the two is allocated at first use.
    latent_buffers: tuple[int, int] = (0, 0)
    latent_late: int = 0
    prefixes_of_states: bool = False  # prefix caching is on by default for hybrid models
    whole_prompts: bool = False  # without chunked prefill, max_num_batched_tokens = context
    second_runner: frozenset[str] = frozenset()
    second_dense: bool = False  # runner V2 serves all models without experts or states
    second_any: bool = False  # runner V2 serves all models
    second: Second = "none"
    second_charged: bool = False  # runner V2 estimates CUDA graphs before sizing the cache
    second_items: bool = False  # runner V2 profiles multimodal items
    # Sleep mode: used memory includes torch segments that the sleep pool has already freed
    phantom: bool = False
    # Lifetime of 16-bit weights quantized on load: see `engines/servers/shards.py`
    arrives: Arrives = "whole"
    whole_items: bool = False  # a batch holds the largest video of some models
    # Scalars per attention layer on the card (attention/layer.py): scales of queries, keys, values
    # and probabilities, and until 0.28 the ranges of the first three
    scales: int = 7
    unsplit: bool = False  # while loading, tensors of 20 MiB and more get their own segment
    fuses: bool = False  # the compiler fuses all-reduce with the next op
    scatters: bool = False  # custom all-reduce has a larger second buffer
    towers_everywhere: bool = True  # encoders on every pipeline stage; runner V2: on the first
    shared_hold: bool = True  # gemma4.py: layers that share a KV cache load K and V weights, too
    wide_latents: bool = False  # rotary_embedding/deepseek_scaling_rope.py: float32, not compiled
    extra_vocabulary: int = 256  # lora_extra_vocab_size, until it was dropped
    blocks: tuple[int, ...] = BLOCKS  # values of --block-size; (): any
    kernel_of_samples: bool = False  # the sampler loads a kernel of its own: see outside_torch.py
    triton_towers: bool = False  # tries flash_attn's Triton kernel on Radeon cards
    second_packed: bool = False  # runner V2 supports experts and quantized weights
    logged_by_groups: bool = True  # the log's KV cache tokens are blocks // groups x block size
    packing: Literal["tuples", "slots", "groups"] = "tuples"  # of packed kinds: see blocks.py
    in_flight: bool = False  # a request's blocks include tokens of all concurrent batches
    # layers/linear.py (_maybe_allow_fp8_block_shape_mismatch): FP8 shards may cut a scale block
    partial_blocks: bool = False
    plain_awq: bool = True  # --quantization awq selects AWQ's own kernels even where Marlin runs
    # Kernels for MXFP4 (parallel/rules.py)
    hopper: WeightKernel = WITH_SCALES
    blackwell: WeightKernel = WIDE_COLUMNS


FIRST = VllmRules(
    version=(0, 9), chunk=64 * KIB, whole_prompts=True, graphs_by_sequences=False, least_graphs=4
)
CHANGES = changes(
    __file__, hopper=KERNELS.get, blackwell=KERNELS.get, second_runner=frozenset, blocks=tuple
)


@cache
def rules(version: Version) -> VllmRules:
    """Return the behaviour of the release `version`."""
    return replace(by_release(FIRST, CHANGES, version), version=version)


FIRST_ENGINE_TO: Version = (0, 8)


def older(version: Version) -> VllmRules:
    """Return the behaviour of a release before `FIRST`: that of `FIRST`, with the batch limits of
    V0, the default engine before 0.8 (0.6.4 engine/arg_utils.py and config.py, 0.8.5 config.py)."""
    first = rules(FIRST.version)
    if version >= FIRST_ENGINE_TO:
        return first
    pieces = 512 if version < (0, 7) else 2048
    return replace(first, whole_prompts=False, whole_to=32 * KIB, pieces=pieces)


ALWAYS: Version = (999,)
# Class, first release with it, first release without it
_ENCODER_DECODERS = """
BartModel 0.9 0.11
BartForConditionalGeneration 0.9 0.11
CohereAsrForConditionalGeneration 0.19
DonutForConditionalGeneration 0.10.1 0.11
FireRedASR2ForConditionalGeneration 0.17
Florence2ForConditionalGeneration 0.9 0.11
MBartForConditionalGeneration 0.10.1 0.11
MllamaForConditionalGeneration 0.9 0.11
NemotronParseForConditionalGeneration 0.14
WhisperForConditionalGeneration 0.9
"""
ENCODER_DECODERS: Mapping[str, Sequence[Version]] = {
    cls: [*map(release_of, releases)]
    for cls, *releases in map(str.split, _ENCODER_DECODERS.strip().splitlines())
}


def registered(cls: str, version: Version) -> bool:
    """Return whether this release serves the encoder-decoder class."""
    first, *ended = ENCODER_DECODERS.get(cls, [ALWAYS])
    return first <= version < min(ended, default=ALWAYS)

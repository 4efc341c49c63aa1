"""Changes between builds of llama.cpp that affect memory: defaults and graphs.

    rules(build) -> LlamaCppRules: the oldest build's, with every later change up to `build`

Dates are those of pull requests; build numbers are estimated from the releases of those days (b5331
9 May 2025, b6325 30 August 2025, b7394 14 December 2025, b8156 25 February 2026, b9247 20 May,
b9512 4 June, b10864 8 September 2026), to within some dozens of builds. Sources read completely:
those vendored in llama-cpp-python 0.3.9, 0.3.16, 0.3.17 and 0.3.36; in part 0.3.12, 0.3.20, 0.3.24,
0.3.28, 0.3.34, 0.3.35.

Rows repacked for CPUs: in the file (_R4, _R8), or at load by ik_llama.cpp's -rtr.

    -rtr            repacks, after loading, every matrix in host memory whose type has a repacked
                    one and whose rows are a multiple of 4, 8 or 16; same bytes. No file is mapped
    a GPU           multiplies the types of `PRODUCTS` from their build on. For others the operation
                    stays on the host at any batch, and the weight is copied to no compute buffer

Source: ik_llama.cpp 8337e4cd3 ggml/src/iqk/iqk_quantize.cpp (get_repack_info, iqk_repacked_type),
src/llama.cpp (llm_load_tensors), ggml/src/ggml-cuda.cu (ggml_backend_cuda_supports_op).
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Literal

from weighbridge.base.records import frozen_record, replace
from weighbridge.base.units import align_up
from weighbridge.engines.engine import by_release, changes

PACKED = ("_R4", "_R8", "_R16")
_FOUR = "IQ2_K IQ3_K IQ4_K IQ5_K IQ4_KS IQ5_KS IQ4_NL IQ2_BN IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S"
_MORE = "Q2_K Q3_K Q4_K Q5_K Q6_K Q5_0 Q6_0"
_EIGHT = "IQ4_XS Q4_0 Q8_0 Q8_K Q8_KV MXFP4"
# Rows per repacked group, by type; BF16 and F16 need AVX512-BF16, which is not assumed
ROWS: Mapping[str, int] = {
    **dict.fromkeys((*_FOUR.split(), *_MORE.split()), 4),
    **dict.fromkeys(_EIGHT.split(), 8),
}
PRODUCTS: Mapping[int, str] = {  # build -> types
    3714: "IQ2_K_R4 IQ3_K_R4 IQ4_K_R4 IQ5_K_R4 IQ4_KS_R4 IQ5_KS_R4",  # #461, 26 May 2025
    3726: "IQ1_S_R4 IQ1_M_R4",  # #492, 5 June 2025
}


READ_EARLY = ("F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
READ_WHOLE = ("IQ4_NL", "MXFP4")  # only rows of a multiple of 256 values


@frozen_record
class LlamaCppRules:
    """Rules of a build: its default settings first, then traits of its graphs and buffers."""

    gpu_layers: int | None = 0  # None: all of them
    flash: str = "off"
    server_slots: int = 1
    unified: bool = True  # slots share one cache
    server_unified: bool = True
    cache_ram: int = 0  # MiB of host memory for prompts
    windows: bool = False  # sliding-window layers have a separate, smaller cache
    spare_slot: bool = False  # a server has one more slot, for its own prompt
    leaves: int | None = (
        None  # bytes left free per card when the build moves layers itself; None: it moves none
    )
    few_outputs: bool = False  # a server reserves logits for its slots only
    slots_in_graph: bool = False  # the reserved step has one request per slot

    glu: bool = False  # gate and activation are one operation with its own memory
    set_rows: bool = False  # keys and values are stored by row numbers, which are inputs
    half_mask: bool = False  # the mask is made in 16 bits for flash attention
    mask_pad: int = 64  # rows of the mask are padded to a multiple of this
    embeds_input: bool = False  # the input for embeddings is in the graph even for tokens
    fattn_copies: bool = False  # 16-bit copies of a quantized cache are in the compute buffer
    keys_last: bool = False  # queries, values, keys: the order in which they are computed
    rotates_cache: bool = False  # a quantized cache is rotated by a Hadamard matrix
    clamps_weights: bool = False  # the sum of expert weights is clamped before it divides them
    groups_experts: bool = False  # groups of experts are picked first
    latent_values: bool = True  # MLA: compressed KV is stored twice, as key and as value
    rotary_first: bool = True  # MLA: the rotary part of a key comes first
    whole_rope: bool = False  # MLA as full heads: queries are rotated whole
    flat_projection: bool = False  # Mamba 2's input is projected before it is reshaped by request
    rms_delta: bool = False
    late_views: bool = False  # experts' outputs are viewed before they are added up
    kept_experts: bool = False  # inputs of a fused expert sum stay allocated until it is done
    keeps_outputs: bool = False  # the last hidden states stay allocated, besides the logits
    all_inputs: bool = False  # a pipeline keeps even inputs that no node reads
    # Per-layer embeddings of Gemma 3n and Gemma 4 are inputs, which stay on the host
    early_per_layer: Literal["no", "perhaps", "yes"] = "no"
    predicts: bool = False  # MTP layers run in a second context
    fused_index: bool = False  # scores of an indexer's heads are summed as they are computed
    late_rows: bool = False  # some models select the output rows after the last layer

    early_weights: bool = True  # expert weights are computed before the experts
    fused: bool = False  # ik_llama.cpp: norms with weights, caps, sums of experts in one operation
    fused_feeds: bool = False  # gate, up and activation of a dense MLP are one operation as well
    unfolds_at_once: bool = False  # MLA prompts: keys and values of all heads are computed together
    always_pipelined: bool = False  # GPUs are a pipeline even if tensors are moved to the host
    names_end_mmap: bool = False  # no file is mapped if -ot or -ncmoe leaves a tensor to the host
    # Layers whose experts --n-cpu-moe N leaves to the host: the first N; or, of several cards, the
    # last ones of each in proportion, and on one card the first N ("spread") or the last N ("last")
    lends: Literal["first", "spread", "last"] = "first"
    splits_rows: bool = True  # --split-mode row
    fused_moves: bool = False  # fused experts in host memory are computed on a GPU
    expert_share: bool = False  # only if each expert gets enough tokens
    copies: int = 4  # GGML_SCHED_MAX_COPIES, compiled in: steps in flight in a pipeline
    latents: bool = False  # MLA: compressed KV is cached, not keys and values of all heads
    packed_products: frozenset[str] = frozenset()  # repacked types that a GPU multiplies
    # Types that CUDA does not multiply: ggml/src/ggml-cuda/ggml-cuda.cu (supports_op) in
    # llama-cpp-python 0.3.25; ggml-org/llama.cpp#11183 is open, #28769 was closed
    no_kernel: frozenset[str] = frozenset(("TQ1_0", "TQ2_0", "Q2_0"))
    # Types whose rows CUDA reads: ggml/src/ggml-cuda/ggml-cuda.cu
    # (ggml_backend_cuda_device_supports_op, GGML_OP_GET_ROWS); None: all
    read_rows: frozenset[str] | None = frozenset(("BF16", *READ_EARLY))

    def mask_rows(self, tokens: int) -> int:
        return align_up(tokens, self.mask_pad)


NEWEST = 11200  # commit 0c1e57098 of 1 October 2026, counted on
CHANGES = changes(__file__, read_rows=frozenset, no_kernel=frozenset)
# The first build whose Metal backend multiplies a type; None: no build so far. Metal claims support
# for any type (ggml-metal-device.m, supports_op) and aborts at the first product of one it lacks:
# ggml-org/llama.cpp#24477 of 11 June 2026, PrismML-Eng/llama.cpp#141 of 1 September 2026 (which has
# TQ2_0's kernels; builds between are taken not to have them), #25419 of July 2026
ON_METAL: Mapping[str, int | None] = {"TQ1_0": None, "TQ2_0": 10770, "Q2_0": 10300}


@cache
def rules(build: int) -> LlamaCppRules:
    return by_release(LlamaCppRules(), CHANGES, (build,))


@cache
def rules_on_metal(build: int) -> LlamaCppRules:
    """Return a build's rules on a Mac: no operation is left to the CPU for its type."""
    return replace(rules(build), no_kernel=frozenset(), read_rows=None)


def aborts_on_metal(types: Iterable[str], build: int) -> list[str]:
    """Return those of `types` whose matrix product aborts the process on a Mac, sorted."""
    first = ((name, ON_METAL[name]) for name in sorted(set(types)) if name in ON_METAL)
    return [name for name, since in first if since is None or build < since]


# Rows repacked for CPUs


def repacked(name: str, rows: int) -> str:
    """Return the type that -rtr repacks a host matrix to, `name` if it does not."""
    width = ROWS.get(name)
    return f"{name}_R{width}" if width and rows % width == 0 else name


def products(build: int) -> frozenset[str]:
    """Return the repacked types that a GPU multiplies in `build`."""
    return frozenset(
        name for since, names in PRODUCTS.items() if build >= since for name in names.split()
    )

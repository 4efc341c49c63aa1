"""SGLang's defaults by card: prefill chunk, batches to capture, memory fraction, and attention
backend.

    mem_fraction_static = (card - reserved) / card, to three digits         in MiB
    reserved  512 + 1.5 max(chunk, 2048) + 1024 / 8 x ranks + graphs; at least 10 GiB above 60 GiB
    graphs    2 per request of the largest captured batch; 8 per captured length of prefill, or
              1,536 with MLA; 3 per request and group of data-parallel attention, 4.5 above 300
              requests (4 GiB in all before 0.5.3)

What is reserved is a rule of thumb for all that is not weights and pools: those get the rest. The
fraction is of the memory that is free before weights are loaded. The card is nvidia-smi's total.
Sources: sglang srt/server_args.py of 0.4.0, 0.4.6, 0.4.7, 0.4.8, 0.5.2, 0.5.3, 0.5.5, 0.5.9 to
0.5.14 (_handle_gpu_memory_settings), srt/arg_groups/memory_hook.py of 0.5.19 to 0.5.23.
"""

from collections.abc import Callable, Mapping

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import frozen_record
from weighbridge.base.units import MIB
from weighbridge.engines.engine import Version
from weighbridge.engines.servers.device_support import unknown_backend
from weighbridge.engines.sglang.rules import ANY, GIB, SglangRules, Share, Size, rules
from weighbridge.models.arch.mixers import Attention, Compressed, Latent, Layer
from weighbridge.models.arch.model_types import facts

NO_CARD = Size(ANY, 4096, 160, 160)


@frozen_record
class ShareCriteria:
    """Facts of a launch that the default memory fraction depends on."""

    version: Version
    card: float  # MiB
    chunk: int
    largest: int  # largest captured batch; 0 without graphs
    prefills: int  # number of captured prefill lengths
    tensor: int
    pipeline: int
    latent: bool
    algorithm: str | None  # speculative algorithm
    groups: int = 1  # of data-parallel attention


def size(version: Version, card: float | None) -> Size:
    if card is None:
        return NO_CARD
    return next(s for s in rules(version).sizes if card < s.below)


def fraction(criteria: ShareCriteria) -> float:
    """Return the default `mem_fraction_static` of a model without encoders."""
    return SHARES[rules(criteria.version).share](criteria)


def with_towers(version: Version, share: float, layers: int, hidden: int) -> float:
    """Return the fraction, lowered by the vision encoder's size: 0.95 for 24 layers of 1,024."""
    if not rules(version).towers_by_size:
        return share * rules(version).towers
    larger = layers * hidden**2 / (24 * 1024**2)
    return share * 0.95 * max(0.8, min(1.05, 1 - 0.1 * (larger - 1)))


def decodes(largest: int, *, speculative: bool) -> tuple[int, ...]:
    """Return the batch sizes for which decode graphs are captured."""
    if speculative:
        steps = [*range(1, 9), *range(10, 33, 2), *range(40, 65, 4), *range(72, 257, 8)]
        steps += range(272, largest + 1, 16)
    else:
        steps = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16)]
        steps += range(512, largest + 1, 32)
    captured = {s for s in steps if s <= largest}
    return tuple(sorted(captured | {largest})) if largest else ()


def prefills(longest: int) -> tuple[int, ...]:
    """Return the lengths for which prefill graphs are captured, since 0.5.10."""
    steps = (
        *(*range(4, 33, 4), *range(48, 257, 16), *range(288, 513, 32), *range(576, 1025, 64)),
        *(*range(1280, 4097, 256), *range(4608, longest + 1, 512)),
    )
    return tuple(s for s in steps if s <= longest)


def _by_ranks(ranks: int) -> float:
    table = ((16, 0.79), (8, 0.81), (4, 0.85), (2, 0.87))
    return next((share for least, share in table if ranks >= least), 0.88)


def _ranks(criteria: ShareCriteria) -> float:
    return _by_ranks(criteria.tensor)


def _less_13(criteria: ShareCriteria) -> float:
    return (
        _by_ranks(criteria.tensor)
        if criteria.card <= 80 * GIB
        else (criteria.card - 13 * GIB) / criteria.card
    )


def _card(criteria: ShareCriteria) -> float:
    """Return the fraction of 0.4.7; its second bound above 96 GiB is lower only above 198 GiB."""
    share = _by_ranks(criteria.tensor * criteria.pipeline) if criteria.card <= 80 * GIB else 0.88
    if criteria.card > 180_000:
        return 0.79
    if criteria.card > 96 * GIB:
        return 1 - (20 if criteria.algorithm else 18) * GIB / criteria.card
    return share * 0.95 if criteria.algorithm else share


def _table(criteria: ShareCriteria) -> float:
    ranks = criteria.tensor * criteria.pipeline
    table = ((35 * GIB, 2.8 + ranks / 10), (90 * GIB, 9.5 + ranks / 2), (160 * GIB, 12 + ranks / 2))
    reserved = next((gib for below, gib in table if criteria.card < below), 32.0)
    if criteria.algorithm:
        reserved += rules(criteria.version).standalone if criteria.algorithm == "STANDALONE" else 2
    if criteria.groups > 1:
        reserved += 4
    return round((criteria.card - reserved * GIB) / criteria.card, 3)


def _sum(criteria: ShareCriteria) -> float:
    r = rules(criteria.version)
    reserved = (
        512
        + 1.5 * max(criteria.chunk, 2048)
        + 2 * criteria.largest
        + criteria.tensor * criteria.pipeline / 8 * GIB
    )
    if criteria.groups > 1:
        reserved += criteria.largest * criteria.groups * (4.5 if criteria.largest > 300 else 3)
    if criteria.prefills:
        reserved += 1.5 * GIB if criteria.latent and r.prefill_graphs else 8 * criteria.prefills
    if criteria.card > 60 * GIB:
        reserved = max(reserved, 10 * GIB)
    if criteria.algorithm not in (None, "NGRAM") and not r.draft_first:
        reserved += (r.standalone if criteria.algorithm == "STANDALONE" else r.drafts) * GIB
    return round((criteria.card - reserved) / criteria.card, 3)


SHARES: Mapping[Share, Callable[[ShareCriteria], float]] = {
    "by ranks": _ranks,
    "less 13 GiB": _less_13,
    "by card": _card,
    "less a table": _table,
    "less a sum": _sum,
}


# Attention: what each backend reserves, and the pages that it needs
#
#     backend       workspace    page
#     flashinfer    384 MiB      any; 512 MiB for the classes in LARGER
#     fa3           none         any                    Hopper's default
#     trtllm_mha    512 MiB      64                     the default of compute capability 10
#     trtllm_mla    150 MiB      64
#     triton        none         any                    sinks, Gemma 4, MLA elsewhere
#
# Each also keeps, for every request of the largest captured batch, a row of the whole context:
# int32 indices, for flashinfer with a byte of mask, for triton int64; fa3 up to three such tables.
# Sources: sglang 0.5.23 srt/arg_groups/model_override_base.py (get_default_attn_backend),
# srt/arg_groups/overrides.py (_mla_backend_page_constraints, _fa4_page_constraint),
# srt/layers/attention/*_backend.py, srt/arg_groups/model_overrides/; 0.4.0 to 0.5.10
# srt/model_executor/model_runner.py.

LARGER = frozenset(
    (
        *("Qwen2ForCausalLM", "Qwen3ForCausalLM", "MiMoForCausalLM"),
        *("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"),
    )
)
FLASHINFER = 384 * MIB
WORKSPACE: Mapping[str, int] = {
    "flashinfer": FLASHINFER,
    "trtllm_mha": 512 * MIB,
    "trtllm_mla": 150 * MIB,
    "cutlass_mla": 128 * MIB,
}
ROW: Mapping[str, int] = {"flashinfer": 5, "triton": 8}  # bytes per position; others 4 per page
PAGES: Mapping[str, tuple[tuple[int, ...], int]] = {  # (page sizes that it supports, its default)
    "flashmla": ((64,), 64),
    "cutlass_mla": ((128,), 128),
    "trtllm_mla": ((32, 64), 64),
    "cutedsl_mla": ((32, 64), 64),
    "trtllm_mha": ((16, 32, 64, 128), 64),
    "fa4": ((128,), 128),
    "dsa": ((64,), 64),
    "dsv4": ((256,), 256),
}


# srt/arg_groups/choices.py (ATTENTION_BACKEND_CHOICES) of 0.5.23, server_args.py of 0.4 and 0.5
_BACKENDS = """
triton torch_native flex_attention dsa nsa qsa dsv4 compressed cutlass_mla fa3 fa4 flashinfer
llada2_cfg_flashinfer flashmla trtllm_mla cutedsl_mla tokenspeed_mla trtllm_mha hpc_ops
dual_chunk_flash_attn hybrid_linear_attn minicpm_flashattn minicpm_flashinfer aiter wave intel_amx
ascend intel_xpu
"""
BACKENDS = frozenset(_BACKENDS.split())
# AMD's kernels: MLA heads per rank that they support (_get_default_attn_backend of server_args.py,
# 0.4.7 to 0.5.15), and the context above which they take a part of the share (model_runner.py of
# 0.4.7 to 0.5.2, srt/arg_groups/attention_hook.py of 0.5.19 to 0.5.23)
AITER_HEADS = (16, 128)
AITER_LONG, AITER_KEPT = 8192, 0.85


@frozen_record
class BackendCriteria:
    """Facts of a launch that attention's default backend depends on."""

    version: Version
    compute: tuple[int, int] | None  # compute capability
    vendor: str
    model_type: str
    latent: bool
    sparse: bool  # an indexer picks tokens
    compressed: bool
    heads: int = 0  # MLA heads per rank


def kind(
    version: Version,
    compute: tuple[int, int] | None,
    vendor: str,
    model_type: str,
    layers: tuple[Layer, ...],
    *,
    tensor: int = 1,
) -> BackendCriteria:
    mixers = [m for layer in layers for m in layer.mixers]
    return BackendCriteria(
        version=version,
        compute=compute,
        vendor=vendor,
        model_type=model_type,
        latent=any(isinstance(m, Latent | Compressed) for m in mixers),
        sparse=any(m.indexer for m in mixers if isinstance(m, Attention | Latent)),
        compressed=any(isinstance(m, Compressed) for m in mixers),
        heads=max((m.heads for m in mixers if isinstance(m, Latent)), default=0) // tensor,
    )


def major(compute: tuple[int, int] | None) -> int:
    """Return the major number of NVIDIA's compute capability; 0 for other vendors and for an
    unnamed card."""
    return compute[0] if compute else 0


def default(criteria: BackendCriteria) -> str:
    newest = major(criteria.compute)
    hopper = newest == 9 and rules(criteria.version).hopper_fa3
    if criteria.compressed:
        return "dsv4"
    if criteria.latent:
        return "dsa" if criteria.sparse else _of_latents(criteria, newest, hopper=hopper)
    if criteria.vendor == "AMD":
        return "aiter"
    if newest == 10 and rules(criteria.version).trtllm:
        return "trtllm_mha"
    few = facts(criteria.model_type).sglang.attention
    if few:
        return "fa3" if hopper and "fa3" in few else "triton"
    return "fa3" if hopper else "flashinfer"


def _of_latents(criteria: BackendCriteria, newest: int, *, hopper: bool) -> str:
    if criteria.vendor == "AMD":
        return "aiter" if criteria.heads in AITER_HEADS else "triton"
    return "fa3" if hopper else ("flashinfer" if newest == 10 else "triton")


def backend(asked: str | None, criteria: BackendCriteria) -> str:
    """Return the user's backend, or the default. Raises UnsupportedError for an unknown name."""
    if asked is not None and asked not in BACKENDS:
        raise UnsupportedError(unknown_backend(asked, "sglang", sorted(BACKENDS)))
    return asked or default(criteria)


def share_used(version: Version, backend: str, context: int) -> float:
    """Return the part of the memory fraction that pools get: kernels of AMD's aiter keep workspaces
    of their own for long contexts."""
    scaled = rules(version).aiter_scaled and backend == "aiter" and context > AITER_LONG
    return AITER_KEPT if scaled else 1.0


def page(backend: str, asked: int | None) -> int:
    """Return the tokens per page: the user's, unless the kernels do not support them."""
    taken, otherwise = PAGES.get(backend, ((), 0))
    return otherwise if taken and asked not in taken else asked or 1


def workspace(backend: str, classes: tuple[str, ...]) -> int:
    nbytes = WORKSPACE.get(backend, 0)
    return 512 * MIB if nbytes == FLASHINFER and LARGER.intersection(classes) else nbytes


def tables(rules: SglangRules, backend: str, *, chunked: bool, windows: bool) -> int:
    """Return the number of page tables kept for captured batches (init_cuda_graph_state of
    srt/layers/attention/flashattention_backend.py). `chunked`: attention within chunks of the
    context, whose tables together are as wide as the context."""
    if backend != "fa3":
        return 1
    more = (
        rules.table_of_drafts,
        rules.table_of_chunks and chunked,
        rules.table_of_windows and windows,
    )
    return 1 + sum(more)


def rows(backend: str, batch: int, context: int, page: int, tables: int = 1) -> int:
    """Return the bytes of the rows kept for captured batches."""
    if backend in ROW:
        return batch * context * ROW[backend]
    return tables * batch * -(-context // page) * 4

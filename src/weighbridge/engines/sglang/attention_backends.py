"""Which attention SGLang runs, what that one sets aside, and which pages it wants.

    backend       workspace    page
    flashinfer    384 MiB      any; 512 MiB for the classes in LARGER
    fa3           none         any                    Hopper's default
    trtllm_mha    512 MiB      64                     the default of compute capability 10
    trtllm_mla    150 MiB      64
    triton        none         any                    sinks, Gemma 4, latents elsewhere

Each also keeps, for every request of the largest captured batch, a row of the whole context: int32
indices, of flashinfer a byte of mask beside, of triton int64; fa3 up to three such tables. Sources:
sglang 0.5.23 srt/arg_groups/model_override_base.py (get_default_attn_backend),
srt/arg_groups/overrides.py (_mla_backend_page_constraints, _fa4_page_constraint),
srt/layers/attention/*_backend.py, srt/arg_groups/model_overrides/; 0.4.0 to 0.5.10
srt/model_executor/model_runner.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from weighbridge.arch.mixers import Attention, Compressed, Latent, Layer
from weighbridge.arch.model_types import facts
from weighbridge.engines.engine import Version
from weighbridge.engines.servers.device_support import unknown_backend
from weighbridge.engines.sglang.rules import SglangRules, rules
from weighbridge.errors import UsageError
from weighbridge.units import MIB

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
ROW: Mapping[str, int] = {"flashinfer": 5, "triton": 8}  # bytes a position; others 4 a page
PAGES: Mapping[str, tuple[tuple[int, ...], int]] = {  # that it takes, and that it is set to
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendCriteria:
    """Facts of a launch that a default of attention depends on."""

    version: Version
    compute: tuple[int, int] | None  # capability of the card
    vendor: str
    model_type: str
    latent: bool
    sparse: bool  # an indexer picks tokens
    compressed: bool


def kind(
    version: Version,
    compute: tuple[int, int] | None,
    vendor: str,
    model_type: str,
    layers: tuple[Layer, ...],
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
    )


def major(compute: tuple[int, int] | None) -> int:
    """Return the major number of NVIDIA's compute capability; 0 for other makers and for an unnamed
    card."""
    return compute[0] if compute else 0


def default(criteria: BackendCriteria) -> str:
    newest = major(criteria.compute)
    hopper = newest == 9 and rules(criteria.version).hopper_fa3
    if criteria.compressed:
        return "dsv4"
    if criteria.latent:
        if criteria.sparse:
            return "dsa"
        return "fa3" if hopper else ("flashinfer" if newest == 10 else "triton")
    if criteria.vendor == "AMD":
        return "aiter"
    if newest == 10 and rules(criteria.version).trtllm:
        return "trtllm_mha"
    few = facts(criteria.model_type).sglang.attention
    if few:
        return "fa3" if hopper and "fa3" in few else "triton"
    return "fa3" if hopper else "flashinfer"


def backend(asked: str | None, criteria: BackendCriteria) -> str:
    """The backend that was asked for, or the default. Raises UsageError for a name of none."""
    if asked is not None and asked not in BACKENDS:
        raise UsageError(unknown_backend(asked, "sglang", sorted(BACKENDS)))
    return asked or default(criteria)


def page(backend: str, asked: int | None) -> int:
    """Tokens of a page: as asked, unless the kernels cannot."""
    taken, otherwise = PAGES.get(backend, ((), 0))
    return otherwise if taken and asked not in taken else asked or 1


def workspace(backend: str, classes: tuple[str, ...]) -> int:
    nbytes = WORKSPACE.get(backend, 0)
    return 512 * MIB if nbytes == FLASHINFER and LARGER.intersection(classes) else nbytes


def tables(rules: SglangRules, backend: str, *, chunked: bool, windows: bool) -> int:
    """Count the tables of pages that are kept for captured batches (init_cuda_graph_state of
    srt/layers/attention/flashattention_backend.py). `chunked`: attention within chunks of the
    context, whose tables are as wide as the context together."""
    if backend != "fa3":
        return 1
    more = (
        rules.table_of_drafts,
        rules.table_of_chunks and chunked,
        rules.table_of_windows and windows,
    )
    return 1 + sum(more)


def rows(backend: str, batch: int, context: int, page: int, tables: int = 1) -> int:
    """Bytes of what is kept for captured batches."""
    if backend in ROW:
        return batch * context * ROW[backend]
    return tables * batch * -(-context // page) * 4

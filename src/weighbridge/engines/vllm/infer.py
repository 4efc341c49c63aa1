"""Memory that vLLM holds on each device for a workload: needed, and allocated by its budget.

Also what vLLM refuses before it loads anything, and what it starts with but does not serve.

    encoder-decoders     only those in the registry of that release
    --block-size         1, 8, 16, 32, 64, 128 (256 since 0.12) up to 0.17; attention kernels take
                         multiples of 16
    batches              no fewer tokens than sequences
    blocks               --num-gpu-blocks-override less the null block, no fewer than a request's
    sequences            requests above --max-num-seqs wait
    offloading           only layers leave the card: embeddings, norms and the head stay

Source: vllm 0.9 to 0.33 model_executor/models/registry.py, config/cache.py (BlockSize),
v1/attention/backends/flash_attn.py (get_supported_kernel_block_sizes), config/scheduler.py
(verify_max_model_len), v1/core/kv_cache_planning.py (get_kv_cache_configs),
model_executor/offloader/uva.py.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.errors import NotServedError, TriedError
from weighbridge.base.memory import exactly
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge.engines.engine import Version, release, version
from weighbridge.engines.interface import Subject
from weighbridge.engines.servers import device_support
from weighbridge.engines.servers.cache_formats import refuse
from weighbridge.engines.servers.paged import Asks, PagedServer
from weighbridge.engines.vllm import ENGINE, caches, components, effective, launching, serving
from weighbridge.engines.vllm.cases import VllmLaunched, case
from weighbridge.engines.vllm.effective import attends
from weighbridge.engines.vllm.host import host
from weighbridge.engines.vllm.reserve import RankReserve
from weighbridge.engines.vllm.rules import (
    ENCODER_DECODERS,
    FIRST,
    older,
    registered,
    rules,
)
from weighbridge.engines.vllm.settings import Vllm
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.memory.report.keys import DerivedFacts, FirstRank
from weighbridge.models.arch.mixers import Latent
from weighbridge.models.arch.model_types import facts

if TYPE_CHECKING:
    from weighbridge.workload import Infer

SPAN = 256  # tokens over which the bytes per token are averaged
KERNEL = 16  # tokens: attention blocks are multiples


def asks(subject: Subject, w: "Infer", budget: Budget | None) -> Asks[VllmLaunched]:
    """Return a function from a search point to the launch of this model on a card."""
    number, _ = version(ENGINE, w.engine_version)
    release_asked = number if w.engine_version is None else release(ENGINE, w.engine_version)
    rules_of = older(release_asked) if release_asked < FIRST.version else rules(number)
    case_of = case(subject, w, budget, rules_of)
    return lambda point: case_of.launched(w, point, effective.said(w), budget)


def taken(launched: VllmLaunched, kind: int) -> tuple[int | None, None]:
    if launched.budget is None:
        return None, None
    return serving.takes(launched, launched.kinds[kind]), None


def derived(launched: VllmLaunched) -> DerivedFacts:
    launch, kinds = launched.launch, launched.kinds
    replica = launched.ranks[: launch.tensor * launch.pipeline]
    marginal = [_marginal(r) for r in kinds]
    widest = max((r.peak for r in kinds), key=lambda b: b.expected)
    stages = [_logged(kinds[k]) for k in replica[:: launch.tensor]]
    graphs = max((r.standing.sums.estimated for r in kinds), key=lambda b: b.expected)
    facts: DerivedFacts = {
        "kv_cache_bytes_per_token": sum(marginal[k] for k in replica),
        "kv_cache_bytes_per_request": sum(
            kinds[k].blocks.request * kinds[k].blocks.pool.block for k in replica
        ),
        "profile_peak_bytes": widest.expected,
        "profile_peak_interval": list(widest),
        "non_torch_bytes": max(r.standing.sums.non_torch.expected for r in kinds),
        "model_loading_bytes": kinds[0].standing.sums.loaded,
        "share_needed_bytes": max(r.inside.expected + r.blocks.nbytes for r in kinds),
        "first_rank": stages[0],  # vLLM's log is about it; those above are of the fullest
        "stages": stages,
        "cuda_graph_bytes": max(r.standing.captured.taken.expected for r in kinds),
        "cuda_graph_estimate_bytes": graphs.expected,
        "cuda_graph_estimate_interval": list(graphs),
    }
    card = {} if launched.budget is None else _of_card(launched, launched.budget)
    return facts | card


def _logged(reserve: RankReserve) -> FirstRank:
    """Return the figures that a rank logs; since 0.27 "peak activation" includes the CUDA graph
    estimate (gpu_worker.py, peak_activation_memory)."""
    sums = reserve.standing.sums
    graphs = sums.charged if reserve.standing.launch.rules.consumed else exactly(0)
    activation = reserve.peak.plus(graphs)
    return {
        "profile_peak_bytes": activation.expected,
        "profile_peak_interval": list(activation),
        "non_torch_bytes": sums.non_torch.expected,
        "non_torch_interval": list(sums.non_torch),
    }


def _marginal(reserve: RankReserve) -> int:
    """Return the KV cache bytes of one more token per request."""
    context = reserve.blocks.context
    span = min(SPAN, context - 1) or 1
    return (reserve.blocks.content(context) - reserve.blocks.content(context - span)) // span


def _of_card(launched: VllmLaunched, budget: Budget) -> DerivedFacts:
    """Return facts that depend on a card; the rank with fewest blocks decides for a replica."""
    kinds, data, least = launched.kinds, launched.launch.data, serving.scarcest(launched)
    shares = [(r, serving.asks(launched, r)) for r in kinds]
    share_bytes = serving.asks(launched, least)
    available = max(0, least.available(share_bytes))
    fullest = max((r.serving(asks, budget) for r, asks in shares), key=lambda b: b.expected)
    facts: DerivedFacts = {
        "available_kv_cache_bytes": available,
        "available_kv_cache_interval": list(least.available_interval(share_bytes)),
        "serving_bytes": fullest.expected,
        "serving_interval": list(fullest),
        "gpu_memory_utilization_needed": serving.utilization(kinds, budget),
    }
    if not least.blocks.pool.groups:
        return facts
    return facts | {
        "num_gpu_blocks": least.blocks.pool.count(available),
        "kv_cache_tokens": data * least.blocks.logged(available),
        "max_concurrency": round(data * serving.concurrency(least, available), 2),
    }


# What vLLM refuses, and what it starts with but does not serve


def check(subject: Subject, w: "Infer", version: Version) -> None:
    """Raise UsageError or UnsupportedError for what vLLM refuses."""
    _registered(subject, version)
    refuse(subject.model.reference, ENGINE.name, subject.layers, caches.LACKED)
    _block_size(subject, w, version)
    if w.max_num_seqs and w.max_num_batched_tokens and w.max_num_batched_tokens < w.max_num_seqs:
        raise TriedError(
            sentence("batched_seqs", tokens=w.max_num_batched_tokens, seqs=w.max_num_seqs),
            seen="vllm 0.33 config/scheduler.py: max_num_batched_tokens must be greater than or "
            "equal to max_num_seqs",
        )


def warnings(launched: VllmLaunched) -> Iterator[str]:
    launch, w = launched.launch, launched.asked
    fullest = max(launched.kinds, key=lambda reserve: reserve.blocks.request)
    asked = w.batch_size or 1
    if asked > launch.sequences * launch.data:
        yield sentence("batch_waits", run=launch.sequences * launch.data, requests=asked)
    if launch.rules.whole_to and not launch.chunked:
        yield sentence("vllm_prefill", tokens=launch.rules.whole_to, profile=launch.tokens)
    if w.swap_space and not launch.swap:
        yield sentence("vllm_swap")
    if fullest.profiled.scores:
        yield sentence("tower_scores", size=human(fullest.profiled.scores))
    if launch.blocks is not None and launch.blocks - 1 < fullest.blocks.request:
        tokens, least = fullest.context, fullest.blocks.request
        yield sentence("blocks_override", count=launch.blocks, tokens=tokens, blocks=least)
    lacking = min(
        launch.offload - reserve.standing.resident.loaded.offloaded.nbytes
        for reserve in launched.kinds
    )
    if lacking > 0:
        yield sentence("offload_more", size=human(lacking))


def _registered(subject: Subject, version: Version) -> None:
    cls = subject.part.blueprint.cls
    decodes = subject.body.encoder is not None or cls in ENCODER_DECODERS
    if not decodes and not facts(subject.model_type).vllm.no_encoder_alone:
        return
    if not registered(cls, version):
        raise NotServedError(
            sentence("no_class_in", version=".".join(map(str, version)), cls=cls),
            sentence("nearest", engine="transformers"),
            where=subject.model.reference,
        )


def _latents_of_amd(subject: Subject, w: "Infer") -> bool:
    """Return whether AITER's kernels compute MLA, which take blocks of any size:
    v1/attention/backends/mla/rocm_aiter_mla.py (get_supported_kernel_block_sizes)."""
    budget = w.budget()
    amd = budget is not None and budget.choice.part.vendor == "AMD"
    return amd and all(isinstance(m, Latent) for layer in subject.layers for m in layer.mixers)


def _block_size(subject: Subject, w: "Infer", version: Version) -> None:
    size = w.block_size
    if size is None:
        return
    named = rules(version).blocks
    if named and size not in named:
        raise TriedError(
            sentence("block_sizes", size=size, known=", ".join(map(str, named))),
            seen="vllm serve --block-size: invalid choice",
        )
    if size % KERNEL and attends(subject) and not _latents_of_amd(subject, w):
        raise TriedError(
            sentence("block_multiple", size=size, multiple=KERNEL),
            seen="vllm attention/backends/flash_attn.py: Block size must be a multiple of 16",
        )


SERVER = PagedServer[VllmLaunched](
    engine=ENGINE,
    needs=device_support.Needs(
        ENGINE.name,
        oldest=(7, 0),
        wheels=(7, 5),
        wheels_since=(0, 21),
        refuses=True,
        unstable=lambda model_type: facts(model_type).vllm.not_float16,
    ),
    changed=(
        Vllm.gpu_memory_utilization,
        Vllm.max_num_seqs,
        Vllm.max_num_batched_tokens,
        Vllm.enforce_eager,
    ),
    check=check,
    asks=asks,
    phases=lambda launched, kind: components.phases(launched.kinds[kind]),
    taken=taken,
    host=host,
    effective=lambda launched: launched.launch.to_dict(launched.w),
    facts=derived,
    command=lambda subject, one: launching.command(subject, one.launch, one.w),
    holds=serving.serves,
    stands=serving.serves,
    hopeless=serving.hopeless,
    others=serving.others,
    conditions=serving.conditions,
    lacks=serving.lacks,
    last=warnings,
)
infer, probe = SERVER.infer, SERVER.probe

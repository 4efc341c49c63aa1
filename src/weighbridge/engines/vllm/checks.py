"""What vLLM refuses before it loads anything, and what it starts with but does not serve.

    encoder-decoders     those in the registry of that version alone
    --block-size         1, 8, 16, 32, 64, 128 (256 since 0.12) up to 0.17; attention's kernels take
                         multiples of 16
    batches              no fewer tokens than sequences
    blocks               --num-gpu-blocks-override less the empty one, no fewer than a request's
    sequences            requests above --max-num-seqs wait
    offloading           layers alone leave the card: embeddings, norms and the head stay

Source: vllm 0.9 to 0.33 model_executor/models/registry.py, config/cache.py (BlockSize),
v1/attention/backends/flash_attn.py (get_supported_kernel_block_sizes), config/scheduler.py
(verify_max_model_len), v1/core/kv_cache_planning.py (get_kv_cache_configs),
model_executor/offloader/uva.py.
"""

from collections.abc import Iterator

from weighbridge.arch.model_types import facts
from weighbridge.engines.interface import Subject
from weighbridge.engines.servers.cache_formats import refuse
from weighbridge.engines.vllm import ENGINE, caches
from weighbridge.engines.vllm.cases import VllmLaunched
from weighbridge.engines.vllm.reserve import RankReserve
from weighbridge.engines.vllm.rules import ENCODER_DECODERS, Version, registered, rules
from weighbridge.engines.vllm.setting import attends
from weighbridge.errors import NotServedError, UsageError
from weighbridge.units import human
from weighbridge.workload import Infer

KERNEL = 16  # tokens: every block of attention is a multiple


def check(subject: Subject, w: Infer, version: Version) -> None:
    """Raises for what the engine refuses."""
    _registered(subject, version)
    refuse(subject.model.reference, ENGINE.name, subject.layers, caches.LACKED)
    _block_size(subject, w, version)
    if w.max_num_seqs and w.max_num_batched_tokens and w.max_num_batched_tokens < w.max_num_seqs:
        raise UsageError(
            f"--max-num-batched-tokens {w.max_num_batched_tokens:,} is less than --max-num-seqs "
            f"{w.max_num_seqs:,}, which vllm refuses; give at least as many tokens as sequences"
        )


def warnings(launched: VllmLaunched, w: Infer) -> Iterator[str]:
    launch, fullest = (
        launched.launch,
        max(launched.kinds, key=lambda fullest: fullest.blocks.request),
    )
    asked = w.batch_size or 1
    if asked > launch.sequences * launch.data:
        yield (
            f"{launch.sequences * launch.data:,} requests run at once by --max-num-seqs or the "
            "tokens of a "
            f"batch, of {asked:,}: the cache is counted for those, the others wait"
        )
    if launch.rules.whole_to and not launch.chunked:
        yield (
            f"vllm before 0.8 reads prompts of up to {launch.rules.whole_to:,} tokens at once: its "
            f"profile is one of {launch.tokens:,} tokens, and leaves less for the cache than "
            "--enable-chunked-prefill, or than a longer --max-model-len, would"
        )
    if launch.blocks is not None and launch.blocks - 1 < fullest.blocks.request:
        yield _too_few_blocks(fullest, launch.blocks)
    lacking = min(
        launch.offload - fullest.standing.resident.loaded.offloaded for fullest in launched.kinds
    )
    if lacking > 0:
        yield (
            f"--cpu-offload-gb asks for {human(lacking)} more than the layers of a device have; "
            "embeddings, norms and the head stay on it"
        )


def _too_few_blocks(reserve: RankReserve, blocks: int) -> str:
    return (
        f"--num-gpu-blocks-override {blocks:,}: one stays empty, and a request of "
        f"{reserve.context:,} tokens takes {reserve.blocks.request:,}: vLLM does not start, or "
        "never "
        "schedules it"
    )


def _registered(subject: Subject, version: Version) -> None:
    cls = subject.part.blueprint.cls
    decodes = subject.body.encoder is not None or cls in ENCODER_DECODERS
    if not decodes and not facts(subject.model_type).vllm.no_encoder_alone:
        return
    if not registered(cls, version):
        raise NotServedError(
            f"{subject.model.reference}: vllm {'.'.join(map(str, version))} does not have {cls}",
            "nearest is --engine transformers",
        )


def _block_size(subject: Subject, w: Infer, version: Version) -> None:
    size = w.block_size
    if size is None:
        return
    named = rules(version).blocks
    if named and size not in named:
        raise UsageError(
            f"--block-size {size:,}: this vllm takes {', '.join(map(str, named))}; give one of them"
        )
    if size % KERNEL and attends(subject):
        raise UsageError(
            f"--block-size {size:,}: vllm has no attention for blocks that are no multiple of "
            f"{KERNEL} tokens; give 16, 32 or 64"
        )

"""The effective settings of a vLLM launch: the user's flags, and vLLM's defaults for the rest.

    card                          max_num_batched_tokens          max_num_seqs
    160 GiB and more (0.28)       16,384                          1,024
    70 GiB and more, no A100      8,192                           1,024
    others, or none named         2,048                           256

A batch is at most sequences x context. It holds at least one whole prompt without chunked prefill
(bidirectional models, and the V0 engine up to 32,768 tokens), and since 0.22 one whole video of
Gemma 4 (gemma4_mm.py: get_mm_max_tokens_per_item), whose tokens attend to each other. More requests
than the default max_num_seqs raise it.

Source: vllm 0.33 engine/arg_utils.py (get_batch_defaults,
_set_default_max_num_seqs_and_batched_tokens_args), config/vllm.py (_set_cudagraph_sizes).
"""

from typing import TYPE_CHECKING, Literal

from weighbridge.base.errors import ContradictionError, TriedError, UnsupportedError, UsageError
from weighbridge.base.parsed import names_beside
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, ceil_div
from weighbridge.engines.interface import Subject
from weighbridge.engines.servers.device_support import unknown_backend
from weighbridge.engines.servers.paged import StepLimits
from weighbridge.engines.vllm import hardware
from weighbridge.engines.vllm.rules import PIECEWISE, VllmRules
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.machines.accelerators.seen import Card, fact
from weighbridge.memory.components.kv_cache import mixers
from weighbridge.memory.report.keys import EffectiveSettings
from weighbridge.models.arch.body import Experts
from weighbridge.models.arch.mixers import Attention, Latent, Recurrent
from weighbridge.models.arch.model_types import facts

if TYPE_CHECKING:
    from weighbridge.workload import Infer

LARGEST, LARGE = 160 * GIB, 70 * GIB
AMPERE = 8  # and Ada: the first number of their compute capability
SMALL = (2048, 256)  # max_num_batched_tokens, max_num_seqs
GRAPHS, WIDE_GRAPHS = 512, 1024
SWAP = 4  # GiB per device, default of --swap-space
PLAIN_AWQ = "awq"  # --quantization awq; awq_marlin or unset select Marlin if the card supports it
WIDE_STEP = 16  # tokens between sizes, in all releases (model_executor/models/config.py)
# One video of Gemma 4: frames, soft tokens per frame, two markers and a timestamp (6)
FRAMES, SOFT = 32, 70
VIDEO = FRAMES * (SOFT + 2 + 6)
Decoding = Literal["whole", "pieces", "either"]  # how decode graphs are captured
FLASH_ATTN, FLASHINFER, V1 = "FLASH_ATTN", "FLASHINFER", "_VLLM_V1"
BACKENDS = names_beside(__file__, "backends.txt")
CHOSEN = ("auto", "none")  # let vLLM choose the attention backend


@frozen_record
class VllmLaunch:
    """Every effective setting of one vLLM engine."""

    rules: VllmRules
    utilization: float
    context: int  # max_model_len
    requests: int  # concurrent, per data-parallel replica
    tokens: int  # max_num_batched_tokens
    sequences: int  # max_num_seqs
    eager: bool
    chunked: bool
    prefix_caching: bool
    asynchronous: bool
    pooling: bool
    second_runner: bool
    captures: tuple[int, ...]  # CUDA graph sizes, in tokens
    decoding: Decoding
    kv_cache_dtype: str
    kv_cache_bytes: int | None  # --kv-cache-memory-bytes
    blocks: int | None  # --num-gpu-blocks-override
    block_size: int | None
    language_only: bool
    items_profiled: bool
    tensor: int
    pipeline: int
    partition: tuple[float, ...]  # layers per pipeline stage; (): vLLM's own split
    data: int
    context_parallel: int
    expert_parallel: bool
    hybrid: bool
    speculative: int  # num_speculative_tokens
    method: str  # of speculative decoding
    offload: int  # --cpu-offload-gb, in bytes
    adapters: bool = False  # LoRA: CUDA graphs have adapter slots
    sleeps: bool = False
    sleep_level: int = 1
    swap: int = 0  # bytes per rank of V0's --swap-space
    kv_offload: int = 0  # --kv-offloading-size in bytes, over all ranks of a replica
    backend: str = ""  # --attention-backend; "" lets vLLM choose
    plain_awq: bool = False  # AWQ's own kernels are asked for and available

    def to_dict(self, w: "Infer") -> EffectiveSettings:
        """Return the settings by vLLM's flag names."""
        return {
            "gpu_memory_utilization": self.utilization,
            "max_model_len": self.context,
            "max_num_batched_tokens": self.tokens,
            "max_num_seqs": self.sequences,
            "kv_cache_dtype": self.kv_cache_dtype,
            "kv_cache_memory_bytes": self.kv_cache_bytes,
            "num_gpu_blocks_override": self.blocks,
            "block_size": self.block_size,
            "language_model_only": self.language_only,
            **({"skip_mm_profiling": True} if w.skip_mm_profiling else {}),
            "enforce_eager": self.eager,
            "enable_chunked_prefill": self.chunked,
            "enable_prefix_caching": self.prefix_caching,
            "async_scheduling": self.asynchronous,
            "max_cudagraph_capture_size": max(self.captures, default=0),
            "tensor_parallel_size": self.tensor,
            "pipeline_parallel_size": self.pipeline,
            "data_parallel_size": self.data,
            "decode_context_parallel_size": self.context_parallel,
            "enable_expert_parallel": self.expert_parallel,
            "disable_hybrid_kv_cache_manager": not self.hybrid,
            "enable_sleep_mode": self.sleeps,
            **({"sleep_level": self.sleep_level} if self.sleeps else {}),
            **({"swap_space": self.swap / GIB} if self.swap else {}),
            "kv_offloading_size": self.kv_offload / GIB or None,
            "num_speculative_tokens": self.speculative,
            "cpu_offload_gb": self.offload / GIB,
            "max_loras": w.max_loras,
            "max_lora_rank": w.max_lora_rank,
        }


def launch(subject: Subject, w: "Infer", card: Card, rules: VllmRules) -> VllmLaunch:
    """Return the effective settings. Raises UsageError for values that vLLM refuses."""
    pooling = pools(subject)
    chunked = in_pieces(subject, w, subject.context, rules)
    data = w.data_parallel_size or 1
    requests = ceil_div(w.batch_size or 1, data)
    usual = by_default(subject, card, rules)
    tokens, sequences = batch(subject.context, requests, said(w), usual, rules, chunked=chunked)
    eager = bool(w.enforce_eager)
    speculative = _speculative(w)
    second = not pooling and second_runner(subject, rules)
    return VllmLaunch(
        rules=rules,
        utilization=_share(w.gpu_memory_utilization, rules),
        context=subject.context,
        requests=min(requests, sequences),
        tokens=tokens,
        sequences=sequences,
        eager=eager,
        chunked=chunked,
        prefix_caching=_caches_prefixes(subject, w, rules, chunked=chunked),
        asynchronous=not pooling if w.async_scheduling is None else w.async_scheduling,
        pooling=pooling,
        second_runner=second,
        captures=captured(subject, (tokens, sequences), w, card, rules, eager=eager),
        decoding="pieces" if pooling else decoding(subject, w, card, rules),
        kv_cache_dtype=w.kv_cache_dtype or "auto",
        kv_cache_bytes=w.kv_cache_memory_bytes,
        blocks=w.num_gpu_blocks_override,
        language_only=w.language_model_only,
        items_profiled=(rules.second_items or not second) and not w.skip_mm_profiling,
        block_size=w.block_size,
        tensor=w.tensor_parallel_size or 1,
        pipeline=w.pipeline_parallel_size or 1,
        partition=w.pp_layer_partition or (),
        data=data,
        context_parallel=_context_parallel(w),
        expert_parallel=_expert_parallel(subject, w),
        hybrid=not w.disable_hybrid_kv_cache_manager,
        speculative=speculative,
        method=w.speculative_method or ("draft" if w.draft_model else ""),
        offload=round((w.cpu_offload_gb or 0) * GIB),
        adapters=bool(w.max_loras),
        sleeps=w.enable_sleep_mode,
        sleep_level=_sleep_level(w),
        swap=_swap(w.swap_space, rules),
        kv_offload=round((w.kv_offloading_size or 0) * GIB),
        backend=_backend(w.attention_backend),
        plain_awq=rules.plain_awq and (w.quantization or "").lower() == PLAIN_AWQ,
    )


def _swap(said: float | None, rules: VllmRules) -> int:
    """Return the bytes of V0's CPU swap space per rank, 4 GiB by default (config.py, swap_space).
    The V1 engine has none, and 0.18 dropped the flag (vllm-project/vllm pull 36216)."""
    return round((SWAP if said is None else said) * GIB) if rules.whole_to else 0


def _sleep_level(w: "Infer") -> int:
    """Return the sleep level. Raises UsageError if one is given without --enable-sleep-mode."""
    if w.sleep_level is not None and not w.enable_sleep_mode:
        raise ContradictionError(sentence("sleep_level", level=w.sleep_level))
    return w.sleep_level or 1


def _backend(said: str | None) -> str:
    """Return the backend's canonical name, "" if unset. May raise UnsupportedError."""
    if said is None or said.lower() in CHOSEN:
        return ""
    name = said.upper().removesuffix(V1)
    if name not in BACKENDS:
        raise UnsupportedError(unknown_backend(said, "vllm", sorted(BACKENDS)))
    return name


def in_pieces(subject: Subject, w: "Infer", context: int, rules: VllmRules) -> bool:
    """Return whether prefill is chunked. Bidirectional models never do; V0 only for long contexts
    of text models without sliding windows, speculative decoding or LoRA."""
    if not subject.body.causal or subject.body.encoder is not None:
        return False
    slides = any(getattr(m, "reach", None) for m in mixers(subject.layers))
    lets = not (subject.body.towers or _speculative(w) or w.max_loras or slides)
    return not rules.whole_to or (context > rules.whole_to and lets)


def pools(subject: Subject) -> bool:
    """Return whether it is a pooling model: it returns embeddings or labels, or is an encoder."""
    b = subject.body
    return b.vocab == 0 or b.embeds or bool(b.labels) or not (b.causal or b.encoder is not None)


def _share(asked: float | None, rules: VllmRules) -> float:
    if asked is None:
        return rules.utilization
    if not 0 < asked <= 1:
        raise UsageError(sentence("utilization", asked=asked))
    return asked


def _caches_prefixes(subject: Subject, w: "Infer", rules: VllmRules, *, chunked: bool) -> bool:
    """Return whether prefix caching is on. Default: with chunked prefill, but not for hybrid models
    before 0.26 nor for models without any attention."""
    if w.enable_prefix_caching is not None:
        return w.enable_prefix_caching
    states = has_states(subject)
    return chunked and (not states or (rules.prefixes_of_states and attends(subject)))


def has_states(subject: Subject) -> bool:
    return any(isinstance(m, Recurrent) for m in mixers(subject.layers))


def _context_parallel(w: "Infer") -> int:
    """Return decode_context_parallel_size. Raises UsageError unless it divides TP."""
    ranks = w.decode_context_parallel_size or 1
    if (w.tensor_parallel_size or 1) % ranks:
        raise UsageError(
            sentence("decode_context", ranks=ranks, tensor=w.tensor_parallel_size or 1)
        )
    return ranks


def _speculative(w: "Infer") -> int:
    if w.speculative_method is None and w.draft_model is None:
        return 0
    return 1 if w.num_speculative_tokens is None else w.num_speculative_tokens


# Batches


def by_default(subject: Subject, card: Card, rules: VllmRules) -> tuple[int, int]:
    """Return default (max_num_batched_tokens, max_num_seqs) for the model on this card. If tokens
    of an image or video attend to each other, a batch holds the largest."""
    tokens, sequences = tier(card, rules)
    whole = (subject.text or {}).get("use_bidirectional_attention") == "vision"
    if rules.whole_items and whole and subject.body.towers:
        tokens = max(tokens, VIDEO)
    return tokens, sequences


def tier(card: Card, rules: VllmRules) -> tuple[int, int]:
    """Return a server's default (max_num_batched_tokens, max_num_seqs) on this card."""
    return _by_memory(card, rules.largest_tier, rules.asks_vram)


@fact
def _by_memory(budget: Budget | None, largest: bool, carved: bool) -> tuple[int, int]:
    if budget is None:
        return SMALL
    total = hardware.total(budget)
    if largest and total >= LARGEST:
        return 16_384, 1024
    small = hardware.small_for_its_memory(budget, carved=carved)
    return (8192, 1024) if total >= LARGE and not small else SMALL


def said(w: "Infer") -> StepLimits:
    return StepLimits(w.max_num_seqs, w.max_num_batched_tokens, w.enforce_eager)


def batch(
    context: int,
    requests: int,
    batch: StepLimits,
    usual: tuple[int, int],
    rules: VllmRules,
    *,
    chunked: bool,
) -> tuple[int, int]:
    """Return (max_num_batched_tokens, max_num_seqs); `usual` are the defaults on this card."""
    sequences = batch.sequences or max(usual[1], requests)
    tokens = batch.tokens
    if tokens is None:
        tokens = rules.pieces if rules.whole_to and chunked else usual[0]
        if not chunked:
            tokens = context if rules.whole_prompts else max(context, tokens)
        if not rules.whole_prompts:
            tokens = min(sequences * context, tokens)
    elif not chunked and tokens < context:
        raise UsageError(sentence("batched_prompt", tokens=tokens, context=context))
    if batch.sequences is None:
        sequences = min(sequences, tokens)
    return tokens, sequences


def captured(
    subject: Subject,
    batch: tuple[int, int],
    w: "Infer",
    card: Card,
    rules: VllmRules,
    *,
    eager: bool,
) -> tuple[int, ...]:
    """Return the CUDA graph sizes in tokens, () if execution is eager."""
    if eager:
        return ()
    wide = facts(subject.model_type).vllm.wide_graphs
    return captures(batch, _speculative(w) + 1, w, card, rules, wide=wide)


def captures(
    batch: tuple[int, int],
    length: int,
    w: "Infer",
    card: Card,
    rules: VllmRules,
    *,
    wide: bool,
) -> tuple[int, ...]:
    """Return the CUDA graph sizes in tokens. `batch`: (max_num_batched_tokens, max_num_seqs);
    `length`: tokens one request decodes per step; `wide`: model classes that raise the limit."""
    tokens, sequences = batch
    limit = WIDE_GRAPHS if rules.wide_graphs and hardware.blackwell(card) else GRAPHS
    if rules.graphs_by_sequences:
        limit = min(2 * length * sequences, limit)
    if wide:
        limit = rules.widest_graphs
    limit = max(limit, rules.least_graphs)
    largest = min(w.max_cudagraph_capture_size or limit, tokens)
    step = WIDE_STEP if wide else rules.graph_step
    sizes = {1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, step)}
    return tuple(sorted(n for n in sizes if n <= largest))


def decoding(subject: Subject, w: "Infer", card: Card, rules: VllmRules) -> Decoding:
    """Return how decode graphs are captured: whole (full graphs), or in pieces between attentions.

    FlashInfer's own kernel decodes one token at a time: with speculative tokens, nothing is
    captured whole (0.27.1 on two RTX 3090: vllm-project/vllm issue 54992). Other kernels that it
    has on Hopper and on sm_120 in some releases may be (issues 49547, 55581).

    Source: vllm config/compilation.py (resolve_cudagraph_mode_and_sizes),
    v1/attention/backends/flashinfer.py (get_cudagraph_support).
    """
    if not rules.full_graphs or PIECEWISE in (w.unmodelled or "").split():
        return "pieces"
    if not _speculative(w) or not _by_flashinfer(subject, w, card) or hardware.blackwell(card):
        return "whole"
    return "pieces" if hardware.major(card) == AMPERE else "either"


def _by_flashinfer(subject: Subject, w: "Infer", card: Card) -> bool:
    """Return whether FlashInfer computes attention: if the user sets it, or for an 8-bit KV cache,
    which FlashAttention reads only on Hopper (platforms/cuda.py, get_valid_backends)."""
    named = _backend(w.attention_backend)
    if named or hardware.rocm(card):
        return named == FLASHINFER
    packed = (w.kv_cache_dtype or "").startswith("fp8") and not hardware.hopper(card)
    return packed and not any(isinstance(m, Latent) for m in mixers(subject.layers))


# Model runner V2


def second_runner(subject: Subject, rules: VllmRules) -> bool:
    """Return whether vLLM uses its model runner V2 for this model class."""
    if rules.second_any or subject.part.blueprint.cls in rules.second_runner - _not_plain(
        subject, rules
    ):
        return True
    return rules.second_dense and not has_experts(subject) and not has_states(subject)


def _not_plain(subject: Subject, rules: VllmRules) -> frozenset[str]:
    """Return the classes runner V2 does not serve for this model: all if the model has experts or
    quantized weights and this release's runner supports neither."""
    plain = subject.choice.scheme is None and not has_experts(subject)
    return frozenset() if plain or rules.second_packed else rules.second_runner


def _expert_parallel(subject: Subject, w: "Infer") -> bool:
    """Return the flag. Raises TriedError without experts (_verify_with_expert_parallelism)."""
    if w.enable_expert_parallel and not has_experts(subject):
        raise TriedError(
            sentence("no_experts_vllm"),
            seen="vllm 0.33 config/model.py: Number of experts in the model must be greater "
            "than 0 when expert parallelism is enabled",
        )
    return w.enable_expert_parallel


def has_experts(subject: Subject) -> bool:
    return any(isinstance(f, Experts) for b in subject.body.blocks for f in b.feeds)


def attends(subject: Subject) -> bool:
    return any(isinstance(m, Attention | Latent) for m in mixers(subject.layers))

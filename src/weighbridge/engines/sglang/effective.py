"""Every setting as SGLang uses it: the user's, else the engine's default for the card and model.

Speculation names one algorithm and a number of draft tokens; without a number the engine takes
four, and limits requests to 48. Sources: sglang 0.5.23 srt/server_args.py,
srt/arg_groups/cuda_graph_hook.py, srt/arg_groups/speculative_hook.py
(_auto_choose_speculative_params), srt/mem_cache/kv_cache_dtype.py, srt/arg_groups/overrides.py
(_dsa_kv_cache_dtype_default); 0.5.10 srt/server_args.py (_handle_piecewise_cuda_graph).
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from weighbridge.base.dtypes import FLOAT32, TORCH, DType
from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB, ceil_div
from weighbridge.engines.engine import Version
from weighbridge.engines.interface import Subject
from weighbridge.engines.sglang import card_defaults
from weighbridge.engines.sglang.caches import COMPRESSED_RUNNING, SglangCacheSetting
from weighbridge.engines.sglang.rules import rules
from weighbridge.models.arch.mixers import Layer, Shared
from weighbridge.models.arch.model_types import facts

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer

ALGORITHMS: Mapping[str, str] = {
    "draft": "STANDALONE",
    "eagle": "EAGLE",
    "eagle3": "EAGLE3",
    "mtp": "NEXTN",
    "ngram": "NGRAM",
}
DRAFTED = {"NGRAM": 12}  # default draft tokens; 4 for others
SPECULATING = 48  # max concurrent requests with speculation
LORAS = 8  # --max-loras-per-batch
WHOLE = -1  # chunked_prefill_size: prompts are not chunked
# Sliding pool / full pool; DeepSeek-V4's: srt/arg_groups/model_overrides/deepseek_v4.py
NEAR, NEAR_OF_COMPRESSED = 0.8, 0.1


@frozen_record
class Effective:
    """Every effective setting; cards are in MiB. `running` is None if it follows from the pool."""

    version: Version
    card: float | None
    share: float | None
    chunk: int
    captured: tuple[int, ...]
    prefills: tuple[int, ...]
    backend: str
    page: int
    kv: str
    ssm: DType
    swa_ratio: Fraction
    mamba_ratio: Fraction
    states: int | None  # state slots
    radix: bool
    tensor: int
    pipeline: int
    data: int  # replicas
    groups: int  # data-parallel attention groups among the tensor ranks
    experts: bool
    running: int | None
    tokens: int | None
    algorithm: str | None
    drafted: int
    loras: int
    lora_rank: int
    context: int
    towers: bool
    model_type: str

    @property
    def share_used(self) -> float:
        """Return the part of the memory fraction that pools get."""
        return card_defaults.share_used(self.version, self.backend, self.context)

    @property
    def largest(self) -> int:
        return max(self.captured, default=0)

    @property
    def pools_of(self) -> int:
        """Return the number of token pools, each with its own requests."""
        return self.data * self.groups

    def pools(self, sequences: int, *, beside: int = 0, shared: int = 0) -> SglangCacheSetting:
        """Return the settings that size the pools of one rank."""
        return SglangCacheSetting(
            context=self.context,
            model_type=self.model_type,
            sequences=sequences,
            kv_cache_dtype=self.kv,
            page_size=self.page,
            tensor_parallel=self.tensor // self.groups,
            swa_full_tokens_ratio=self.swa_ratio,
            mamba_full_memory_ratio=self.mamba_ratio,
            states=self.states and self.states // self.groups,
            radix_cache=self.radix,
            ssm_dtype=self.ssm,
            max_running_requests=self.running and ceil_div(self.running, self.groups),
            version=self.version,
            chunked_prefill_size=self.chunk if self.chunk > 0 else None,
            shared=shared,
            beside=beside,
            beyond=4 + self.drafted,
        )


def effective(subject: Subject, w: "Infer", budget: "Budget | None", version: Version) -> Effective:
    memory = budget.choice.part.total.bytes.expected / MIB if budget else None
    k = _kind(subject, w, budget, version)
    backend = card_defaults.backend(w.attention_backend, k)
    algorithm = _algorithm(w)
    data, groups = _copies(w)
    _second_cache(w)
    sized = _sized(subject, w, k, memory, groups)
    near = NEAR_OF_COMPRESSED if k.compressed else NEAR
    return Effective(
        version=version,
        card=memory,
        share=_usable(sized.share),
        chunk=sized.chunk,
        captured=sized.captured,
        prefills=sized.prefills,
        backend=backend,
        page=card_defaults.page(backend, w.page_size),
        kv=_kv(subject, w, k),
        ssm=_ssm(subject, w),
        swa_ratio=Fraction(str(_ratio(w.swa_full_tokens_ratio, near, "swa-full-tokens-ratio"))),
        mamba_ratio=Fraction(str(w.mamba_full_memory_ratio or 0.9)),
        states=w.max_mamba_cache_size,
        radix=not w.disable_radix_cache,
        tensor=w.tensor_parallel_size or 1,
        pipeline=w.pipeline_parallel_size or 1,
        data=data,
        groups=groups,
        experts=w.enable_expert_parallel,
        running=_running(w) or (COMPRESSED_RUNNING * (data * groups) if k.compressed else None),
        tokens=w.max_total_tokens,
        algorithm=algorithm,
        drafted=_drafted(w, algorithm),
        loras=_loras(w),
        lora_rank=w.max_lora_rank or 0,
        context=subject.context,
        towers=has_towers(subject, w),
        model_type=subject.model_type,
    )


def _kind(
    subject: Subject, w: "Infer", budget: "Budget | None", version: Version
) -> card_defaults.BackendCriteria:
    part = budget.choice.part if budget else None
    return card_defaults.kind(
        version,
        part.capability if part else None,
        part.vendor if part else "",
        subject.model_type,
        remembered(subject),
        tensor=w.tensor_parallel_size or 1,
    )


def _copies(w: "Infer") -> tuple[int, int]:
    """Return (replicas, groups of attention): --dp-size counts one or the other."""
    number = w.data_parallel_size or 1
    if not w.enable_dp_attention:
        return number, 1
    ranks = w.tensor_parallel_size or 1
    if ranks % number:
        raise UsageError(sentence("dp_attention", number=number, ranks=ranks))
    return 1, number


def _second_cache(w: "Infer") -> None:
    """Raise ContradictionError for the size of a second cache level that is not enabled."""
    if w.enable_hierarchical_cache:
        return
    for name in ("hicache_size", "hicache_ratio"):
        value = getattr(w, name)
        if value is not None:
            raise ContradictionError(
                sentence("hierarchical", flag=name.replace("_", "-"), value=value)
            )


class _Sized(NamedTuple):
    """Settings that depend on the card."""

    chunk: int
    captured: tuple[int, ...]
    prefills: tuple[int, ...]
    share: float | None


def _sized(
    subject: Subject,
    w: "Infer",
    criteria: card_defaults.BackendCriteria,
    memory: float | None,
    groups: int,
) -> _Sized:
    """Return the card's settings. Groups share a chunk; the fraction is computed before that."""
    tensor, algorithm = w.tensor_parallel_size or 1, _algorithm(w)
    preset = card_defaults.size(criteria.version, memory)
    chunk = preset.chunk if w.chunked_prefill_size is None else w.chunked_prefill_size or WHOLE
    largest = _largest(w, preset.many if tensor >= 4 else preset.few, _running(w), subject)
    captures = _captures(subject, w, criteria, criteria.version, algorithm)
    share = w.mem_fraction_static
    if share is None and memory is not None:
        share = _share(
            subject,
            w,
            card_defaults.ShareCriteria(
                version=criteria.version,
                card=memory,
                chunk=chunk if chunk > 0 else 16_384,
                largest=largest,
                prefills=len(card_defaults.prefills(chunk)) if captures else 0,
                tensor=tensor,
                pipeline=w.pipeline_parallel_size or 1,
                latent=criteria.latent,
                algorithm=algorithm,
                groups=groups,
            ),
        )
    share_of_group = chunk // groups if chunk > 0 else chunk
    return _Sized(
        chunk=share_of_group,
        captured=card_defaults.decodes(largest, speculative=algorithm is not None),
        prefills=card_defaults.prefills(share_of_group) if captures else (),
        share=share,
    )


def _running(w: "Infer") -> int | None:
    return w.max_running_requests or (SPECULATING if _algorithm(w) else None)


def remembered(subject: Subject, of: Sequence[Layer] | None = None) -> tuple[Layer, ...]:
    """Return the layers with a place in the pools, of all or of `of`. Encoders need no cache, but
    SGLang runs them through the same pools; a layer that reads another's cache has its own place
    (srt/model_executor/pool_configurator.py counts `num_hidden_layers` or `layer_types`)."""
    every = subject.layers or tuple(Layer(mixers=b.mixers) for b in subject.body.blocks)
    return tuple(_stored(every, layer) for layer in (every if of is None else of))


def _stored(every: Sequence[Layer], layer: Layer) -> Layer:
    owner = next((m.owner for m in layer.mixers if isinstance(m, Shared)), None)
    return layer if owner is None else every[owner]


def generates(subject: Subject) -> bool:
    return bool(subject.body.causal and not subject.body.embeds and not subject.body.labels)


def has_towers(subject: Subject, w: "Infer") -> bool:
    if w.language_model_only:
        return False
    raw = subject.config.raw if subject.config is not None else {}
    return bool(subject.body.towers) or "vision_config" in raw or "audio_config" in raw


def classes(subject: Subject) -> tuple[str, ...]:
    named = subject.part.config.get("architectures")
    return tuple(map(str, named)) if isinstance(named, list) else ()


def _usable(share: float | None) -> float | None:
    if share is not None and not 0 < share < 1:
        raise UsageError(sentence("fraction_between", share=share))
    return share


def _ratio(asked: float | None, otherwise: float, flag: str) -> float:
    ratio = otherwise if asked is None else asked
    if not 0 < ratio <= 1:
        raise ContradictionError(sentence("sglang_ratio", flag=flag, ratio=ratio))
    return ratio


def _algorithm(w: "Infer") -> str | None:
    if w.speculative_method is not None:
        return ALGORITHMS[w.speculative_method]
    return "STANDALONE" if w.draft_model else None


def _drafted(w: "Infer", algorithm: str | None) -> int:
    if algorithm is None:
        return 0
    return w.num_speculative_tokens or DRAFTED.get(algorithm, 4)


def _loras(w: "Infer") -> int:
    if w.max_loras is None and w.max_lora_rank is None:
        return 0
    if w.max_lora_rank is None:
        raise ContradictionError(sentence("sglang_rank"))
    return w.max_loras or LORAS


def _largest(w: "Infer", preset: int, running: int | None, subject: Subject) -> int:
    """Return the requests of the largest captured batch, 0 without graphs."""
    if w.disable_cuda_graph or not generates(subject):
        return 0
    largest = w.cuda_graph_max_bs or preset
    return min(largest, running) if running else largest


def _captures(
    subject: Subject,
    w: "Infer",
    criteria: card_defaults.BackendCriteria,
    version: Version,
    algorithm: str | None,
) -> bool:
    """Return whether prefill runs from CUDA graphs. None of the reasons against is a setting."""
    r = rules(version)
    first = facts(criteria.model_type).sglang.prefill_graphs
    towers = has_towers(subject, w) and (not r.graphs_with_towers or first != "towers")
    against = (
        not r.prefill_graphs,
        w.disable_cuda_graph,
        (w.pipeline_parallel_size or 1) > 1,
        towers,
        criteria.compressed or first == "never",
        r.piecewise and (criteria.sparse or first == "0.5.15"),
        algorithm is not None and not r.graphs_with_drafts,
        criteria.latent and not r.piecewise and r.limited,
        bool(_loras(w)) and r.limited,
        criteria.vendor not in ("NVIDIA", ""),
    )
    return not any(against)


def _share(subject: Subject, w: "Infer", asked: card_defaults.ShareCriteria) -> float:
    share = card_defaults.fraction(asked)
    raw = subject.config.raw.get("vision_config") if subject.config is not None else None
    if not has_towers(subject, w) or (
        rules(asked.version).towers_by_size and not isinstance(raw, Mapping)
    ):
        return share
    vision: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    layers, hidden = vision.get("num_hidden_layers"), vision.get("hidden_size")
    return card_defaults.with_towers(asked.version, share, layers or 24, hidden or 1024)


def _kv(subject: Subject, w: "Infer", criteria: card_defaults.BackendCriteria) -> str:
    if w.kv_cache_dtype not in (None, "auto"):
        return str(w.kv_cache_dtype)
    if criteria.sparse and criteria.latent:
        return "fp8_e4m3" if card_defaults.major(criteria.compute) >= 10 else "bfloat16"
    return "fp8_e4m3" if _declares_fp8(subject.part.quantization or {}) else "auto"


def _declares_fp8(raw: Mapping[str, Any]) -> bool:
    """Return whether the checkpoint sets an FP8 KV cache. SGLang reads that only from modelopt's
    checkpoints."""
    if not str(raw.get("quant_method", "")).startswith("modelopt"):
        return False
    scheme = raw.get("kv_cache_scheme")
    floats = (
        isinstance(scheme, Mapping)
        and scheme.get("type") == "float"
        and scheme.get("num_bits") == 8
    )
    return floats or str(raw.get("kv_cache_quant_algo", "")).upper() == "FP8"


def _ssm(subject: Subject, w: "Infer") -> DType:
    dtype = (subject.text or {}).get("mamba_ssm_dtype")
    named = w.mamba_ssm_cache_dtype or dtype or subject.raw.get("mamba_ssm_dtype")
    return TORCH.get(str(named), FLOAT32)


def requests(settings: Effective, tokens: int, slots: int | None, each: int) -> int:
    """Return the concurrent requests in a pool of `tokens`: --max-running-requests, else by the
    context. `each`: state slots per request."""
    usual = min(4096, max(2048, int(tokens / settings.context * 512)))
    count = ceil_div(settings.running, settings.pools_of) if settings.running else usual
    if rules(settings.version).by_tokens:
        count = min(count, max(1, tokens // 2))
    if slots is not None:
        count = min(count, slots // each)
    return max(1, count)

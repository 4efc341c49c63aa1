"""Effective settings of a launch: what the user set, and the defaults of the build.

    -c   tokens of all slots together, rounded up to a multiple of 256: context x concurrent
         requests; context x slots if the user sets -np, since each slot then has its own part
    -b, -ub   2,048 and 512 tokens, no more than the context
    -ngl      every layer and the output (older builds: none), if there is a GPU

Source: llama.cpp 0c1e57098 common/common.h, common/arg.cpp, tools/server/server.cpp,
src/llama-context.cpp (llama_context).
"""

from typing import TYPE_CHECKING, TypedDict

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import TriedError, UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import align_up
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.caches import CELLS, OF_CACHES, OF_IK, ggml
from weighbridge.engines.llama_cpp.overrides import Override, overrides
from weighbridge.engines.llama_cpp.rules import LlamaCppRules
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.memory.report.keys import EffectiveSettings

if TYPE_CHECKING:
    from weighbridge.workload import Infer

PROGRAMS = ("server", "cli")
MODES = ("none", "layer", "row")
SWITCH = ("on", "off", "auto")
BATCH, UBATCH = 2048, 512  # tokens


@frozen_record
class LlamaCppLaunch:
    """Effective settings of one launch. `layers` and `gpu_layers` count the output as one layer."""

    program: str
    n_ctx: int
    context: int
    requests: int
    slots: int
    unified: bool
    batch: int
    ubatch: int
    flash: bool
    asked_flash: str
    type_k: DType
    type_v: DType
    swa_full: bool
    layers: int
    gpu_layers: int
    cpu_moe: int
    split_mode: str
    tensor_split: tuple[float, ...]
    main_gpu: int
    cache_offload: bool
    mmap: bool
    cache_ram: int  # MiB
    gpus: int
    rules: LlamaCppRules
    overrides: tuple[Override, ...] = ()  # the first pattern found in a tensor's name places it
    embeds: bool = False
    pooled: bool = False
    forked: bool = False  # ik_llama.cpp, which has the four settings that follow
    latent_mode: int | None = None  # -mla, then -amb and -fmoe
    largest_batch: int = 0
    fused_experts: bool = False
    repacks: bool = False  # -rtr
    copies: int = 4  # of inputs, if the GPUs are a pipeline
    proposed: int = 0  # draft tokens at once, per slot
    rollback: int = 0  # recurrent states kept to roll back to, if tokens are drafted

    @property
    def streams(self) -> int:
        return 1 if self.unified else self.slots

    @property
    def step_tokens(self) -> int:
        return min(self.n_ctx, self.ubatch)

    @property
    def moves(self) -> bool:
        """Return whether -ot or -ncmoe moves tensors off their layer's device; no pipeline then."""
        return bool(self.cpu_moe or self.overrides)

    @property
    def outputs(self) -> int:
        """Return the rows of logits in the reserved step."""
        if self.program == "server" and self.rules.few_outputs and not self.embeds:
            return min(self.step_tokens, self.slots * (1 + self.proposed))
        return self.step_tokens

    def to_dict(self) -> EffectiveSettings:
        of_fork: EffectiveSettings = {
            "mla_attn": self.latent_mode or 0,
            "attn_max_b": self.largest_batch,
            "fused_moe": self.fused_experts,
            "run_time_repack": self.repacks,
        }
        return self._common() | of_fork if self.forked else self._common()

    def _common(self) -> EffectiveSettings:
        return {
            "program": self.program,
            "context": self.context,
            "batch_size": self.requests,
            "n_ctx": self.n_ctx,
            "parallel": self.slots,
            "kv_unified": self.unified,
            "n_batch": self.batch,
            "ubatch_size": self.ubatch,
            "flash_attn": self.asked_flash,
            "cache_type_k": self.type_k.name.lower(),
            "cache_type_v": self.type_v.name.lower(),
            "swa_full": self.swa_full,
            "n_gpu_layers": self.gpu_layers,
            "n_cpu_moe": self.cpu_moe,
            "override_tensor": [each.written for each in self.overrides] or None,
            "split_mode": self.split_mode,
            "tensor_split": list(self.tensor_split) or None,
            "main_gpu": self.main_gpu,
            "no_kv_offload": not self.cache_offload,
            "no_mmap": not self.mmap,
            "cache_ram": self.cache_ram,
            "sched_max_copies": self.copies,
        }


class BatchSettings(TypedDict):
    """Settings of requests and of their steps."""

    requests: int
    slots: int
    unified: bool
    n_ctx: int
    batch: int
    ubatch: int


class AttentionSettings(TypedDict):
    """Settings of attention and of its cache."""

    flash: bool
    asked_flash: str
    type_k: DType
    type_v: DType
    swa_full: bool


class PlaceSettings(TypedDict):
    """Settings of the placement on devices."""

    layers: int
    gpu_layers: int
    cpu_moe: int
    split_mode: str
    tensor_split: tuple[float, ...]
    main_gpu: int
    gpus: int
    overrides: tuple[Override, ...]


class HostSettings(TypedDict):
    """Settings of host memory."""

    cache_offload: bool
    mmap: bool
    cache_ram: int
    copies: int


@frozen_record
class ModelTraits:
    """Traits of a model that settings depend on."""

    layers: int
    causal: bool
    embeds: bool
    flash: bool  # whether GPUs have a kernel for its heads


def launch(
    subject: Subject, w: "Infer", budget: Budget | None, rules: LlamaCppRules, traits: ModelTraits
) -> LlamaCppLaunch:
    return LlamaCppLaunch(
        program=one_of(w.program, PROGRAMS, "--program") or "server",
        context=subject.context,
        rules=rules,
        embeds=traits.embeds,
        pooled=traits.embeds,
        **_batches(subject, w, rules, traits),
        **_attention(w, rules, traits),
        **_places(w, _gpus(w, budget), rules, traits),
        **_host(w, rules),
    )


def _batches(
    subject: Subject, w: "Infer", rules: LlamaCppRules, traits: ModelTraits
) -> BatchSettings:
    """Return the settings of requests and steps. Embedding models without causal attention process
    a batch in one step."""
    slots, unified = _slots(w, rules)
    requests = w.batch_size or 1
    at_once = min(requests, slots) if shares(w, unified=unified) else slots
    n_ctx = _cells(subject.context * at_once, slots, unified=unified)
    asked = w.n_batch or BATCH
    batch = min(asked, n_ctx) if traits.causal else asked
    whole = traits.embeds and not traits.causal and w.ubatch_size is None
    ubatch = batch if whole else min(batch, w.ubatch_size or UBATCH)
    return BatchSettings(
        requests=requests, slots=slots, unified=unified, n_ctx=n_ctx, batch=batch, ubatch=ubatch
    )


def _attention(w: "Infer", rules: LlamaCppRules, traits: ModelTraits) -> AttentionSettings:
    asked = one_of(w.flash_attn, SWITCH, "--flash-attn") or rules.flash
    return AttentionSettings(
        flash=asked == "on" or (asked == "auto" and traits.flash),
        asked_flash=asked,
        type_k=cache_type(w, "k", rules),
        type_v=_values(w, asked, rules),
        swa_full=w.swa_full or not rules.windows,
    )


def _places(w: "Infer", gpus: int, rules: LlamaCppRules, traits: ModelTraits) -> PlaceSettings:
    """Return the settings of placement: all layers and the output on GPUs by default."""
    layers, asked = traits.layers + 1, _gpu_layers(w, rules)
    on_gpus = layers if asked is None else min(asked, layers)
    return PlaceSettings(
        layers=layers,
        gpu_layers=on_gpus if gpus else 0,
        cpu_moe=min(w.n_cpu_moe or 0, traits.layers),
        split_mode=_mode(w, rules),
        tensor_split=_split(w, gpus),
        main_gpu=_main(w, gpus),
        gpus=gpus,
        overrides=_overrides(w, gpus, rules),
    )


def _overrides(w: "Infer", gpus: int, rules: LlamaCppRules) -> tuple[Override, ...]:
    alone = _main(w, gpus) if gpus > 1 and _mode(w, rules) == "none" else None
    return overrides(w.override_tensor or (), gpus, alone)


def _mode(w: "Infer", rules: LlamaCppRules) -> str:
    mode = one_of(w.split_mode, MODES, "--split-mode") or "layer"
    if mode == "row" and not rules.splits_rows:
        raise UsageError(sentence("no_split_row"))
    return mode


def _host(w: "Infer", rules: LlamaCppRules) -> HostSettings:
    return HostSettings(
        cache_offload=not w.no_kv_offload,
        mmap=not w.no_mmap,
        cache_ram=rules.cache_ram if w.cache_ram is None else w.cache_ram,
        copies=rules.copies if w.sched_max_copies is None else w.sched_max_copies,
    )


def one_of(value: str | None, known: tuple[str, ...], flag: str) -> str | None:
    if value is None or value in known:
        return value
    raise TriedError(
        sentence("value_known", flag=flag, value=value, known=", ".join(known)),
        seen="llama.cpp common/arg.cpp: error while handling argument: invalid value",
    )


def _gpus(w: "Infer", budget: Budget | None) -> int:
    """Return the number of GPUs: the budget's. Without a budget, one that has room for everything,
    or none if the user sets no layer on a GPU."""
    if w.n_gpu_layers == 0:
        return 0 if budget is None else budget.choice.count
    return budget.choice.count if budget is not None else 1


def _gpu_layers(w: "Infer", rules: LlamaCppRules) -> int | None:
    """Return -ngl, None for all layers. The older default, no layer, holds only with
    `engine_defaults`; else a question without the setting is about a model on its GPU."""
    if w.n_gpu_layers is None:
        return rules.gpu_layers if w.engine_defaults else None
    return None if w.n_gpu_layers < 0 else w.n_gpu_layers


def _slots(w: "Infer", rules: LlamaCppRules) -> tuple[int, bool]:
    server = one_of(w.program, PROGRAMS, "--program") != "cli"
    usual = rules.server_slots if server else 1
    slots = w.parallel if w.parallel and w.parallel > 0 else max(usual, w.batch_size or 1)
    automatic = server and not w.parallel
    unified = rules.server_unified if automatic else rules.unified
    return slots, unified if w.kv_unified is None else w.kv_unified


def shares(w: "Infer", *, unified: bool) -> bool:
    """Return whether a request may use all cells. A server with -np gives each slot its part of the
    context, in builds with one cache as well."""
    several = bool(w.parallel and w.parallel > 0) and w.program != "cli" and not w.kv_unified
    return unified and not several


def _cells(tokens: int, slots: int, *, unified: bool) -> int:
    padded = align_up(tokens, CELLS)
    return padded if unified else align_up(padded // slots, CELLS) * slots


def cache_type(w: "Infer", which: str, rules: LlamaCppRules) -> DType:
    asked = w.cache_type_k if which == "k" else w.cache_type_v
    flag = "--kv-cache-dtype" if asked is None and w.kv_cache_dtype else f"--cache-type-{which}"
    known = OF_IK if rules.fused else OF_CACHES
    return ggml(asked or w.kv_cache_dtype or "f16", flag, known)


def _values(w: "Infer", flash: str, rules: LlamaCppRules) -> DType:
    asked = cache_type(w, "v", rules)
    if asked.block > 1 and flash == "off":
        raise TriedError(
            sentence("values_flash", name=asked.name.lower()),
            seen="llama.cpp llama-context.cpp: V cache quantization requires flash_attn",
        )
    return asked


def _split(w: "Infer", gpus: int) -> tuple[float, ...]:
    split = tuple(w.tensor_split or ())
    if split and gpus and len(split) > gpus:
        raise UsageError(sentence("split_gpus", count=len(split), gpus=gpus))
    return split


def _main(w: "Infer", gpus: int) -> int:
    chosen = w.main_gpu or 0
    if chosen >= max(1, gpus):
        raise UsageError(sentence("main_gpu", chosen=chosen, gpus=gpus))
    return chosen

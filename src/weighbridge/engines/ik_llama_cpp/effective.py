"""The effective settings of a launch of ik_llama.cpp: llama.cpp's, and its own."""

from dataclasses import replace
from typing import TYPE_CHECKING

from weighbridge.accelerators.budget import Budget
from weighbridge.engines.ik_llama_cpp.rules import Defaults
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.effective import LlamaCppLaunch, ModelTraits, launch
from weighbridge.engines.llama_cpp.rules import LlamaCppRules
from weighbridge.errors import UsageError

if TYPE_CHECKING:
    from weighbridge.workload import Infer

MODES = (0, 1, 2, 3)


def ik_launch(
    subject: Subject,
    w: "Infer",
    budget: Budget | None,
    rules: tuple[LlamaCppRules, Defaults],
    traits: ModelTraits,
    *,
    latent: bool,
) -> LlamaCppLaunch:
    common, own = rules
    mode = own.latent_mode if w.mla_attn is None else w.mla_attn
    if mode not in MODES:
        raise UsageError(f"-mla {mode}: ik_llama.cpp has {', '.join(map(str, MODES))}")
    return replace(
        launch(subject, w, budget, common, traits),
        forked=True,
        latent_mode=mode if latent and mode else None,
        largest_batch=own.largest_batch if w.attn_max_b is None else w.attn_max_b,
        repacks=w.run_time_repack,
        mmap=not (w.no_mmap or w.run_time_repack),
        fused_experts=own.fused_experts if w.fused_moe is None else w.fused_moe,
    )

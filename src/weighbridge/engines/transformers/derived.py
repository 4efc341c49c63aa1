"""Facts that follow from an answer: settings as used, tokens that fit, a line that launches it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from weighbridge.arch.mixers import GatedDelta, KimiDelta, Mamba1, Mamba2
from weighbridge.checkpoint.model import ModelPart
from weighbridge.components import host
from weighbridge.components.weights import weight_bytes
from weighbridge.engines.format_choice import native_dtype
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers import launching
from weighbridge.engines.transformers.caches import of_mixer
from weighbridge.engines.transformers.plan import GenerationPlan
from weighbridge.engines.transformers.stage import KV, setting
from weighbridge.memo import memo
from weighbridge.memory import Bytes, Component, Device, Phase
from weighbridge.report.keys import DerivedFacts, EffectiveSettings

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget
    from weighbridge.workload import Infer

FROM_DRAFT = ("weights", "buffers", "kv_cache", "recurrent_state", "rounding")
SCANS = (GatedDelta, KimiDelta, Mamba1, Mamba2)


def settings(subject: Subject, w: "Infer", plan: GenerationPlan) -> EffectiveSettings:
    return {
        "attention": plan.prompt.kernel,
        "cache_implementation": None if plan.prompt.cache == "none" else plan.prompt.cache,
        "device_map": plan.device_map,
        "num_beams": plan.beams,
        "logits_to_keep": plan.logits_kept,
        "torch_version": w.torch_version,
        "images": plan.items["image"],
        "audio_seconds": w.audio_seconds,
        "draft_model": w.draft_model,
        "exact": w.exact,
    }


def facts(
    subject: Subject,
    w: "Infer",
    plan: GenerationPlan,
    devices: tuple[Device, ...],
    budget: "Budget | None",
) -> DerivedFacts:
    token = _per_token(subject, plan)
    found: DerivedFacts = {"kv_cache_bytes_per_token": token}
    found |= launching.line(subject, w, plan).facts()
    if budget is not None and plan.new and token:
        tokens = min(_tokens(d, plan, budget.of(i)) for i, d in enumerate(devices))
        found |= {"kv_cache_tokens": tokens, "max_concurrency": tokens // plan.context}
    return found


def _per_token(subject: Subject, plan: GenerationPlan) -> int:
    """Return the cache bytes that one more token of one sequence takes, over all devices."""
    if plan.prompt.cache == "none":
        return 0
    one = replace(plan.prompt, batch=1, tokens=1, past=plan.context - 1, cache="dynamic", longest=0)
    before = replace(one, past=max(1, plan.context - 2))
    counts = Counter(m for la in subject.layers for m in la.mixers)
    now, then = setting(one), setting(before)
    return sum(n * (of_mixer(m, now).kv - of_mixer(m, then).kv) for m, n in counts.items())


def _tokens(device: Device, plan: GenerationPlan, usable: Bytes) -> int:
    """Tokens whose cache fits beside all else, as it is in the decode phase."""
    decode = next(phase for phase in device.phases if phase.name == "decode")
    cache = sum(c.bytes.expected for c in decode.components if c.name == KV)
    free = usable.expected - decode.at("driver").expected + cache
    return max(0, free) * plan.context * plan.prompt.batch // max(1, cache)


def on_host(subject: Subject, plan: GenerationPlan) -> Device:
    """One process: while it loads, and when the weights are on the device."""
    mapped = plan.device_map is not None
    version = plan.rules.version

    def compute() -> Device:
        process = host.processes(1)
        loading = [
            c
            for part in subject.model.parts
            for c in _part(subject, part, version, device_map=mapped)
        ]
        running = tuple(Phase(name, (process,)) for name in ("prefill", "decode"))
        phases = (Phase("load", (process, *loading)), *running)
        return Device(index=0, kind="host", phases=phases)

    return memo(subject.model, ("host", subject.formats, subject.major, mapped, version), compute)


def _part(
    subject: Subject, part: ModelPart, version: tuple[int, ...], *, device_map: bool
) -> tuple[Component, ...]:
    choice = subject.choices.get(part.name, subject.choice)
    weights = weight_bytes(part, choice, major=subject.major)
    return host.while_loading(
        part,
        host.loaded(part, choice, weights, native_dtype(part)),
        version=version,
        straight_to_device=host.straight(choice.scheme, device_map=device_map),
    )


def beside(device: Device, draft: Device) -> Device:
    """A draft model on the same device: its weights, and its cache while it is in use."""
    phases = tuple(
        Phase(phase.name, (*phase.components, *_of_draft(draft, phase.name)))
        for phase in device.phases
    )
    return replace(device, phases=phases)


def _of_draft(draft: Device, name: str) -> Iterator[Component]:
    phase = next((phase for phase in draft.phases if phase.name == name), draft.phases[-1])
    for c in phase.components:
        if c.name in FROM_DRAFT:
            yield replace(c, detail=f"draft model {c.detail}".strip())


def warnings(subject: Subject, plan: GenerationPlan) -> tuple[str, ...]:
    return tuple(_warnings(subject, plan))


def _warnings(subject: Subject, plan: GenerationPlan) -> Iterator[str]:
    if any(isinstance(m, SCANS) for b in subject.body.blocks for m in b.mixers):
        yield (
            "recurrent layers are counted as transformers' own Python code runs them; with "
            "flash-linear-attention or mamba-ssm installed the prompt takes less"
        )
    if plan.prompt.cache == "none" and plan.new:
        yield (
            "the class keeps no cache by itself: generate reads all tokens again for each new one; "
            "--cache-implementation dynamic asks about use_cache=True, which is faster"
        )
    if plan.rules.whole_logits and plan.new and plan.prompt.tokens > 1:
        yield (f"transformers {plan.rules.written} makes logits of the whole prompt for this class")

"""The answer: devices and their components, settings, what follows from them, warnings."""

from collections.abc import Iterator

from weighbridge.accelerators.budget import Budget
from weighbridge.arch.mixers import Attention, Latent
from weighbridge.engines.interface import EngineAnswer, Subject
from weighbridge.engines.llama_cpp import fitting, launching, parts
from weighbridge.engines.llama_cpp.compute import PAIRS
from weighbridge.engines.llama_cpp.graphs import architectures
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.llama_cpp.held import DeviceHoldings
from weighbridge.engines.llama_cpp.networks import network
from weighbridge.engines.llama_cpp.projector import projector
from weighbridge.engines.llama_cpp.rules import (
    LlamaCppRules,
    aborts_on_metal,
    rules,
    rules_on_metal,
)
from weighbridge.engines.llama_cpp.setting import LlamaCppLaunch, ModelTraits
from weighbridge.errors import UnsupportedError
from weighbridge.memo import memo
from weighbridge.report.keys import DerivedFacts
from weighbridge.settings import Infer
from weighbridge.units import human


def answer(h: DeviceHoldings, subject: Subject, w: Infer, budget: Budget | None) -> EngineAnswer:
    part = budget.choice.part if budget is not None else None
    gpus = parts.gpus(h, subject, projector(subject, w), part)
    return EngineAnswer(
        devices=(*gpus, parts.host(h, subject)),
        settings=h.launch.to_dict(),
        derived=derived(h, subject, w, budget),
        warnings=tuple(warnings(h, budget)),
    )


def known_network(s: Subject) -> Network:
    """The model's, whatever the context."""
    facts = ("llama.cpp", *s.choice.facts)
    return memo(s.part, facts, lambda: network(s))


def model(net: Network, s: Subject) -> ModelTraits:
    pairs = [
        (m.rank + m.rotary, m.rank) if isinstance(m, Latent) else (m.key_dim, m.value_dim)
        for m in net.mixers
        if isinstance(m, Attention | Latent)
    ]
    return ModelTraits(
        layers=len(net.layers),
        causal=s.body.causal,
        embeds=s.body.embeds or net.encodes,
        flash=all(pair in PAIRS for pair in pairs),
    )


def on_device(net: Network, build: int, budget: Budget | None) -> LlamaCppRules:
    """A build's rules on such a card. Raises UnsupportedError for types that it aborts on."""
    part = budget.choice.part if budget is not None else None
    if part is None or part.vendor != "Apple":
        return rules(build)
    bad = aborts_on_metal((t.dtype.name for t in net.weights.values()), build)
    if bad:
        raise UnsupportedError(
            f"{', '.join(bad)}: llama.cpp {build} has no Metal kernel for it, and aborts at the "
            f"first token on {part.name}; take a type such as Q2_K or IQ2_M"
        )
    return rules_on_metal(build)


def _left_to_the_host(h: DeviceHoldings) -> Iterator[str]:
    for name, nbytes in h.placed.unmultiplied.items():
        yield (
            f"llama.cpp has no GPU kernel for {name}: {human(nbytes)} of weights stay in host "
            "memory, and the processor multiplies them, which is slow"
        )


def free(budget: Budget | None, settings: LlamaCppLaunch) -> tuple[int, ...]:
    return tuple(budget.of(d).expected if budget is not None else 1 for d in range(settings.gpus))


def derived(h: DeviceHoldings, s: Subject, w: Infer, budget: Budget | None) -> DerivedFacts:
    facts: DerivedFacts = {
        "kv_cache_bytes_per_token": fitting.marginal(h, s.context),
        "compute_buffer_bytes": list(h.compute),
        **launching.facts(s, h.launch, w),
    }
    return facts | (fitting.fitting(h, budget) if budget is not None and h.launch.gpus else {})


def warnings(h: DeviceHoldings, budget: Budget | None) -> Iterator[str]:
    if budget is None and h.launch.gpus:
        yield "without --gpu one GPU is assumed that takes all layers; name one to see what fits"
    if h.launch.requests > h.launch.slots:
        yield (
            f"--parallel {h.launch.slots}: of {h.launch.requests:,} requests {h.launch.slots} run "
            "at once, the others wait"
        )
    yield from _left_to_the_host(h)
    if h.foreign:
        yield f"{h.foreign}, whose graph is not in our rules: its buffer is an interval"
    if h.guessed:
        yield (
            f"llama.cpp's graph of {h.net.arch!r} is not in our tables; its compute buffer is "
            "assumed from the widest layer, from half to three times as much"
        )
    elif not architectures.known(h.net.arch):
        yield (
            f"llama.cpp's graph of {h.net.arch!r} is not in our tables; its compute buffer is "
            "that of a Llama with the same tensors"
        )
    if h.placed.many_copies:
        yield (
            f"this build keeps {h.launch.copies} copies of every weight that the host lends a GPU, "
            "which such runs fail with: build with -DGGML_SCHED_MAX_COPIES=1 and ask again with "
            "--sched-max-copies 1, or take build 3873 or newer"
        )
    if h.launch.asked_flash == "on" and not h.launch.flash:
        yield "flash attention has no CUDA kernel for these heads; it runs on the host"
